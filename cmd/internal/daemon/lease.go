package daemon

import (
	"fmt"
	"net/netip"

	"sixin4/encap"
	"sixin4/tsp"
	"sixin4/tsp/client"
)

// shapeOf is what the tunnel of a lease looks like. The far end gets a route of
// its own, so that it can be asked even when nothing else goes into the tunnel.
func (t *negotiated) shapeOf(l *client.Lease) (shape, error) {
	if l.Tunnel.Type != tsp.V6V4 && l.Tunnel.Type != tsp.V6UDPV4 {
		return shape{}, fmt.Errorf("the broker gave a tunnel of type %s, which this version cannot carry", l.Tunnel.Type)
	}
	s := shape{local: l.Local, limit: t.limit(l.Tunnel), wireMTU: usualWireMTU}
	if t.cfg.Local.IsValid() {
		s.local = t.cfg.Local
	}
	if route, err := t.routeTo(l.Tunnel.Server4); err == nil {
		s.wireMTU, s.linkMTU = encap.WireMTU(route.FixedMTU()), route.LinkMTU
	}
	s.mtu = t.autoMTU(s.carries(s.wireMTU), s.limit)
	s.peers = []PlannedPeer{{
		Remote:   l.Tunnel.Server4,
		Prefixes: []netip.Prefix{everything},
		MTU:      s.mtu,
	}}
	s.addresses = []netip.Prefix{linkLocal(s.local)}
	if l.Tunnel.Type == tsp.V6UDPV4 {
		if err := t.overUDP(&s, l); err != nil {
			return shape{}, err
		}
	}
	if s.far = l.Tunnel.KeepaliveTo; !s.far.IsValid() {
		s.far = l.Tunnel.Server6
	}
	if l.Tunnel.Prefix.IsValid() {
		s.delegated = []netip.Prefix{l.Tunnel.Prefix}
	}
	if t.cfg.Script == "" {
		s.addresses = append(s.addresses, single(l.Tunnel.Client6))
		s.routes, s.spare = t.routes(l.Tunnel)
	}
	return s, nil
}

var (
	everything    = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	globalUnicast = netip.MustParsePrefix("2000::/3") // all that is allocated (RFC 4291, Section 2.4)
)

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// limit is the largest MTU of a tunnel that is to follow the way to the broker.
func (t *negotiated) limit(of *tsp.Tunnel) encap.TunMTU {
	limit := encap.TunMTU(of.MTU)
	if t.env.Classic && (limit == 0 || limit > encap.MinTunMTU) {
		limit = encap.MinTunMTU // as the template scripts of old set it
	}
	return limit
}

// farEnd are the addresses of the far end, each as a prefix.
func farEnd(of *tsp.Tunnel) []netip.Prefix {
	ends := []netip.Prefix{single(of.Server6)}
	if of.Keepalive != 0 && of.KeepaliveTo != of.Server6 {
		ends = append(ends, single(of.KeepaliveTo))
	}
	return ends
}

// routes are those into the tunnel. The scripts of old replaced the default route
// and added the half of all addresses that is in use; this stays out of the way of
// another default route, and wins over it.
func (t *negotiated) routes(of *tsp.Tunnel) (routes, spare []netip.Prefix) {
	routes = farEnd(of)
	switch {
	case t.cfg.NoRoute:
		return routes, nil
	case t.env.Classic:
		return append(routes, globalUnicast), []netip.Prefix{everything}
	}
	return append(routes, everything), nil
}

func readyLine(name string, s *shape, of *tsp.Tunnel) string {
	line := fmt.Sprintf("ready: %s %s %s -> %s address %s mtu %d",
		name, of.Type, s.local, of.Server4, of.Client6, s.mtu)
	if of.Prefix.IsValid() {
		line += " prefix " + of.Prefix.String()
	}
	return line
}
