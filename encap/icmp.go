package encap

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"sixin4/encap/packet"
)

// Codes of an ICMPv6 destination unreachable (RFC 4443, Section 3.1).
const (
	UnreachableNoRoute    uint8 = 0 // no route to destination
	UnreachableProhibited uint8 = 1 // administratively prohibited
	UnreachableAddress    uint8 = 3 // address unreachable
)

const (
	icmpUnreachable  = 1
	icmpPacketTooBig = 2
	icmpRouterAdvert = 134
	icmpEchoRequest  = 128
	icmpEchoReply    = 129
	icmpRedirect     = 137
	icmpErrorLen     = 8  // type, code, checksum and four bytes of their own
	icmpHopLimit     = 64 // far enough for a sender beyond this host
)

// AppendUnreachable appends to dst the IPv6 packet that tells the sender of p
// why p, an inner packet, was not delivered: an ICMPv6 destination unreachable
// with code (RFC 4443, Section 3.1) from the address from, quoting as much of p
// as fits in 1280 bytes. It does not allocate when dst has room for those.
//
// dst comes back unchanged when p must not be answered: p is no IPv6 packet, an
// ICMPv6 error or redirect or perhaps one, sent to a multicast address, or from
// one that is not a single node's (RFC 4443, Section 2.4(e)); or when from is
// not an IPv6 address. The caller limits the rate (Section 2.4(f), see
// [TokenBucket]).
func AppendUnreachable(dst []byte, code uint8, from netip.Addr, p *packet.Packet) []byte {
	if !answerable(p) || IPv6(p.Head())[dstOffset] == 0xff {
		return dst
	}
	return appendError(dst, icmpUnreachable, code, 0, from, p)
}

// AppendPacketTooBig is like [AppendUnreachable] for a packet longer than the
// tunnel's MTU, which the answer tells (RFC 4443, Section 3.2). It answers
// packets to multicast addresses too, so that path MTU discovery works for them
// (Section 2.4(e.3)).
func AppendPacketTooBig(dst []byte, mtu TunMTU, from netip.Addr, p *packet.Packet) []byte {
	if !answerable(p) {
		return dst
	}
	return appendError(dst, icmpPacketTooBig, 0, uint32(mtu), from, p)
}

// answerable obeys RFC 4443, Section 2.4(e): "An ICMPv6 error message MUST NOT
// be originated as a result of receiving" what is listed there, its multicast
// destinations aside. Whoever hides what it is behind a chain of headers that we
// do not follow, or in a later fragment, might be an error.
func answerable(p *packet.Packet) bool {
	b := IPv6(p.Head())
	return b.CheckIn(p.Len()) == Forward && b.answerable()
}

// answerable is for a packet of which at least the fixed header is there.
func (b IPv6) answerable() bool {
	if b[0]>>4 != 6 || !singleNode(b.Src16()) {
		return false
	}
	c, ok := b.walk()
	if !ok {
		return false
	}
	if c.proto != protoICMPv6 {
		return true
	}
	return !c.later && c.off < len(b) && b[c.off] >= 128 && b[c.off] != icmpRedirect
}

// singleNode reports whether a can be an answer's destination. That it is an
// anycast address cannot be seen.
func singleNode(a [16]byte) bool {
	return a != [16]byte{} && a[0] != 0xff
}

// appendError appends an ICMPv6 error about p to dst: IPv6 header, ICMPv6 header
// with arg as its last four bytes, and the quote.
func appendError(dst []byte, kind, code uint8, arg uint32, from netip.Addr, p *packet.Packet) []byte {
	if !from.Is6() || from.Is4In6() {
		return dst
	}
	quote := min(p.Len(), int(MinTunMTU)-IPv6HeaderLen-icmpErrorLen)
	start, length := len(dst), icmpErrorLen+quote
	dst = slices.Grow(dst, IPv6HeaderLen+length)[:start+IPv6HeaderLen+length]
	b := dst[start:]

	to, src := IPv6(p.Head()).Src16(), from.As16()
	binary.BigEndian.PutUint32(b[0:], 6<<28)
	binary.BigEndian.PutUint16(b[4:], uint16(length))
	b[6], b[7] = protoICMPv6, icmpHopLimit
	copy(b[srcOffset:], src[:])
	copy(b[dstOffset:], to[:])

	icmp := b[IPv6HeaderLen:]
	icmp[0], icmp[1], icmp[2], icmp[3] = kind, code, 0, 0
	binary.BigEndian.PutUint32(icmp[4:], arg)
	n := copy(icmp[icmpErrorLen:], p.Head())
	copy(icmp[icmpErrorLen+n:], p.Payload)

	sum := packet.AddBytes(packet.PseudoHeader(b[srcOffset:], protoICMPv6, length), icmp)
	binary.BigEndian.PutUint16(icmp[2:], ^packet.Fold(sum))
	return dst
}
