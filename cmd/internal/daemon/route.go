package daemon

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"sixin4/encap"
	"sixin4/tun/ifcfg"
)

// routeTo asks a host for the route that outer packets to dst take, by the interface
// called bind when there is one.
func routeTo(h host, dst netip.Addr, bind string) (ifcfg.Route, error) {
	if bind == "" {
		return h.RouteTo(dst)
	}
	return h.RouteVia(dst, bind)
}

func (t *tunnel) routeTo(dst netip.Addr) (ifcfg.Route, error) {
	return routeTo(t.env.host(), dst, t.set.Bind)
}

// ends is what the sockets of a wire are bound to. An interface that is made anew under
// its old name has another index, and sockets stay bound to the old one.
type ends struct {
	local netip.Addr
	link  int // index of --bind-interface; 0: none

	session *sessionConn // shape.session
}

// ends are those that a shape would have now. While the interface is away they are those
// there were.
func (t *tunnel) ends(s shape) ends {
	e := ends{local: s.local, session: s.session}
	if t.set.Bind == "" {
		return e
	}
	if link, err := net.InterfaceByName(t.set.Bind); err == nil {
		e.link = link.Index
	} else {
		e.link = t.bound.link
	}
	return e
}

// relocate moves the tunnel to where packets to the far end leave from now, if that is
// its own to choose, and to a new interface under the old name. It returns the shape that
// the tunnel has then. t.change is held.
func (t *tunnel) relocate(now *shape) *shape {
	if !t.set.follow && t.set.Bind == "" {
		return now
	}
	next := *now
	if t.set.follow {
		next = t.moved(now)
	}
	if t.ends(next) == t.bound {
		return now
	}
	if err := t.reshape(next); err != nil {
		t.env.Logger.Warn("the tunnel stays where it is", "name", t.name, "local", now.local, "error", err)
		return now
	}
	if next.local == now.local {
		t.env.Logger.Info("the interface is a new one, and the tunnel bound to it", "name", t.name, "interface", t.set.Bind)
	} else {
		t.moves.Add(1)
		t.env.Logger.Info("the tunnel has moved", "name", t.name, "local", next.local, "was", now.local, "mtu", int(next.mtu))
	}
	return t.now.Load()
}

// moved is now at the address that packets to the first peer leave from at present, which
// is how the local address was found at the start.
func (t *tunnel) moved(now *shape) shape {
	next := *now
	route, err := t.routeTo(now.peers[0].Remote)
	if err != nil || route.Local || route.Index == t.iface.Index || !route.Source.Is4() || route.Source == now.local {
		return next
	}
	next.local = route.Source
	next.addresses = slices.Clone(now.addresses)
	next.addresses[0] = linkLocal(next.local)
	next.wireMTU, next.linkMTU = encap.WireMTU(route.FixedMTU()), max(next.linkMTU, route.LinkMTU)
	next.peers = slices.Clone(now.peers)
	for i, p := range next.peers {
		if way, err := t.wayTo(p); err == nil {
			next.wireMTU = min(next.wireMTU, way)
			next.peers[i].MTU = t.autoMTU(next.carries(way), now.limit)
		}
	}
	next.mtu = t.autoMTU(next.carries(next.wireMTU), now.limit)
	return next
}

// checkBind refuses an interface that is not there.
func (p *Plan) checkBind(bind string, env Env, blame func(reason string) error) error {
	if bind == "" {
		return nil
	}
	exists, err := env.host().Exists(bind)
	if err == nil && !exists {
		return blame("this host has no such interface (ip link shows those it has)")
	}
	if err != nil {
		return fmt.Errorf("look for interface %s: %w", bind, err)
	}
	return nil
}
