package encap

import (
	"encoding/binary"
	"net/netip"

	"sixin4/encap/packet"
)

const (
	protoIPv4 = 4
	protoGRE  = 47

	icmpParameterProblem = 4
	nextHeaderOffset     = 6

	greHeader    = 4
	greIPv4      = 0x0800 // EtherTypes (RFC 2784, Section 2.4)
	greIPv6      = 0x86dd
	greChecksum  = 0x80 // RFC 2784, Section 2.1
	greKey       = 0x20 // RFC 2890, Section 2
	greSequence  = 0x10
	greUnhandled = 0x4f // routing and the like of RFC 1701
)

// DefaultNesting is how many tunnels a packet may already be in, unless the caller
// says otherwise: the tunnel encapsulation limit of RFC 2473, Section 6.6.
const DefaultNesting = 4

// NestedTunnels counts the tunnels that the inner packet p is in already, up to limit:
// the IP headers that IP headers carry, in protocol 4, 41 and GRE, of either version
// (RFC 2473, Section 4.1; RFC 4213; RFC 2003; RFC 2784). p has passed [CheckInner].
// Headers in p's payload, where a TUN puts none, are not seen, nor are those behind a
// later fragment or a header that is not there.
func NestedTunnels(p *packet.Packet, limit int) (n int) {
	for h := (ipHeader{b: p.Head()}); n < limit && h.next(); {
		n++
	}
	return n
}

// CheckNesting refuses what would go round: an inner packet p that carries an outer
// packet which this host has sent through one of its tunnels, [DropLoop], or that is in
// limit tunnels already, or whose sender wants it in none any more, [DropNested]
// (RFC 2473, Sections 4.1 and 4.1.1). All others it answers with [Forward], and so all
// that [MayNest] says no to. p has passed [CheckInner].
func CheckNesting(p *packet.Packet, limit int, s Sent) Drop {
	if b := IPv6(p.Head()); MayNest(b) {
		return b.checkNesting(limit, s)
	}
	return Forward
}

// MayNest tells by one byte of a packet that has passed [CheckInner] whether
// [CheckNesting] has anything to look at: a tunnel, or an extension header. Nearly all
// packets have neither.
func MayNest(b IPv6) bool {
	const kinds = extensions | 1<<protoIPv4 | 1<<ProtoIPv6 | 1<<protoGRE
	return kinds>>b.NextHeader()&1 != 0
}

// IsOuter reports whether p, which the TUN brought, is an outer packet that this host
// sends through one of its tunnels: routes lead it back into the TUN.
func IsOuter(p *packet.Packet, s Sent) bool {
	h := ipHeader{b: p.Head()}
	return IPv4(h.b).CheckIn(p.Len()) == Forward && h.ourOwn(s)
}

// AppendNested is like [AppendUnreachable] for a packet that is in too many tunnels
// already, by the message that RFC 2473, Section 4.1.1 has for it: an ICMPv6 parameter
// problem (RFC 4443, Section 3.4). Its pointer is at the limit of 0 that p has itself, or
// else at the field that says what is in p.
func AppendNested(dst []byte, from netip.Addr, p *packet.Packet) []byte {
	if !answerable(p) || IPv6(p.Head())[dstOffset] == 0xff {
		return dst
	}
	pointer := nextHeaderOffset
	if limit, at, ok := IPv6(p.Head()).encapsulationLimit(); ok && limit == 0 {
		pointer = at
	}
	return appendError(dst, icmpParameterProblem, 0, uint32(pointer), from, p)
}

func (b IPv6) checkNesting(limit int, s Sent) Drop {
	h := ipHeader{b: b}
	for n := 0; h.next(); {
		if h.ourOwn(s) {
			return DropLoop
		}
		if n++; n >= limit {
			return DropNested
		}
	}
	// A limit of 0 refuses this tunnel too, a greater one admits it (RFC 2473, Section
	// 4.1.1). One less would go into the outer header, but IPv4 has no place for it.
	if own, _, ok := b.encapsulationLimit(); ok && own == 0 {
		return DropNested
	}
	return Forward
}

// ipHeader goes from an IP header to the one in it.
type ipHeader struct {
	b []byte // the header and what is known to follow it
}

// next goes one tunnel further in. It reports false at the last one.
func (h *ipHeader) next() bool {
	proto, off, ok := h.payload()
	if !ok {
		return false
	}
	if proto == protoGRE {
		if proto, off, ok = h.gre(off); !ok {
			return false
		}
	}
	inner := h.b[off:]
	switch {
	case proto == ProtoIPv6 && len(inner) >= IPv6HeaderLen && inner[0]>>4 == 6,
		proto == protoIPv4 && len(inner) >= HeaderLen && inner[0]>>4 == 4:
		h.b = inner
		return true
	}
	return false
}

// payload returns the protocol behind the header with its options or extension
// headers, and where that starts.
func (h *ipHeader) payload() (proto uint8, off int, ok bool) {
	if h.b[0]>>4 == 6 {
		c, ok := IPv6(h.b).walk()
		return c.proto, c.off, ok && !c.later
	}
	b := IPv4(h.b)
	off = b.HeaderLen()
	return b.Protocol(), off, off >= HeaderLen && off <= len(b) && b.flags()&maskOffset == 0
}

// gre passes a GRE header of version 0 at off and returns what is in it as a number of
// the IP protocol registry.
func (h *ipHeader) gre(off int) (proto uint8, to int, ok bool) {
	b := h.b[off:]
	if len(b) < greHeader || b[0]&greUnhandled != 0 || b[1]&0x07 != 0 {
		return 0, 0, false
	}
	to = off + greHeader
	for _, flag := range [...]byte{greChecksum, greKey, greSequence} {
		if b[0]&flag != 0 {
			to += 4
		}
	}
	switch binary.BigEndian.Uint16(b[2:]) {
	case greIPv6:
		proto = ProtoIPv6
	case greIPv4:
		proto = protoIPv4
	}
	return proto, to, to <= len(h.b)
}

// ourOwn reports whether this is the outer header of a packet that we have sent.
func (h *ipHeader) ourOwn(s Sent) bool {
	if h.b[0]>>4 != 4 {
		return false
	}
	b := IPv4(h.b)
	return b.Protocol() == ProtoIPv6 && s.SendsTo(b.Src4(), b.Dst4())
}
