package client_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/client"
	"sixin4/tsp/tsptest"
)

var (
	brokerAddr = netip.MustParseAddr("192.0.2.1")
	selfAddr   = netip.MustParseAddr("198.51.100.7")
	otherAddr  = netip.MustParseAddr("203.0.113.9")
)

// long is more than anything takes that is waited for.
const long = 1000 * time.Hour

// path is what carries packets in a test: nothing.
type path struct {
	mu    sync.Mutex
	ups   []*client.Lease
	times []time.Time
	fail  error      // of Up
	block bool       // in Up, until ctx ends
	dead  chan error // what Watch returns
}

func (p *path) Up(ctx context.Context, l *client.Lease) error {
	p.mu.Lock()
	p.ups, p.times = append(p.ups, l), append(p.times, time.Now())
	fail, block := p.fail, p.block
	p.mu.Unlock()
	if block {
		<-ctx.Done()
		return ctx.Err()
	}
	return fail
}

func (p *path) Watch(ctx context.Context, _ *client.Lease) error {
	select {
	case err := <-p.dead:
		return err
	case <-ctx.Done():
		return nil
	}
}

func (p *path) leases() []*client.Lease {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.ups)
}

// world is a client with all around it.
type world struct {
	t *testing.T
	*host
	*path
	client *client.Client
	events chan client.Event
	ended  chan error
	cancel context.CancelFunc
}

// inWorld runs a test whose clock only moves when everybody waits. A goroutine that is
// left behind fails it.
func inWorld(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f(t, &world{
			t:      t,
			host:   &host{self: selfAddr, names: make(map[string][]netip.Addr), hang: make(map[netip.Addr]bool)},
			path:   &path{dead: make(chan error)},
			events: make(chan client.Event, 10000),
		})
	})
}

// broker serves at an address; networks are "tcp", "udp" or both when none is named.
func (w *world) broker(at netip.Addr, c tsptest.Config, networks ...string) *tsptest.Broker {
	w.t.Helper()
	return w.brokerBehind(at, 0, c, networks...)
}

// brokerBehind is a broker that all datagrams reach late.
func (w *world) brokerBehind(at netip.Addr, delay time.Duration, c tsptest.Config, networks ...string) *tsptest.Broker {
	w.t.Helper()
	if c.Users == nil {
		c.Users = map[string]string{"alice": "secret"}
	}
	b := tsptest.New(c)
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	w.t.Cleanup(serving.Wait)
	w.t.Cleanup(cancel)
	addr := netip.AddrPortFrom(at, client.DefaultPort)
	if len(networks) == 0 || slices.Contains(networks, "tcp") {
		l, err := w.net.Listen(addr)
		if err != nil {
			w.t.Fatal(err)
		}
		serving.Go(func() { _ = b.Serve(ctx, l) })
	}
	if len(networks) == 0 || slices.Contains(networks, "udp") {
		p, err := w.net.ListenPacket(addr)
		if err != nil {
			w.t.Fatal(err)
		}
		serving.Go(func() { _ = b.ServePackets(ctx, late{p, delay}) })
	}
	return b
}

// late delivers datagrams after a while.
type late struct {
	net.PacketConn
	delay time.Duration
}

func (l late) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := l.PacketConn.ReadFrom(b)
	if l.delay > 0 {
		<-time.After(l.delay)
	}
	return n, from, err
}

// blackHole swallows all that is sent to an address.
func (w *world) blackHole(at netip.Addr) {
	w.t.Helper()
	p, err := w.net.ListenPacket(netip.AddrPortFrom(at, client.DefaultPort))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { p.Close() })
	w.hang[at] = true
}

// config is a client of the broker at brokerAddr, with an account.
func (w *world) config() client.Config {
	return client.Config{
		Servers: []client.Server{{Host: brokerAddr.String()}},
		User:    "alice", Password: "secret",
		Request: tsp.Request{Type: tsp.V6V4, Keepalive: 30 * time.Second},
		Network: w.host, Path: w.path,
		Observe: func(e client.Event) { w.events <- e },
	}
}

// start runs a client until stop, or the end of the test.
func (w *world) start(c client.Config) {
	w.t.Helper()
	k, err := client.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.client, w.cancel, w.ended = k, cancel, make(chan error, 1)
	go func() { w.ended <- k.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		synctest.Wait()
		if n := w.open(); n != 0 {
			w.t.Errorf("%d connections were left open", n)
		}
	})
}

// stop ends the client, which must not take any time, nor be an error.
func (w *world) stop() {
	w.t.Helper()
	begin := time.Now()
	w.cancel()
	if err := <-w.ended; err != nil {
		w.t.Errorf("Run: %v", err)
	}
	if took := time.Since(begin); took != 0 {
		w.t.Errorf("Run took %v to end", took)
	}
}

// end waits for Run to end by itself.
func (w *world) end() error {
	w.t.Helper()
	select {
	case err := <-w.ended:
		return err
	case <-time.After(long):
		w.t.Fatal("Run does not end")
		return nil
	}
}

// failure is the Error that Run ends with.
func (w *world) failure() *client.Error {
	w.t.Helper()
	var e *client.Error
	if err := w.end(); !errors.As(err, &e) {
		w.t.Fatalf("Run: %v", err)
	}
	return e
}

// run runs a client that ends by itself, and lets the broker see its end.
func (w *world) run(c client.Config) error {
	w.t.Helper()
	w.start(c)
	err := w.end()
	synctest.Wait()
	return err
}

// pass lets time pass, to its end: all that happens at that moment has happened.
func (w *world) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// await waits for an event of a type; those before it are forgotten.
func await[E client.Event](w *world) E {
	w.t.Helper()
	timeout := time.After(long)
	for {
		select {
		case e := <-w.events:
			if e, ok := e.(E); ok {
				return e
			}
		case err := <-w.ended:
			w.ended <- err
			w.t.Fatalf("Run has ended: %v", err)
		case <-timeout:
			w.t.Fatalf("no %T", *new(E))
		}
	}
}

// happened are the events of a type so far; all others are forgotten.
func happened[E client.Event](w *world) (all []E) {
	synctest.Wait()
	for {
		select {
		case e := <-w.events:
			if e, ok := e.(E); ok {
				all = append(all, e)
			}
		default:
			return all
		}
	}
}

// memory is a client.Memory; its zero value is empty.
type memory struct {
	last string
	list []string
	err  error // of writing, when nothing is written
}

func (m *memory) Last() (string, bool) { return m.last, m.last != "" }
func (m *memory) List() []string       { return m.list }

func (m *memory) SetLast(s string) error {
	if m.err == nil {
		m.last = s
	}
	return m.err
}

func (m *memory) SetList(list []string) error {
	if m.err == nil {
		m.list = list
	}
	return m.err
}
