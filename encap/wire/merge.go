package wire

import (
	"sixin4/encap"
	"sixin4/encap/packet"
)

// How merged packets are recognised
//
// A packet is looked at twice when it is longer than the link, or when its
// transport checksum is only the sum of the pseudo-header. It may be
//
//   - one packet with the checksum left undone, from a peer on this machine;
//   - several packets merged by the kernel, with the checksum left undone;
//   - several packets merged by the kernel (rx-gro-list), with the checksum of the
//     first one left in place, which is wrong for the whole;
//   - one packet, reassembled from fragments, or from a link with a larger MTU.
//
// The raw socket does not tell which. A packet socket with PACKET_VNET_HDR does:
// hints_linux.go asks one, from the first such packet on, and settle believes it.
// Without an answer, TCP is a stream of bytes: cut at any length it stays right,
// so it is cut to fit every IPv6 link. UDP that was certainly merged cannot be cut
// without knowing where, and is refused. A checksum that is neither right nor left
// undone is never replaced on suspicion: it may be a damaged packet from a link
// with a larger MTU, so it is left for the receiver to find wrong.
//
// Inside UDP nothing is merged on the way, so that only datagrams that came alone, with a
// checksum left undone, are looked at twice. The kernel of a peer on this machine, which
// carries the tunnel itself, sends such ones: merged TCP, and single packets.

// gsoKind is how the kernel would segment a packet (VIRTIO_NET_HDR_GSO_*).
type gsoKind uint8

const (
	gsoNone gsoKind = 0
	gsoTCP6 gsoKind = 4
	gsoUDP  gsoKind = 5
	gsoECN  gsoKind = 0x80 // may be set beside one of the above
)

// hint is what the kernel says about one packet.
type hint struct {
	kind gsoKind
	size int // transport payload of each segment
}

// facts is what is known about a packet that has to be looked at twice.
type facts struct {
	longest     int   // inner packet that the link carries, in bytes
	hint        *hint // nil when there is none
	asked       bool  // a hint would be there if the packet had been merged
	reassembled bool
}

// anyLink is an IPv6 packet that every link carries (RFC 8200, Section 5).
const anyLink = 1280

// settle decides what the inner packet p is and sets its Seg, Sum or Err. It
// reports whether p was merged.
func settle(p *packet.Packet, f facts) bool {
	proto, headers, ok := encap.Transport(p)
	if !ok {
		return false
	}
	if f.hint != nil {
		return settleByHint(p, *f.hint)
	}
	long := p.Len() > f.longest
	partial := p.Sum == packet.SumPartial
	switch {
	case f.reassembled, proto == protoUDP && long && encap.VerifySum(p):
		return false // one packet, as its sender made it
	case proto == protoUDP:
		if long || f.asked {
			p.Err = packet.ErrSegmentUnknown
		}
		return long
	case !long, !partial, headers >= anyLink:
		return false
	}
	p.Seg = anyLink - headers
	return true
}

const protoUDP = 17

func settleByHint(p *packet.Packet, h hint) bool {
	kind := h.kind &^ gsoECN
	if kind != gsoTCP6 && kind != gsoUDP || h.size == 0 {
		return false
	}
	if p.Sum != packet.SumPartial {
		encap.MakePartial(p)
	}
	p.Seg = h.size
	return true
}
