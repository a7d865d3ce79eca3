package encap

import "sixin4/encap/packet"

// Decap checks the IPv4 packet p that the wire brought, takes the outer header
// off in place and leaves the inner IPv6 packet, cut to its length, its ECN field
// as RFC 6040 says and p.Sum set (see [MarkSum]). All headers are in p's head.
//
// It returns the outer source, valid from the moment the outer header has been
// found sound, for the caller to look up the peer, and [Forward] or the reason
// why the packet may not pass. What p holds after a drop is not defined.
//
// What depends on the peer is left to the caller: whether the source is one
// ([DropNotPeer]), and which inner sources it may use. Link-local and unique
// local sources pass here.
func Decap(p *packet.Packet) (src [4]byte, d Drop) {
	outer := IPv4(p.Head())
	if d := outer.CheckIn(p.Len()); d != Forward {
		return src, d
	}
	src = outer.Src4()
	if d := outer.checkTunnel(); d != Forward {
		return src, d
	}
	ecn, header := outer.ECN(), outer.HeaderLen()
	p.Trim(outer.TotalLen())
	p.Pull(header)

	if d := CheckInner(p); d != Forward {
		return src, d
	}
	inner := IPv6(p.Head())
	if d := inner.propagateECN(ecn); d != Forward {
		return src, d
	}
	if d := inner.checkSource(); d != Forward {
		return src, d
	}
	MarkSum(p)
	return src, Forward
}

// checkTunnel tells whether a sound IPv4 header is that of a tunnel packet.
func (b IPv4) checkTunnel() Drop {
	switch {
	case b.Fragment():
		return DropOuterFragment
	case b.Protocol() != ProtoIPv6:
		return DropOuterProtocol
	case !unicast4(b.Src4()):
		return DropOuterSource
	}
	return Forward
}

const (
	notECT = 0
	ect1   = 1
	ect0   = 2
	ce     = 3
	ecnBad = 4 // no ECN field: drop
)

// ecnOut is what leaves the tunnel, by inner and outer ECN field (RFC 6040,
// Section 4.2, Figure 4). The codepoints stand in the order of their numbers.
var ecnOut = [4][4]uint8{
	//       outer: Not-ECT, ECT(1), ECT(0), CE
	notECT: {notECT, notECT, notECT, ecnBad},
	ect1:   {ect1, ect1, ect1, ce},
	ect0:   {ect0, ect1, ect0, ce},
	ce:     {ce, ce, ce, ce},
}

// propagateECN writes the ECN field that leaves the tunnel.
func (b IPv6) propagateECN(outer uint8) Drop {
	inner := b.ECN()
	out := ecnOut[inner&3][outer&3]
	if out == ecnBad {
		return DropECN
	}
	if out != inner {
		b.setECN(out)
	}
	return Forward
}
