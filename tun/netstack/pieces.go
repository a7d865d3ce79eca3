package netstack

import "gvisor.dev/gvisor/pkg/buffer"

// pieces is what is left of a payload that lies in several places.
type pieces struct {
	rest []byte       // of the current one
	next *buffer.View // behind it
}

func piecesOf(first *buffer.View) pieces { return pieces{next: first} }

// take returns the next n bytes: a view of them where they lie in one piece, and a
// copy in room otherwise. There are as many.
func (p *pieces) take(n int, room *slot) []byte {
	if len(p.rest) == 0 {
		p.step()
	}
	if len(p.rest) >= n {
		b := p.rest[:n:n]
		p.rest = p.rest[n:]
		return b
	}
	room.flat = room.flat[:0]
	for n > 0 {
		m := min(n, len(p.rest))
		room.flat = append(room.flat, p.rest[:m]...)
		p.rest = p.rest[m:]
		n -= m
		if n > 0 {
			p.step()
		}
	}
	return room.flat
}

func (p *pieces) step() {
	p.rest = p.next.AsSlice()
	p.next = p.next.Next()
}
