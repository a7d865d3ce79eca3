package wire

import (
	"sixin4/encap/packet"
)

// Both returns a writer of packets that go two ways: those whose outer header says UDP
// to udp, all others to raw, each way in their order. Runs of packets that go one way
// are written as one batch.
func Both(raw, udp Writer) Writer { return &bothWriter{raw: raw, udp: udp} }

type bothWriter struct{ raw, udp Writer }

// Write writes the packets of b.
func (w *bothWriter) Write(b *packet.Batch) (n int, err error) {
	for rest := b.Packets; len(rest) > 0; {
		over := overUDP(&rest[0])
		size := 1
		for size < len(rest) && overUDP(&rest[size]) == over {
			size++
		}
		to := w.raw
		if over {
			to = w.udp
		}
		part := packet.Batch{Packets: rest[:size]}
		sent, e := to.Write(&part)
		if sent == 0 && e != nil { // a closed one may have marked nothing
			part.Fail(e)
		}
		if n += sent; err == nil {
			err = e
		}
		rest = rest[size:]
	}
	return n, err
}

func overUDP(p *packet.Packet) bool {
	_, ok := flowOf(p)
	return ok
}
