package daemon

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"sixin4/encap/wire"
	"sixin4/tsp"
	"sixin4/tsp/broker"
)

// sessionQueue is how many datagrams of sessions wait for the broker: all its clients
// may come back at once, and who is not answered waits for seconds before it says
// anything again.
const sessionQueue = 32768

// carryUDP makes the first UDP socket of a broker one that carries tunnels too, and
// returns what its sessions are served on.
func (b *brokerage) carryUDP(p net.PacketConn) (net.PacketConn, error) {
	conn, ok := p.(*net.UDPConn)
	if b.beside.udp != nil || !ok {
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
	b.beside.udp = u
	b.stranger = b.leases.wanderers.see
	return u.Control(), nil
}

// carriedTypes are those of the tunnels that this broker gives.
func (b *brokerage) carriedTypes() []tsp.Type {
	if b.beside.udp == nil {
		return []tsp.Type{tsp.V6V4}
	}
	return []tsp.Type{tsp.V6V4, tsp.V6UDPV4}
}

// carries reports whether a tunnel can be had by the socket that it is asked for on: in
// UDP it is that of the first address that the broker listens at.
func (t *leases) carries(ask broker.Ask) bool {
	return ask.Type != tsp.V6UDPV4 || t.b.beside.udp != nil && ask.Conn == net.PacketConn(t.b.beside.udp.Control())
}

// askedEnd is the client's end of the tunnel that is asked for; port 0 is protocol 41.
func askedEnd(ask broker.Ask) netip.AddrPort {
	if ask.Type == tsp.V6UDPV4 {
		return netip.AddrPortFrom(ask.Outer, ask.From.Port())
	}
	return netip.AddrPortFrom(ask.Outer, 0)
}

// portMark is behind the rest of a grant's ID, and before the port.
const portMark = "@"

// grantAt adds to a grant's ID the port of a tunnel in UDP.
func grantAt(id string, ask broker.Ask) string {
	if port := askedEnd(ask).Port(); port != 0 {
		return fmt.Sprint(id, portMark, port)
	}
	return id
}

// endOf is the client's end of the tunnel of a grant.
func endOf(g *broker.Grant) netip.AddrPort {
	_, text, _ := strings.Cut(g.ID, portMark)
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		port = 0 // it has none
	}
	return netip.AddrPortFrom(g.Tunnel.Client4, uint16(port))
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
