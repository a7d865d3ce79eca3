package packettest

import (
	"encoding/binary"
	"net/netip"
)

// The builders compute checksums on their own, so that a test does not prove the
// project's code by itself.

const (
	protoTCP    = 6
	protoUDP    = 17
	protoIPv6   = 41
	protoICMPv6 = 58
)

// Pattern returns n bytes that differ from their neighbours and from those of
// another start.
func Pattern(start, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(start + i*7 + i>>8)
	}
	return b
}

// Sum returns the ones' complement sum of b, not complemented (RFC 1071).
func Sum(b []byte) uint16 {
	var sum uint64
	for i, x := range b {
		sum += uint64(x) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// IPv6 returns an IPv6 packet with hop limit 64.
func IPv6(src, dst netip.Addr, next byte, payload []byte) []byte {
	b := make([]byte, 40, 40+len(payload))
	b[0], b[6], b[7] = 0x60, next, 64
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	s, d := src.As16(), dst.As16()
	copy(b[8:], s[:])
	copy(b[24:], d[:])
	return append(b, payload...)
}

// PseudoHeader returns the bytes that a transport checksum of the IPv6 packet b
// starts with (RFC 8200, Section 8.1), when its transport header has number proto
// and follows the fixed header.
func PseudoHeader(b []byte, proto byte) []byte {
	pseudo := append([]byte(nil), b[8:40]...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(b)-40))
	return append(pseudo, 0, 0, 0, proto)
}

// transport returns an IPv6 packet around the segment, whose checksum is at field.
func transport(src, dst netip.Addr, proto byte, segment []byte, field int) []byte {
	b := IPv6(src, dst, proto, segment)
	sum := ^Sum(append(PseudoHeader(b, proto), segment...))
	if sum == 0 && proto == protoUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[40+field:], sum)
	return b
}

// TCP returns a TCP segment with ACK and PSH set.
func TCP(src, dst netip.AddrPort, seq uint32, data []byte) []byte {
	h := make([]byte, 20, 20+len(data))
	binary.BigEndian.PutUint16(h, src.Port())
	binary.BigEndian.PutUint16(h[2:], dst.Port())
	binary.BigEndian.PutUint32(h[4:], seq)
	h[12], h[13], h[14] = 0x50, 0x18, 0xff
	return transport(src.Addr(), dst.Addr(), protoTCP, append(h, data...), 16)
}

// UDP returns a UDP datagram.
func UDP(src, dst netip.AddrPort, data []byte) []byte {
	h := make([]byte, 8, 8+len(data))
	binary.BigEndian.PutUint16(h, src.Port())
	binary.BigEndian.PutUint16(h[2:], dst.Port())
	binary.BigEndian.PutUint16(h[4:], uint16(8+len(data)))
	return transport(src.Addr(), dst.Addr(), protoUDP, append(h, data...), 6)
}

// ICMPv6 returns an ICMPv6 message (RFC 4443, Section 2.1); body is what follows
// the checksum. Neighbour discovery gets the hop limit 255 that it needs
// (RFC 4861, Section 7.1.1).
func ICMPv6(src, dst netip.Addr, kind, code byte, body []byte) []byte {
	b := transport(src, dst, protoICMPv6, append([]byte{kind, code, 0, 0}, body...), 2)
	if kind >= 133 && kind <= 137 {
		b[7] = 255
	}
	return b
}

// Outer returns the IPv4 packet of protocol 41 that carries inner (RFC 4213,
// Section 3.5), with TTL 64 and DF set. Each edit changes its header before the
// checksum is made.
func Outer(src, dst netip.Addr, id uint16, inner []byte, edits ...func(b []byte)) []byte {
	b := make([]byte, 20, 20+len(inner))
	b[0], b[6], b[8], b[9] = 0x45, 0x40, 64, protoIPv6
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(inner)))
	binary.BigEndian.PutUint16(b[4:], id)
	s, d := src.As4(), dst.As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	b = append(b, inner...)
	for _, edit := range edits {
		edit(b)
	}
	binary.BigEndian.PutUint16(b[10:], ^Sum(b[:20]))
	return b
}
