package daemon

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"sixin4/encap/engine"
	"sixin4/encap/wire"
	"sixin4/tsp"
	"sixin4/tsp/broker"
)

// sessionQueue is how many datagrams of sessions wait for the broker: all its clients
// may come back at once, and who is not answered waits for seconds before it says
// anything again.
const sessionQueue = 32768

// carryUDP makes a UDP socket of a broker one that carries tunnels too, and returns what its
// sessions are served on. Firewalls and NATs let in what comes from where their client sends
// to and from nowhere else, so that a tunnel has to be at the socket that it was asked for on.
func (b *brokerage) carryUDP(p net.PacketConn) (net.PacketConn, error) {
	conn, ok := p.(*net.UDPConn)
	if !ok {
		return p, nil
	}
	// Routers may cut what is too long: only the client knows the way to it.
	u, err := wire.NewUDP(wire.UDPConfig{
		Conn: conn, ClearDF: true, ControlQueue: sessionQueue, Logger: b.env.Logger,
	})
	if err != nil {
		return nil, err
	}
	b.undo.Push(u.Close)
	b.beside.udp = append(b.beside.udp, u)
	b.stranger = b.leases.wanderers.see
	return u.Control(), nil
}

// carriedTypes are those of the tunnels that this broker gives.
func (b *brokerage) carriedTypes() []tsp.Type {
	if len(b.beside.udp) == 0 {
		return []tsp.Type{tsp.V6V4}
	}
	return []tsp.Type{tsp.V6V4, tsp.V6UDPV4}
}

// asked is where a tunnel is to end that is asked for: by protocol 41 at any of the broker's
// addresses, in UDP at the socket of the session. It is false for a socket that carries none.
func (t *leases) asked(ask broker.Ask) (at engine.End, local netip.AddrPort, ok bool) {
	if ask.Type != tsp.V6UDPV4 {
		return engine.End{AddrPort: netip.AddrPortFrom(ask.Outer, 0)}, local, true
	}
	at.AddrPort = netip.AddrPortFrom(ask.Outer, ask.From.Port())
	for i, u := range t.b.beside.udp {
		if ask.Conn == net.PacketConn(u.Control()) {
			at.Socket = uint16(i)
			return at, u.LocalAddr(), true
		}
	}
	return at, local, false
}

// What is behind the rest of a grant's ID: the client's port and the broker's end of a tunnel
// in UDP, each with a mark before it, and that the client takes merged TCP.
const (
	portMark   = "@"
	mergedMark = portMark + "merged"
)

// grantAt adds to a grant's ID what Accept has to know besides.
func grantAt(id string, at engine.End, local netip.AddrPort, merged bool) string {
	if local.IsValid() {
		id = fmt.Sprint(id, portMark, at.Port(), portMark, local)
	}
	if merged {
		id += mergedMark
	}
	return id
}

// endOf are both ends of the tunnel of a grant, and whether the client takes merged TCP.
func endOf(g *broker.Grant) (outer, local netip.AddrPort, merged bool) {
	id, merged := strings.CutSuffix(g.ID, mergedMark)
	_, text, _ := strings.Cut(id, portMark)
	text, at, _ := strings.Cut(text, portMark)
	port, err := strconv.ParseUint(text, 10, 16)
	if err == nil { // else it has none
		local, _ = netip.ParseAddrPort(at)
	}
	return netip.AddrPortFrom(g.Tunnel.Client4, uint16(port)), local, merged
}

// notHere is why a tunnel in UDP cannot go on after a restart.
func notHere(l *liveLease) string {
	return fmt.Sprintf("its client sends to %s, where this broker does not listen any more (--listen)", l.Local)
}

// outerText is the client's end of a tunnel for people.
func outerText(at netip.AddrPort) string {
	if at.Port() == 0 {
		return at.Addr().String()
	}
	return at.String()
}

// deleted ends what its client does not want any more. A datagram may be forged: whether
// the client of a tunnel in UDP has gone is found out by asking it.
func (t *leases) deleted(ctx context.Context, l *liveLease) {
	t.mu.Lock()
	lives := l.Outer.Port() != 0 && (l.proven || l.resumed)
	ask := lives && !l.asking
	t.mu.Unlock()
	if ask {
		t.doubt(l)
	}
	if lives {
		return
	}
	t.end(ctx, l, "deleted by its client")
}
