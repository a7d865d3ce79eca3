package client_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"sixin4/tsp"
	"sixin4/tsp/client"
	"sixin4/tsp/sasl"
	"sixin4/tsp/tsptest"
)

var (
	hostileBroker = netip.MustParseAddr("192.0.2.1")
	hostileSelf   = netip.MustParseAddr("192.0.2.2")
	hostileLAN    = netip.MustParsePrefix("2001:db8:7::/64")
)

const (
	hostileNegotiation = time.Minute     // with one broker, as the package documents
	hostileAttempt     = 5 * time.Minute // with all
	hostileSession     = 1 << 20         // bytes that a session may cost
)

// hostileHost is this host: a network in memory, and a LAN of its own.
type hostileHost struct{ *tsptest.Net }

func (h hostileHost) Resolve(_ context.Context, host string) ([]netip.Addr, error) {
	a, err := netip.ParseAddr(host)
	return []netip.Addr{a}, err
}

func (h hostileHost) Dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	return h.Net.Dial(ctx, network, hostileSelf, to)
}

func (h hostileHost) Source(netip.Addr) (netip.Addr, error) { return hostileSelf, nil }

func (h hostileHost) Own() ([]netip.Prefix, error) { return []netip.Prefix{hostileLAN}, nil }

func (h hostileHost) Watch(ctx context.Context, changed func()) error {
	changed()
	<-ctx.Done()
	return nil
}

// hostilePath notes which leases it was given.
type hostilePath struct {
	mu  sync.Mutex
	ups []*client.Lease
}

func (p *hostilePath) Up(_ context.Context, l *client.Lease) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ups = append(p.ups, l)
	return nil
}

func (p *hostilePath) Watch(ctx context.Context, _ *client.Lease) error {
	<-ctx.Done()
	return nil
}

// hostileServe runs a broker at an address until the test ends.
func hostileServe(t *testing.T, n *tsptest.Net, at netip.Addr, c tsptest.Config) *tsptest.Broker {
	t.Helper()
	addr := netip.AddrPortFrom(at, client.DefaultPort)
	l, err := n.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	p, err := n.ListenPacket(addr)
	if err != nil {
		t.Fatal(err)
	}
	c.Users = map[string]string{"alice": "secret"}
	b := tsptest.New(c)
	hostileRunBroker(t, b, l, p)
	return b
}

func hostileRunBroker(t *testing.T, b *tsptest.Broker, l net.Listener, p net.PacketConn) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- b.Serve(ctx, l) }()
	go func() { ended <- b.ServePackets(ctx, p) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, <-ended); err != nil {
			t.Error(err)
		}
	})
}

// hostileConfig is a client that ends with its first lease or failure.
func hostileConfig(network string, host client.Network, path client.Path) client.Config {
	return client.Config{
		Servers: []client.Server{{Host: hostileBroker.String()}},
		Method:  sasl.DigestMD5, User: "alice", Password: "secret",
		Request:   tsp.Request{Type: tsp.V6V4, Keepalive: 30 * time.Second},
		Transport: map[string]client.Transport{"tcp": client.TCP, "udp": client.UDP}[network],
		GiveUp:    client.Always, Once: true,
		Network: host, Path: path,
	}
}

// hostileRun runs a client to its end, and checks what must hold whatever the broker
// does: it ends in time, with a lease that may be set up or an Error fit for a log,
// and leaves no goroutine behind.
func hostileRun(t *testing.T, c client.Config, p *hostilePath, limit time.Duration) (*client.Lease, error) {
	t.Helper()
	k, err := client.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
	defer cancel()
	start := time.Now()
	err = k.Run(ctx)
	if took := time.Since(start); took > limit {
		t.Errorf("took %v", took)
	}
	if left := hostileGoroutines(); left != "" {
		t.Errorf("left behind: %s", left)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		hostileCheckError(t, err)
		if len(p.ups) != 0 {
			t.Errorf("set up %d times in spite of %v", len(p.ups), err)
		}
		return nil, err
	}
	if len(p.ups) != 1 {
		t.Fatalf("set up %d times", len(p.ups))
	}
	tunnel := p.ups[0].Tunnel
	if err := errors.Join(tunnel.Check(), tunnel.Conflict([]netip.Prefix{hostileLAN})); err != nil {
		t.Errorf("set up %+v: %v", tunnel, err)
	}
	return p.ups[0], nil
}

func hostileCheckError(t *testing.T, err error) {
	t.Helper()
	var e *client.Error
	if !errors.As(err, &e) || e.Stage == "" || e.Server == "" {
		t.Errorf("no stage: %v", err)
	}
	if s := err.Error(); len(s) > 1000 || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("not fit for a log: %q", s)
	}
}

// hostileGoroutines is a goroutine of the package; none when all have ended, or have
// nothing left to do but that.
func hostileGoroutines() (left string) {
	buf := make([]byte, 1<<16)
	for range 1000 {
		all := string(buf[:runtime.Stack(buf, true)])
		if left = ""; !strings.Contains(all, "sixin4/tsp/client.") {
			return ""
		}
		for g := range strings.SplitSeq(all, "\n\n") {
			if strings.Contains(g, "sixin4/tsp/client.") {
				left = g
			}
		}
		runtime.Gosched()
	}
	return left
}
