package encap

import (
	"encoding/binary"
	"net/netip"

	"sixin4/encap/packet"
)

// IPv6 is a view of an IPv6 packet, or of its head with all headers (RFC 8200,
// Section 3). Its accessors may be called after Check or [CheckInner] has
// answered [Forward], and panic on a shorter packet.
type IPv6 []byte

// Where the addresses stand in the header.
const (
	srcOffset = 8
	dstOffset = 24
)

// Check is the view's only gate: length, version and payload length. It answers
// one of [DropInnerShort], [DropInnerVersion], [DropInnerLength] or [Forward].
// Bytes behind the payload length are no fault.
func (b IPv6) Check() Drop { return b.CheckIn(len(b)) }

// CheckIn is Check for a packet of n bytes, of which b is the head.
func (b IPv6) CheckIn(n int) Drop {
	if len(b) < IPv6HeaderLen {
		return DropInnerShort
	}
	if b[0]>>4 != 6 {
		return DropInnerVersion
	}
	if IPv6HeaderLen+b.PayloadLen() > n {
		return DropInnerLength
	}
	return Forward
}

// CheckInner is the gate for an inner packet in either direction: Check over
// head and payload, and then whatever follows the payload length is cut off
// (RFC 4213, Section 3.6, on padding).
func CheckInner(p *packet.Packet) Drop {
	b, n := IPv6(p.Head()), p.Len()
	if d := b.CheckIn(n); d != Forward {
		return d
	}
	if end := IPv6HeaderLen + b.PayloadLen(); end < n {
		p.Trim(end)
	}
	return Forward
}

// TrafficClass returns DSCP and ECN.
func (b IPv6) TrafficClass() uint8 { return b[0]<<4 | b[1]>>4 }

// ECN returns the two bits of congestion notification (RFC 3168, Section 5).
func (b IPv6) ECN() uint8 { return b[1] >> 4 & ecnMask }

// setECN leaves DSCP and flow label as they are.
func (b IPv6) setECN(ecn uint8) { b[1] = b[1]&^(ecnMask<<4) | ecn<<4 }

// PayloadLen returns the length of all that follows the fixed header, in bytes.
func (b IPv6) PayloadLen() int { return int(binary.BigEndian.Uint16(b[4:])) }

// NextHeader returns the number of the first header behind the fixed one.
func (b IPv6) NextHeader() uint8 { return b[6] }

// HopLimit returns the hop limit.
func (b IPv6) HopLimit() uint8 { return b[7] }

// Src16 returns the source address as bytes.
func (b IPv6) Src16() [16]byte { return [16]byte(b[srcOffset:dstOffset]) }

// Dst16 returns the destination address as bytes.
func (b IPv6) Dst16() [16]byte { return [16]byte(b[dstOffset:IPv6HeaderLen]) }

// Src returns the source address, without a zone.
func (b IPv6) Src() netip.Addr { return netip.AddrFrom16(b.Src16()) }

// Dst returns the destination address, without a zone.
func (b IPv6) Dst() netip.Addr { return netip.AddrFrom16(b.Dst16()) }

// RouterMessage reports whether a packet that has passed [CheckInner] is a router
// advertisement or a redirect (RFC 4861, Sections 4.2 and 4.5), behind whatever
// extension headers.
func RouterMessage(inner IPv6) bool {
	const kinds = extensions | 1<<protoICMPv6 // nearly all packets are none of these
	return kinds>>inner.NextHeader()&1 != 0 && inner.routerMessage()
}

func (inner IPv6) routerMessage() bool {
	c, ok := inner.walk()
	return ok && c.proto == protoICMPv6 && c.off < len(inner) && !c.later &&
		(inner[c.off] == icmpRouterAdvert || inner[c.off] == icmpRedirect)
}

// EchoRequest reports whether inner is an ICMPv6 echo request without extension
// headers (RFC 4443, Section 4.1).
func EchoRequest(inner IPv6) bool { return isICMPv6(inner, icmpEchoRequest) }

// EchoReply reports whether inner is an ICMPv6 echo reply without extension headers
// (RFC 4443, Section 4.2).
func EchoReply(inner IPv6) bool { return isICMPv6(inner, icmpEchoReply) }

func isICMPv6(inner IPv6, kind byte) bool {
	return inner.NextHeader() == protoICMPv6 && len(inner) > IPv6HeaderLen && inner[IPv6HeaderLen] == kind
}

// LinkScope reports whether inner goes no further than the link, which is the
// tunnel: its destination is link-local unicast (fe80::/10) or multicast of
// link-local scope (RFC 4291, Sections 2.5.6 and 2.7). A hub takes a link-local
// source only then.
func LinkScope(inner IPv6) bool {
	if inner[dstOffset] == 0xff {
		return inner[dstOffset+1]&0x0f == 2
	}
	return inner[dstOffset] == 0xfe && inner[dstOffset+1]&0xc0 == 0x80
}

// maxExtensionHeaders bounds the walk below. More than one of each kind is not
// sensible (RFC 8200, Section 4.1); a sender that chains hundreds gets no more
// of our time than this.
const maxExtensionHeaders = 8

// chain is where a walk along the extension headers ended.
type chain struct {
	proto    uint8 // of the first header that is no extension header
	off      int   // where that starts
	dst      int   // where the final destination address starts
	fragment bool  // a fragment header stands before it
	later    bool  // and off is in the middle of it: not the first fragment
}

// walk follows hop-by-hop, routing, destination options and fragment headers
// (RFC 8200, Section 4). It fails on a header that does not end in b, on one too
// many, and on a routing header whose final destination it cannot tell. Behind
// the header of a later fragment there is nothing to follow.
func (b IPv6) walk() (c chain, ok bool) {
	c = chain{proto: b.NextHeader(), off: IPv6HeaderLen, dst: dstOffset}
	for range maxExtensionHeaders + 1 {
		if !extension(c.proto) || c.later {
			return c, c.off <= len(b)
		}
		if len(b) < c.off+8 || c.proto == protoRouting && !c.route(b) {
			return c, false
		}
		c.step(b)
	}
	return c, false
}

func extension(proto uint8) bool { return extensions>>proto&1 != 0 }

// extensions has a bit for each kind of extension header, so that every packet can be
// asked for all of them at once. A shift by 64 or more leaves none.
const extensions = uint64(1<<protoHopByHop | 1<<protoRouting | 1<<protoFragment | 1<<protoDestOptions)

// step passes the extension header at c.off, of which b has 8 bytes. A fragment
// header (RFC 8200, Section 4.5) has no length field; it is always 8 bytes.
func (c *chain) step(b IPv6) {
	size := 8
	if c.proto == protoFragment {
		c.fragment = true
		c.later = binary.BigEndian.Uint16(b[c.off+2:])&^7 != 0
	} else {
		size += int(b[c.off+1]) * 8
	}
	c.proto, c.off = b[c.off], c.off+size
}

// route notes the final destination: upper layer checksums count that one and
// not the next stop (RFC 8200, Section 8.1). A header that has been used up
// changes nothing; of the others, type 2 (RFC 6275, Section 6.4) and type 4
// (RFC 8754, Section 2) hold it as their first address.
func (c *chain) route(b IPv6) bool {
	kind, left := b[c.off+2], b[c.off+3]
	if left == 0 {
		return true
	}
	c.dst = c.off + 8
	return (kind == 2 || kind == 4) && len(b) >= c.dst+16 && b[c.off+1] >= 2
}
