package encap

import (
	"encoding/binary"

	"sixin4/encap/packet"
)

// Transport tells whether p is a whole TCP or UDP packet, possibly merged from
// several, and how many bytes all its headers have together: at most those of
// its head. p has passed [CheckInner].
func Transport(p *packet.Packet) (proto uint8, headers int, ok bool) {
	t, ok := findTransport(p)
	if !ok {
		return 0, 0, false
	}
	if t.proto == protoUDP {
		return t.proto, t.off + 8, true
	}
	return t.proto, t.off + int(p.Head()[t.off+12]>>4)*4, true
}

// MakePartial replaces the checksum of the TCP or UDP packet p by the sum of its
// pseudo-header and marks it so: for a packet whose checksum was checked before
// several were merged into it, and is that of the first one still.
func MakePartial(p *packet.Packet) {
	t, ok := findTransport(p)
	if !ok {
		return
	}
	binary.BigEndian.PutUint16(p.Head()[t.field:], packet.Fold(t.pseudo))
	p.Sum = packet.SumPartial
}
