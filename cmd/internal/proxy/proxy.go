// Package proxy lets programs use a tunnel without an interface: a SOCKS5 server
// (RFC 1928, with RFC 1929 for a password), an HTTP proxy (RFC 9110, Section 9.3.6 for
// CONNECT), local servers published at the tunnel's address, and one command with
// the proxy variables set. What is behind it is a Network, four functions.
//
// RFC texts are cited from memory: they could not be read when this was written.
package proxy

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Network is what is reached through the proxy. Its methods may be used by several
// goroutines.
type Network interface {
	// DialContext connects; network is tcp or udp, address has a literal IPv6 address.
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	// Listen accepts TCP connections to this end.
	Listen(network, address string) (net.Listener, error)
	// ListenPacket receives UDP at this end. Its net.PacketConn takes and gives
	// *net.UDPAddr.
	ListenPacket(network, address string) (net.PacketConn, error)
	// Resolve looks up the addresses of a name; network is ip6, or ip4 to learn whether
	// there is such a name at all. That there are none is a net.DNSError with IsNotFound.
	Resolve(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Limits of what the other end may make us wait for or keep.
const (
	DefaultMaxConns = 1024             // of the proxies and of each published port
	handshakeTime   = 30 * time.Second // until it is known what is wanted
	dialTime        = 30 * time.Second // for all addresses of a name together
	resolveTime     = 15 * time.Second
	idleTime        = 2 * time.Minute // of an HTTP connection between two requests
)

// Config describes a server. Zero fields mean the default.
type Config struct {
	Network Network // required

	// SOCKS5 and HTTP are addresses to listen at, with port 0 for a free one; empty
	// for none. Where they are equal both are served on one port.
	SOCKS5, HTTP string
	// Publish are the ports of the tunnel's address that local servers answer.
	Publish []Publish

	// User and Password are what clients must show; both empty for nothing. A SOCKS5
	// client can have at most 255 bytes of each.
	User, Password string
	// DirectIPv4 reaches IPv4 destinations past the tunnel. Otherwise they are refused.
	DirectIPv4 bool
	// MaxConns is how many connections there may be at a time; more have to wait.
	MaxConns int
	Logger   *slog.Logger // default: discard
}

// Server is a proxy whose sockets are open.
type Server struct {
	cfg   Config
	log   *slog.Logger
	slots chan struct{} // one for each connection of a client
	conns sync.WaitGroup
	doors []*door

	direct func(ctx context.Context, network, address string) (net.Conn, error) // past the tunnel
	own    func(netip.Addr) bool                                                // whether an IPv4 address is this host's

	close sync.Once
}

// New checks cfg and opens the sockets on this host; clients wait until Run.
func New(cfg Config) (*Server, error) {
	if cfg.Network == nil {
		return nil, errors.New("proxy: no network")
	}
	if (cfg.User == "") != (cfg.Password == "") || len(cfg.User) > 255 || len(cfg.Password) > 255 {
		return nil, errors.New("proxy: user and password must both be there, of at most 255 bytes, or neither")
	}
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = DefaultMaxConns
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, log: cfg.Logger, slots: make(chan struct{}, cfg.MaxConns), direct: new(net.Dialer).DialContext, own: isOwn}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// open opens the doors.
func (s *Server) open() error {
	for _, at := range []struct {
		address     string
		socks, http bool
	}{
		{s.cfg.SOCKS5, true, s.cfg.SOCKS5 == s.cfg.HTTP},
		{s.cfg.HTTP, false, true},
	} {
		if at.address == "" || !at.socks && s.cfg.SOCKS5 == s.cfg.HTTP {
			continue
		}
		l, err := net.Listen("tcp", at.address)
		if err != nil {
			return fmt.Errorf("proxy: %w", err)
		}
		s.doors = append(s.doors, &door{s: s, l: l, socks: at.socks, http: at.http})
	}
	return nil
}

// SOCKS5 is where the SOCKS5 server listens, nil where there is none.
func (s *Server) SOCKS5() net.Addr { return s.addr(func(d *door) bool { return d.socks }) }

// HTTP is where the HTTP proxy listens, nil where there is none.
func (s *Server) HTTP() net.Addr { return s.addr(func(d *door) bool { return d.http }) }

func (s *Server) addr(of func(*door) bool) net.Addr {
	i := slices.IndexFunc(s.doors, of)
	if i < 0 {
		return nil
	}
	return s.doors[i].l.Addr()
}

// Run serves until ctx ends, which returns nil, or a socket fails. All connections
// are closed when it returns, and no goroutine is left. It is called once.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	var wg sync.WaitGroup
	run := func(f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil {
				cancel(err)
			}
		})
	}
	for _, d := range s.doors {
		run(d.run)
	}
	for _, p := range s.cfg.Publish {
		run(func(ctx context.Context) error { return s.publish(ctx, p) })
	}
	<-ctx.Done()
	err := context.Cause(ctx)
	_ = s.Close()
	wg.Wait()
	s.conns.Wait()
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// Close closes the sockets. It is idempotent, and ends Run with an error.
func (s *Server) Close() error {
	var err error
	s.close.Do(func() {
		for _, d := range s.doors {
			err = errors.Join(err, d.l.Close())
		}
	})
	return err
}

// serve runs f for one connection of a client, which it closes when f returns or
// ctx ends. It waits for a free slot first.
func (s *Server) serve(ctx context.Context, c net.Conn, f func(ctx context.Context)) {
	s.conns.Go(func() {
		defer func() { <-s.slots }()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer closeWith(ctx, c)()
		f(ctx)
	})
}

// acquire takes a slot, and reports false when ctx ended first.
func (s *Server) acquire(ctx context.Context) bool {
	select {
	case s.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// closeWith has c cut off when ctx ends, or closed when the function that it returns is
// called.
func closeWith(ctx context.Context, c io.Closer) func() {
	stop := context.AfterFunc(ctx, func() { _ = cut(c) })
	return func() {
		stop()
		_ = c.Close()
	}
}

// allowed compares a client's user and password with ours in constant time.
func (s *Server) allowed(user, password string) bool {
	u := subtle.ConstantTimeCompare([]byte(user), []byte(s.cfg.User))
	p := subtle.ConstantTimeCompare([]byte(password), []byte(s.cfg.Password))
	return u&p == 1
}

// IsLocal reports whether only this host can reach a listening address: a proxy
// elsewhere is for everybody who can reach it.
func IsLocal(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}
