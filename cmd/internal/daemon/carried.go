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
		merged:   l.Merged,
		inner:    farAddress(l),
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

// lanes are those of a hub for IPv6 in UDP, and writers for both kinds. The number of a
// socket, as the engine has it, is its place here.
type lanes struct{ udp []*wire.UDP }

// both makes a writer of protocol 41 one of both kinds.
func (b lanes) both(raw wire.Writer) (wire.Writer, error) {
	if len(b.udp) == 0 {
		return raw, nil
	}
	ways := make([]wire.UDPWay, len(b.udp))
	for i, u := range b.udp {
		w, err := u.NewWriter()
		if err != nil {
			return nil, err
		}
		ways[i] = wire.UDPWay{Local: u.LocalAddr(), Writer: w}
	}
	return wire.Both(raw, ways...), nil
}

// number is that of the socket with an address and port. What is not known is the first's:
// it was the only one that carried tunnels before this was on record.
func (b lanes) number(local netip.AddrPort) (socket uint16, ok bool) {
	for i, u := range b.udp {
		if !local.IsValid() || u.LocalAddr() == local {
			return uint16(i), true
		}
	}
	return 0, false
}

// outerTo describes the outer header to a peer, which is from the socket that it is with.
func (t *tunnel) outerTo(s shape, p PlannedPeer) encap.Outer {
	o := t.outer(s.local, p.Remote)
	if p.local.IsValid() {
		o.Src, o.SrcPort = p.local.Addr(), p.local.Port()
	}
	return o
}

// add gives an engine that was configured for protocol 41 the other kind too.
func (t *tunnel) addUDP(cfg *engine.Config) (err error) {
	if len(t.beside.udp) == 0 {
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
	for i, u := range t.beside.udp {
		raw, err := t.wire.NewWriter()
		if err != nil {
			return err
		}
		back, err := t.beside.both(raw)
		if err != nil {
			return err
		}
		cfg.More = append(cfg.More, engine.Lane{
			In: u.Reader(), Out: t.device.NewWriter(), Back: back, UDP: true, Socket: uint16(i),
		})
	}
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
