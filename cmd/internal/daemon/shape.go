package daemon

import (
	"net"
	"net/netip"

	"sixin4/encap"
)

// shape is what a tunnel looks like at a moment: its ends, its addresses, its
// sizes. A shape is never changed, only replaced by another (tunnel.become).
type shape struct {
	hub       bool // whose peers come and go; the ways to them are not asked for one by one
	local     netip.Addr
	session   *sessionConn // whose socket carries the packets, in UDP; nil: protocol 41
	peers     []PlannedPeer
	addresses []netip.Prefix // of the interface, the link-local one first
	routes    []netip.Prefix // into the interface
	neighbour netip.Addr     // that routes go by way of, link-local; the zero Addr: none
	spare     []netip.Prefix // the same, unless there is such a route already
	delegated []netip.Prefix // routed to this host through the tunnel

	far netip.Addr // who inside the far end is asked what the way to it carries

	limit   encap.TunMTU  // of an MTU that follows the way to the peers; 0: none
	mtu     encap.TunMTU  // of the interface
	wireMTU encap.WireMTU // of the ways to the peers, the smallest
	linkMTU int           // of the links to the peers, the largest
}

func (p *Plan) shape() shape {
	return shape{
		local: p.Local, peers: p.Peers, addresses: p.Addresses, routes: p.Routes,
		mtu: p.MTU, wireMTU: p.wireMTU, linkMTU: p.linkMTU, far: p.far,
	}
}

// global returns the addresses that are not link-local.
func (s *shape) global() []netip.Prefix {
	var list []netip.Prefix
	for _, a := range s.addresses {
		if !a.Addr().IsLinkLocalUnicast() {
			list = append(list, a)
		}
	}
	return list
}

// source is where ICMPv6 errors come from: an address that a host beyond this
// one can answer to, when there is one.
func (s *shape) source() netip.Addr {
	for _, a := range s.addresses {
		if a.Addr().IsGlobalUnicast() {
			return a.Addr()
		}
	}
	return linkLocal(s.local).Addr()
}

// own are the prefixes that no packet may come out of the tunnel from because
// they are ours by this shape.
func (s *shape) own() []netip.Prefix {
	own := make([]netip.Prefix, 0, len(s.addresses)+len(s.delegated))
	for _, a := range s.addresses {
		own = append(own, netip.PrefixFrom(a.Addr(), a.Addr().BitLen()))
	}
	return append(own, s.delegated...)
}

// port is the local one of a tunnel in UDP; 0: protocol 41.
func (s *shape) port() uint16 {
	if s.session == nil {
		return 0
	}
	return uint16(s.session.LocalAddr().(*net.UDPAddr).Port)
}

// here are the addresses of the interface that are not link-local, without lengths.
func (s *shape) here() (list []netip.Addr) {
	for _, a := range s.global() {
		list = append(list, a.Addr())
	}
	return list
}
