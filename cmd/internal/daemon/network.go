package daemon

import (
	"context"
	"net"
	"net/netip"
	"slices"

	"sixin4/cmd/internal/config"
	"sixin4/tun/ifcfg"
)

// network is this host's network as the client of a broker sees it: IPv4 only,
// since IPv6 is what the broker is asked for.
type network struct {
	t     *negotiated
	local netip.Addr // to dial from; not valid: whatever the route says
}

// newNetwork dials from the local address that was given, unless that is another
// host's.
func newNetwork(t *negotiated, cfg config.Connect) network {
	if cfg.Proxy {
		return network{t: t}
	}
	return network{t, cfg.Local}
}

// Resolve returns the IPv4 addresses of a host.
func (n network) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
}

// Dial connects to a broker over IPv4.
func (n network) Dial(ctx context.Context, proto string, to netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	if n.local.IsValid() {
		switch proto {
		case "tcp":
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(n.local, 0))
		case "udp":
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(n.local, 0))
		}
	}
	return asSession(d.DialContext(ctx, proto+"4", to.String()))
}

// Source returns the local address that packets to a broker leave from.
func (n network) Source(to netip.Addr) (netip.Addr, error) {
	route, err := n.t.routeTo(to)
	if n.local.IsValid() {
		return n.local, err
	}
	return route.Source, err
}

// Own returns the networks that this host has without the broker's help: those
// on the tunnel's interface are not among them, nor those on the LAN that the prefix
// is for, nor what the broker has given us already, as it may be anywhere by now. With
// --once they are none: nothing is going to be set up.
func (n network) Own() ([]netip.Prefix, error) {
	if n.t.cfg.Once {
		return nil, nil
	}
	all, err := n.t.env.host().HostPrefixes(n.t.index())
	if err != nil {
		return nil, err
	}
	foreign := all
	if lan, err := net.InterfaceByName(n.t.cfg.LAN); err == nil {
		if foreign, err = n.t.env.host().HostPrefixes(lan.Index); err != nil {
			return nil, err
		}
	}
	given := n.given()
	own := make([]netip.Prefix, 0, len(all))
	for _, p := range all {
		if slices.Contains(foreign, p) && !inside(p, given) {
			own = append(own, p)
		}
	}
	return own, nil
}

// given is what the broker gave by the lease that we have.
func (n network) given() []netip.Prefix {
	given := slices.Clone(n.t.now.Load().delegated)
	if l := n.t.lease.Load(); l != nil {
		given = append(given, single(l.Tunnel.Client6))
	}
	return given
}

// inside reports whether p is a part of one of them.
func inside(p netip.Prefix, of []netip.Prefix) bool {
	for _, whole := range of {
		if whole.Bits() <= p.Bits() && whole.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// Watch tells of changes of links, addresses and routes.
func (n network) Watch(ctx context.Context, changed func()) error {
	return ifcfg.Watch(ctx, changed)
}
