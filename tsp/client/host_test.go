package client_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing/synctest"
	"time"

	"sixin4/tsp/tsptest"
)

// host is this host in a test: its network is in memory, and its routes and addresses
// are what the test says.
type host struct {
	net tsptest.Net

	mu     sync.Mutex
	self   netip.Addr // invalid: no route to anywhere
	routed netip.Addr // what Source says instead of self, as where routes depend on ports
	own    []netip.Prefix
	ownErr error
	names  map[string][]netip.Addr // nil entry: looking it up hangs
	hang   map[netip.Addr]bool     // TCP to there is never answered
	change func()
	dials  []*dial
}

// dial is a connection that the client made.
type dial struct {
	net.Conn
	h       *host
	network string
	to      netip.AddrPort
	at      time.Time
	closed  bool
}

func (d *dial) Close() error {
	d.h.mu.Lock()
	d.closed = true
	d.h.mu.Unlock()
	return d.Conn.Close()
}

func (h *host) Resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	h.mu.Lock()
	addrs, ok := h.names[name]
	h.mu.Unlock()
	if !ok {
		return nil, errors.New("no such host")
	}
	if addrs == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return addrs, nil
}

func (h *host) Dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	h.mu.Lock()
	d := &dial{h: h, network: network, to: to, at: time.Now()}
	h.dials = append(h.dials, d)
	self, hang := h.self, network == "tcp" && h.hang[to.Addr()]
	h.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var err error
	if d.Conn, err = h.net.Dial(ctx, network, self, to); err != nil {
		return nil, err
	}
	return d, nil
}

func (h *host) Source(netip.Addr) (netip.Addr, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.self.IsValid() {
		return h.self, syscall.ENETUNREACH
	}
	if h.routed.IsValid() {
		return h.routed, nil
	}
	return h.self, nil
}

func (h *host) Own() ([]netip.Prefix, error) { return h.own, h.ownErr }

func (h *host) Watch(ctx context.Context, changed func()) error {
	h.mu.Lock()
	h.change = changed
	h.mu.Unlock()
	changed()
	<-ctx.Done()
	return nil
}

// move gives the host another address, and tells.
func (h *host) move(to netip.Addr) {
	synctest.Wait() // until it is watched
	h.mu.Lock()
	h.self = to
	changed := h.change
	h.mu.Unlock()
	changed()
}

// made are the connections so far, to one network or to all.
func (h *host) made(network string) []*dial {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.dials), func(d *dial) bool {
		return network != "" && d.network != network
	})
}

// open counts connections that were not closed.
func (h *host) open() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.dials {
		if d.Conn != nil && !d.closed {
			n++
		}
	}
	return n
}
