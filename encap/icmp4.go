package encap

import (
	"encoding/binary"
	"iter"
	"net/netip"

	"sixin4/encap/packet"
)

// ICMP4Kind is what an ICMPv4 error says has become of a packet (RFC 792).
type ICMP4Kind uint8

const (
	// ICMP4FragNeeded: longer than a link on the way, and DF set (RFC 1191,
	// Section 4).
	ICMP4FragNeeded ICMP4Kind = iota + 1
	// ICMP4NetUnreachable: no way to the peer's network.
	ICMP4NetUnreachable
	// ICMP4HostUnreachable: no way to the peer itself.
	ICMP4HostUnreachable
	// ICMP4ProtocolUnreachable: the peer does not speak protocol 41, or a NAT
	// in front of it has nobody to give it to.
	ICMP4ProtocolUnreachable
	// ICMP4PortUnreachable: the answer of a sit driver that has no tunnel to us.
	ICMP4PortUnreachable
	// ICMP4Prohibited: somebody's policy forbids it (RFC 1812, Section 5.2.7.1).
	ICMP4Prohibited
	// ICMP4TimeExceeded: the TTL ran out, or a fragment got lost.
	ICMP4TimeExceeded
	// ICMP4ParameterProblem: a router does not like the outer header.
	ICMP4ParameterProblem
	// ICMP4SourceQuench is deprecated and means nothing (RFC 6633).
	ICMP4SourceQuench

	// NumICMP4Kinds is the length of an array indexed by ICMP4Kind; element 0 is none.
	NumICMP4Kinds = iota + 1
)

var icmp4KindNames = [NumICMP4Kinds]string{
	ICMP4FragNeeded:          "fragmentation-needed",
	ICMP4NetUnreachable:      "net-unreachable",
	ICMP4HostUnreachable:     "host-unreachable",
	ICMP4ProtocolUnreachable: "protocol-unreachable",
	ICMP4PortUnreachable:     "port-unreachable",
	ICMP4Prohibited:          "prohibited",
	ICMP4TimeExceeded:        "time-exceeded",
	ICMP4ParameterProblem:    "parameter-problem",
	ICMP4SourceQuench:        "source-quench",
}

// String returns the kind in kebab case, for logs and metrics.
func (k ICMP4Kind) String() string {
	if k == 0 || int(k) >= NumICMP4Kinds {
		return "unknown"
	}
	return icmp4KindNames[k]
}

// ICMP4Kinds yields every kind in order.
func ICMP4Kinds() iter.Seq[ICMP4Kind] {
	return func(yield func(ICMP4Kind) bool) {
		for k := ICMP4FragNeeded; k < NumICMP4Kinds; k++ {
			if !yield(k) {
				return
			}
		}
	}
}

// ICMP4Error is an ICMPv4 error about a packet that this host sent through one of
// its tunnels.
type ICMP4Error struct {
	Kind   ICMP4Kind
	Router [4]byte // who says it
	Peer   [4]byte // where the packet was sent
	// MTU is, with ICMP4FragNeeded, the longest IPv4 packet that goes on, in bytes.
	// It is never 0: for routers that do not tell it is the next plateau.
	MTU WireMTU
	// Size is the length in bytes of the IPv4 packet that was sent.
	Size int
	// ID is the identification of the packet that was sent. It proves little, as 16
	// bits are used up in no time.
	ID uint16
	// Inner is how much of the inner packet came back, at least 8 bytes; a view of
	// the message. Its payload may be cut off anywhere.
	Inner IPv6
}

// Sent knows what this host sends through its tunnels: a table of peers is one.
type Sent interface {
	// SendsTo reports whether a tunnel leads from local to peer.
	SendsTo(local, peer [4]byte) bool
	// Carries reports whether an inner packet from src to dst may have been sent to
	// peer. dst is the zero Addr when it is not known.
	Carries(peer [4]byte, src, dst netip.Addr) bool
}

// The types of RFC 792.
const (
	icmp4Unreachable      = 3
	icmp4SourceQuench     = 4
	icmp4TimeExceeded     = 11
	icmp4ParameterProblem = 12

	icmp4HeaderLen = 8  // type, code, checksum and four bytes of their own
	icmp4MinQuote  = 28 // an IPv4 header and 8 bytes (RFC 792, RFC 1122, Section 3.2.2)
	protoICMP      = 1
)

