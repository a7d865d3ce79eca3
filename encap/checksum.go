package encap

import (
	"encoding/binary"
	"math/bits"

	"sixin4/encap/packet"
)

// upper returns the protocol behind any extension headers, where its header
// starts, and where the final destination address starts. The protocol is
// protoNone in a fragment, whose checksum covers what is not here.
//
// The home address option (RFC 6275, Section 6.3) would change the pseudo-header
// and is not looked for: such a packet is handed on as it came.
func (b IPv6) upper() (proto uint8, off, dst int) {
	if proto = b.NextHeader(); !extension(proto) {
		return proto, IPv6HeaderLen, dstOffset
	}
	c, ok := b.walk()
	if !ok || c.fragment {
		return protoNone, 0, 0
	}
	return c.proto, c.off, c.dst
}

// sumField returns where the checksum of the protocol whose header is at off
// stands, or 0 when it is neither TCP nor UDP or not all there, or TCP whose data
// offset contradicts it: that is for the receiver to refuse.
func (b IPv6) sumField(proto uint8, off int) int {
	switch {
	case proto == protoTCP && len(b) >= off+20:
		if n := int(b[off+12]>>4) * 4; n < 20 || off+n > len(b) {
			return 0
		}
		return off + 16
	case proto == protoUDP && len(b) >= off+8:
		return off + 6
	}
	return 0
}

// udpLength returns the length that the UDP header at off says, in bytes.
func (b IPv6) udpLength(off int) int { return int(binary.BigEndian.Uint16(b[off+4:])) }

// pseudoHeader is packet.PseudoHeader unless a routing header keeps the final
// destination somewhere else, at dst.
func (b IPv6) pseudoHeader(dst int, proto uint8, length int) uint64 {
	if dst == dstOffset {
		return packet.PseudoHeader(b[srcOffset:], proto, length)
	}
	sum := packet.AddBytes(packet.AddBytes(0, b[srcOffset:dstOffset]), b[dst:dst+16])
	return packet.AddWord(packet.AddWord(sum, uint32(length)), uint32(proto))
}

// MarkSum sets p.Sum to [packet.SumPartial] when the checksum of the inner TCP or
// UDP packet p is still to be done: its field holds the sum of the pseudo-header.
// So arrive packets that the kernel merged in front of a raw socket, and packets
// of a peer on the same machine, that never saw a wire. p has passed
// [CheckInner].
//
// One packet in 65536 carries that value as its full checksum. To complete it
// once more gives the same value again, so the mark is harmless. A UDP checksum
// of 0 is never taken for partial: the sum of a pseudo-header is never 0. Nor is
// a UDP packet shorter than the space it is in, since who completes a partial
// checksum does so to the end of the packet.
func MarkSum(p *packet.Packet) {
	b := IPv6(p.Head())
	proto, off, dst := b.upper()
	field, length := b.sumField(proto, off), p.Len()-off
	if field == 0 || proto == protoUDP && b.udpLength(off) != length {
		return
	}
	if binary.BigEndian.Uint16(b[field:]) == packet.Fold(b.pseudoHeader(dst, proto, length)) {
		p.Sum = packet.SumPartial
	}
}

// transport is the TCP or UDP part of a whole, unfragmented IPv6 packet.
type transport struct {
	proto  uint8
	off    int    // where its header starts in the head
	field  int    // where its checksum starts in the head
	length int    // what the checksum covers, in bytes; UDP says it itself
	pseudo uint64 // sum of the pseudo-header (RFC 8200, Section 8.1), unfolded
}

// findTransport fails when there is none with a checksum that can be computed.
func findTransport(p *packet.Packet) (t transport, ok bool) {
	b := IPv6(p.Head())
	proto, off, dst := b.upper()
	t = transport{proto: proto, off: off, field: b.sumField(proto, off), length: p.Len() - off}
	if t.field == 0 {
		return t, false
	}
	if proto == protoUDP {
		n := b.udpLength(off)
		if n < 8 || n > t.length {
			return t, false
		}
		t.length = n
	}
	t.pseudo = b.pseudoHeader(dst, proto, t.length)
	return t, true
}

// CompleteSum computes the full transport checksum of a packet with a partial
// one in place, for a writer that has nobody to leave it to. Other packets are
// left alone. A packet that is still merged has to be split first: each of its
// parts has its own checksum.
func CompleteSum(p *packet.Packet) {
	if p.Sum != packet.SumPartial {
		return
	}
	p.Sum = packet.SumFull
	t, ok := findTransport(p)
	if !ok {
		return
	}
	field := p.Head()[t.field : t.field+2]
	binary.BigEndian.PutUint16(field, 0)
	sum := ^packet.Fold(t.sum(p))
	if sum == 0 && t.proto == protoUDP {
		sum = 0xffff // 0 would mean that there is none (RFC 768)
	}
	binary.BigEndian.PutUint16(field, sum)
}

// VerifySum reports whether p is a TCP or UDP packet whose checksum is right
// over header and data. It is false for all other packets, for fragments, for a
// partial checksum, and for UDP without one, which IPv6 does not allow here
// (RFC 8200, Section 8.1). p has passed [CheckInner].
func VerifySum(p *packet.Packet) bool {
	t, ok := findTransport(p)
	if !ok || t.proto == protoUDP && binary.BigEndian.Uint16(p.Head()[t.field:]) == 0 {
		return false
	}
	return packet.Fold(t.sum(p)) == 0xffff
}

// sum adds what the checksum covers, its field included, to the pseudo-header.
func (t transport) sum(p *packet.Packet) uint64 {
	head := p.Head()[t.off:]
	head = head[:min(len(head), t.length)]
	data := p.Payload[:t.length-len(head)]
	sum := packet.AddBytes(t.pseudo, head)
	if len(head)%2 == 0 {
		return packet.AddBytes(sum, data)
	}
	// The data starts in the middle of a word, so its own sum has its bytes
	// the other way round (RFC 1071, Section 2(B)).
	odd := bits.ReverseBytes16(packet.Fold(packet.AddBytes(0, data)))
	return packet.AddWord(sum, uint32(odd))
}
