package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"sixin4/encap/wire"
	"sixin4/tun/ifcfg"
)

// sessionConn is the UDP socket of a session with a broker. It is the client's control
// connection all the time, and when the broker has agreed to a tunnel the wire that
// carries it (RFC 5572, Section 3, from memory): the same addresses and ports.
type sessionConn struct {
	mu      sync.Mutex
	current net.Conn // the socket, then the wire's control
	socket  *net.UDPConn
	wire    *wire.UDP // nil before carry
}

func newSessionConn(c *net.UDPConn) *sessionConn { return &sessionConn{current: c, socket: c} }

// carry makes the wire. It is called once, while nobody reads.
func (s *sessionConn) carry(cfg wire.UDPConfig) (*wire.UDP, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != net.Conn(s.socket) {
		return nil, errCarried
	}
	cfg.Conn = s.socket
	u, err := wire.NewUDP(cfg)
	if err == nil {
		s.current, s.wire = u.Control(), u
	}
	return u, err
}

// conn is what reads and writes go to.
func (s *sessionConn) conn() net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// The methods of net.Conn. Close ends control; data goes on as long as its wire.

func (s *sessionConn) Read(b []byte) (int, error)         { return s.conn().Read(b) }
func (s *sessionConn) Write(b []byte) (int, error)        { return s.conn().Write(b) }
func (s *sessionConn) Close() error                       { return s.conn().Close() }
func (s *sessionConn) LocalAddr() net.Addr                { return s.conn().LocalAddr() }
func (s *sessionConn) RemoteAddr() net.Addr               { return s.conn().RemoteAddr() }
func (s *sessionConn) SetDeadline(t time.Time) error      { return s.conn().SetDeadline(t) }
func (s *sessionConn) SetReadDeadline(t time.Time) error  { return s.conn().SetReadDeadline(t) }
func (s *sessionConn) SetWriteDeadline(t time.Time) error { return s.conn().SetWriteDeadline(t) }

// proxyNetwork is this host's network as the client of a proxy sees it. It asks the
// kernel for nothing that needs a privilege.
type proxyNetwork struct{}

// Resolve returns the IPv4 addresses of a host.
func (proxyNetwork) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	return network{}.Resolve(ctx, host)
}

// Dial connects to a broker.
func (proxyNetwork) Dial(ctx context.Context, proto string, to netip.AddrPort) (net.Conn, error) {
	return asSession(new(net.Dialer).DialContext(ctx, proto+"4", to.String()))
}

// asSession makes a UDP socket one that can carry a tunnel.
func asSession(c net.Conn, err error) (net.Conn, error) {
	if u, ok := c.(*net.UDPConn); ok && err == nil {
		return newSessionConn(u), nil
	}
	return c, err
}

// Source returns the address that packets to a broker leave from: that of a socket
// which is connected to it, by which nothing is sent.
func (proxyNetwork) Source(to netip.Addr) (netip.Addr, error) {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 9)))
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	local, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}, fmt.Errorf("source for %v: %w", to, errors.ErrUnsupported)
	}
	return local.AddrPort().Addr().Unmap(), nil
}

// Own is nothing: what the broker gives is on no interface of this host.
func (proxyNetwork) Own() ([]netip.Prefix, error) { return nil, nil }

// Watch tells of changes of links, addresses and routes.
func (proxyNetwork) Watch(ctx context.Context, changed func()) error {
	return ifcfg.Watch(ctx, changed)
}
