package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"sixin4/encap"
	"sixin4/encap/engine"
	"sixin4/encap/wire"
	"sixin4/tsp"
	"sixin4/tsp/client"
	"sixin4/tun/ifcfg"
)

// A tunnel of IPv6 in UDP (v6udpv4) has a peer with a port. On a client it goes through the
// wire.Switch as one of protocol 41 does, so that a tunnel may be of the one kind now and
// of the other next. A broker has both kinds at a time: its engine has lanes of each.

// carries is the MTU of a tunnel of this shape over a way that carries wire: the engine
// makes no fragments for one in UDP, as the kernel cuts datagrams that are too long.
func (s *shape) carries(wire encap.WireMTU) encap.TunMTU {
	if s.inUDP() {
		return insideUDP(wire)
	}
	return wire.Tun()
}

// insideUDP is the MTU of a tunnel in UDP.
func insideUDP(path encap.WireMTU) encap.TunMTU {
	return max(encap.TunMTU(path-wire.UDPHeaderLen), encap.MinTunMTU)
}

// errCarried: the socket of a session cannot be made a wire twice.
var errCarried = errors.New("the socket of this session is a tunnel's already")

// overUDP completes the shape of a lease whose packets go by the socket of its session.
func (t *negotiated) overUDP(s *shape, l *client.Lease) error {
	session, ok := l.Conn.(*sessionConn)
	if !ok {
		return fmt.Errorf("the session was over %s, and %s needs UDP", l.Transport, tsp.V6UDPV4)
	}
	s.session, s.local = session, l.Local
	s.wireMTU = usualWireMTU
	if route, err := t.routeTo(l.Broker.Addr()); err == nil {
		// The link is known for certain; what ICMP said of the way behind it is not.
		s.wireMTU = min(firstPath(encap.WireMTU(route.MTU)), encap.WireMTU(route.FixedMTU()))
		s.linkMTU = route.LinkMTU
	}
	t.udp.held.Store(int64(s.wireMTU))
	s.mtu = t.autoMTU(s.carries(s.wireMTU), s.limit)
	s.peers = []PlannedPeer{{
		Remote:   l.Broker.Addr(),
		Prefixes: []netip.Prefix{everything},
		MTU:      s.mtu,
		port:     l.Broker.Port(),
	}}
	s.addresses = []netip.Prefix{linkLocal(s.local)}
	return nil
}

// openCarried makes a wire of the socket of a session.
func (t *tunnel) openCarried(next shape, fresh *ifcfg.Stack) (wire.Link, error) {
	link, err := next.session.carry(wire.UDPConfig{
		LinkMTU: next.linkMTU,
		ClearDF: t.set.MTU != 0 || next.wireMTU < shortestUDP,
		Logger:  t.env.Logger,
	})
	if err != nil {
		return nil, hostError(err)
	}
	fresh.Push(link.Close)
	return link, nil
}

// perhapsUDP is about a tunnel whose wire may be one of IPv6 in UDP.
type perhapsUDP struct {
	may, only bool                  // only: and never another
	replies   func(encap.IPv6, int) // hears of echo replies; nil: nobody does
	held      atomic.Int64          // what the way to the peer over UDP carries, bytes; 0: not known
}

// lanes are those of a hub for IPv6 in UDP, and writers for both kinds.
type lanes struct{ udp *wire.UDP }

// both makes a writer of protocol 41 one of both kinds.
func (b lanes) both(raw wire.Writer) (wire.Writer, error) {
	if b.udp == nil {
		return raw, nil
	}
	udp, err := b.udp.NewWriter()
	return wire.Both(raw, udp), err
}

// add gives an engine that was configured for protocol 41 the other kind too.
func (t *tunnel) addUDP(cfg *engine.Config) (err error) {
	if t.beside.udp == nil {
		return nil
	}
	outs := []*engine.Writer{&cfg.Inbound.Back}
	for i := range cfg.Outbound {
		outs = append(outs, &cfg.Outbound[i].Out)
	}
	for _, out := range outs {
		if *out, err = t.beside.both((*out).(wire.Writer)); err != nil {
			return err
		}
	}
	raw, err := t.wire.NewWriter()
	if err != nil {
		return err
	}
	back, err := t.beside.both(raw)
	if err != nil {
		return err
	}
	cfg.More = append(cfg.More, engine.Lane{
		In: t.beside.udp.Reader(), Out: t.device.NewWriter(), Back: back, UDP: true,
	})
	cfg.Stranger = t.stranger
	return nil
}

// wireUDP is what status calls the way of packets in UDP.
const wireUDP = "udp"

// inUDP reports whether a tunnel goes by the socket of a session.
func (s *shape) inUDP() bool { return s.session != nil }

// claimed are the peers whose pair of addresses no other tunnel may have: over UDP there
// are ports.
func (s shape) claimed() shape {
	s.peers = slices.DeleteFunc(slices.Clone(s.peers), func(p PlannedPeer) bool { return p.port != 0 })
	return s
}