// ParseICMP4 takes an ICMPv4 packet, its IPv4 header first, as a raw ICMP socket
// delivers it, and answers what it says and whether to believe it. Anybody can
// send one, so it has to quote what s says this host sends: from a local address
// to its peer, protocol 41, with lengths that agree, and inner addresses that go
// that way, as far as they are quoted. e is only defined with [DoubtNone].
//
// That an error is believed does not make it true: who knows the addresses of a
// tunnel can write one. It may lower an MTU within limits and cause an answer to
// our own sender, and no more. The caller limits the rate of what it relays.
func ParseICMP4(b []byte, s Sent) (e ICMP4Error, why Doubt) {
	outer, msg, why := icmp4Message(b)
	if why != DoubtNone {
		return e, why
	}
	if e.Kind = icmp4Kind(msg[0], msg[1]); e.Kind == 0 {
		return e, DoubtKind
	}
	quote := IPv4(icmp4Quote(msg))
	if why = quote.checkQuoted(); why != DoubtNone {
		return e, why
	}
	e.Router, e.Peer, e.ID = outer.Src4(), quote.Dst4(), quote.ID()
	if quote.Src4() != outer.Dst4() || !s.SendsTo(quote.Src4(), e.Peer) {
		return e, DoubtNotSent
	}
	if e.Inner, e.Size, why = quotedInner(quote); why != DoubtNone {
		return e, why
	}
	if !carried(s, e.Peer, e.Inner) {
		return e, DoubtInnerForeign
	}
	if e.Kind != ICMP4FragNeeded {
		return e, DoubtNone
	}
	if !quote.DF() {
		return e, DoubtDF
	}
	if e.MTU = WireMTU(binary.BigEndian.Uint16(msg[6:])); e.MTU == 0 {
		e.MTU = Plateau(WireMTU(e.Size))
	}
	return e, DoubtNone
}

// icmp4Message checks a packet down to the ICMP header and returns both parts.
func icmp4Message(b []byte) (outer IPv4, msg []byte, why Doubt) {
	outer = b
	if outer.Check() != Forward || outer.Fragment() || outer.Protocol() != protoICMP || !unicast4(outer.Src4()) {
		return nil, nil, DoubtMalformed
	}
	msg = b[outer.HeaderLen():outer.TotalLen()]
	if len(msg) < icmp4HeaderLen {
		return nil, nil, DoubtMalformed
	}
	if packet.Fold(packet.AddBytes(0, msg)) != 0xffff {
		return nil, nil, DoubtChecksum
	}
	return outer, msg, DoubtNone
}

// icmp4Kind returns 0 for what is no error.
func icmp4Kind(kind, code uint8) ICMP4Kind {
	switch kind {
	case icmp4Unreachable:
		return unreachable4Kind(code)
	case icmp4SourceQuench:
		return ICMP4SourceQuench
	case icmp4TimeExceeded:
		return ICMP4TimeExceeded
	case icmp4ParameterProblem:
		return ICMP4ParameterProblem
	}
	return 0
}

// unreachable4Kind knows the codes of RFC 792 and of RFC 1122, Section 3.2.2.1,
// and those of RFC 1812, Section 5.2.7.1.
func unreachable4Kind(code uint8) ICMP4Kind {
	switch code {
	case 0, 6, 11: // network: unreachable, unknown, for this type of service
		return ICMP4NetUnreachable
	case 2:
		return ICMP4ProtocolUnreachable
	case 3:
		return ICMP4PortUnreachable
	case 4:
		return ICMP4FragNeeded
	case 9, 10, 13, 14, 15: // network, host, communication; precedence
		return ICMP4Prohibited
	}
	return ICMP4HostUnreachable // 1, 5, 7, 8, 12, and what may come
}

// checkQuoted looks at the quoted outer header alone. We send no options.
func (b IPv4) checkQuoted() Doubt {
	switch {
	case len(b) < HeaderLen:
		return DoubtQuoteShort
	case b[0]>>4 != 4 || b.Protocol() != ProtoIPv6:
		return DoubtNotTunnel
	case len(b) < icmp4MinQuote:
		return DoubtQuoteShort
	case b.HeaderLen() != HeaderLen:
		return DoubtNotSent
	case b.flags()&maskOffset != 0:
		return DoubtQuoteFragment
	}
	return DoubtNone
}

// quotedInner returns what a quote holds of the inner packet, and how long the
// outer packet was. That is counted from the inner length: some routers get the
// quoted outer one wrong, by a header more (RFC 1191, Section 5) or less. A first
// fragment is shorter than its inner packet.
func quotedInner(quote IPv4) (inner IPv6, size int, why Doubt) {
	inner = IPv6(quote[HeaderLen:])
	if inner[0]>>4 != 6 {
		return nil, 0, DoubtQuoteLength
	}
	total := quote.TotalLen()
	size = HeaderLen + IPv6HeaderLen + inner.PayloadLen()
	switch {
	case quote.flags()&flagMF != 0:
		if total >= size || total < icmp4MinQuote {
			return nil, 0, DoubtQuoteLength
		}
		size = total
	case total != size && total != size-HeaderLen && total != size+HeaderLen:
		return nil, 0, DoubtQuoteLength
	}
	return inner[:min(len(inner), size-HeaderLen)], size, DoubtNone
}

// carried asks s about as much of the inner addresses as came back.
func carried(s Sent, peer [4]byte, inner IPv6) bool {
	switch {
	case len(inner) >= IPv6HeaderLen:
		return s.Carries(peer, inner.Src(), inner.Dst())
	case len(inner) >= dstOffset:
		return s.Carries(peer, inner.Src(), netip.Addr{})
	}
	return true
}
