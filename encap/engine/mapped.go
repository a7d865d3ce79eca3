package engine

import (
	"net/netip"

	"sixin4/encap"
	"sixin4/encap/packet"
)

// unspecified4 is where the peer with a mapping is in the table: no packet comes from
// there.
var unspecified4 = netip.IPv4Unspecified()

// findMapped is the index of the peer with a mapping, or none.
func (t *Table) findMapped() int32 {
	if i, ok := t.find(unspecified4); ok {
		return i
	}
	return none
}

// mapsHere reports whether an address in the prefixes of peer i is of this host's site: a
// mapping has both ends of its tunnel in one prefix.
func (t *Table) mapsHere(i int32, a netip.Addr) bool {
	m := t.at(i).Map
	return m != nil && m.Here(a)
}

// makeHeader is the outer header to a peer, without a destination if it has a mapping.
func (p *Peer) makeHeader() (encap.Header, error) {
	if p.Map != nil {
		return p.Outer.Template()
	}
	return p.Outer.Header()
}

// encapMapped takes the destination out of the inner one.
func (p *peer) encapMapped(pkt *packet.Packet) encap.Drop {
	dst, d := p.Map.Outbound(encap.IPv6(pkt.Head()))
	if d == encap.Forward {
		h := p.header.To(dst)
		h.Encap(pkt, p.count.ids.Reserve(1))
	}
	return d
}

// inboundMapped is inbound for who is no configured peer, by the rules of the mapping.
func (t *Table) inboundMapped(src remoteKey, inner encap.IPv6) (int32, encap.Drop) {
	from := src.addrPort()
	if t.mapped == none || from.Port() != 0 {
		return none, encap.DropNotPeer
	}
	return t.mapped, t.at(t.mapped).Map.Inbound(from.Addr().As4(), inner)
}
