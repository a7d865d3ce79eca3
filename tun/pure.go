package tun

import "sixin4/encap/packet"

// Splitter is what Read does to a super-packet, and Joiner what Write does to a
// batch, without the system calls around them: for measuring.

// Splitter cuts super-packets. The zero value is ready.
type Splitter struct {
	s     splitter
	heads []byte
}

// Split replaces the contents of b by the packets that pkt was joined from, seg
// bytes of payload each, as many as b holds, with views of pkt. It reports whether
// pkt is TCP or UDP that can be cut.
func (s *Splitter) Split(b *packet.Batch, pkt []byte, seg int) bool {
	b.Reset()
	if need := cap(b.Packets) * headRoom; len(s.heads) < need {
		s.heads = make([]byte, need)
	}
	if !s.s.begin(pkt, seg, false) {
		return false
	}
	s.s.emit(b, s.heads)
	return true
}

// Joiner sorts batches. The zero value is ready.
type Joiner struct{ j joiner }

// Join finds out which packets of b would be written together, checksums and all,
// and returns how many writes that makes. It changes nothing in b.
func (j *Joiner) Join(b *packet.Batch) (writes int) {
	j.j.tcp, j.j.udp = true, true
	j.j.sort(b)
	return len(j.j.groups)
}
