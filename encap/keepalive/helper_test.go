package keepalive

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sixin4/tun/nstest"
)

type checked struct{ m *testing.M }

func (c checked) Run() int {
	code := c.m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		os.Stderr.WriteString(err.Error())
		return 1
	}
	return code
}

func TestMain(m *testing.M) { nstest.Main(checked{m}) }

// limit is how long anything here may take that takes milliseconds.
const limit = 20 * time.Second

var (
	near = netip.MustParseAddr("2001:db8::1")
	far  = netip.MustParseAddr("2001:db8::2")
)

type received struct {
	message []byte
	from    netip.Addr
	err     error
}

// fakeConn is a far end in memory, for use under testing/synctest.
type fakeConn struct {
	// far is called by send with the number of the request, from 0.
	far func(c *fakeConn, n int, message []byte) error
	// broken, if not nil, is what receive always returns.
	broken error

	start    time.Time
	in       chan received
	closed   chan struct{}
	once     sync.Once
	sent     []time.Duration // when, since start
	requests [][]byte
	receives int
	closes   int
}

func newFakeConn(far func(c *fakeConn, n int, message []byte) error) *fakeConn {
	return &fakeConn{far: far, start: time.Now(), in: make(chan received, 1000), closed: make(chan struct{})}
}

func (c *fakeConn) send(message []byte) error {
	n := len(c.sent)
	c.sent = append(c.sent, time.Since(c.start))
	c.requests = append(c.requests, bytes.Clone(message))
	return c.far(c, n, c.requests[n])
}

func (c *fakeConn) receive(b []byte, deadline time.Time) (int, netip.Addr, error) {
	c.receives++
	if c.broken != nil {
		return 0, netip.Addr{}, c.broken
	}
	wait := time.Until(deadline)
	if wait <= 0 {
		return 0, netip.Addr{}, os.ErrDeadlineExceeded
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case r := <-c.in:
		return copy(b, r.message), r.from, r.err
	case <-c.closed:
		return 0, netip.Addr{}, os.ErrClosed
	case <-timer.C:
		return 0, netip.Addr{}, os.ErrDeadlineExceeded
	}
}

func (c *fakeConn) close() error {
	c.once.Do(func() { close(c.closed) })
	c.closes++
	return nil
}

// later makes r arrive after a while.
func (c *fakeConn) later(after time.Duration, r received) {
	time.AfterFunc(after, func() { c.in <- r })
}

// replyTo returns the right answer to a request.
func replyTo(message []byte) received {
	b := bytes.Clone(message)
	b[0] = typeReply
	return received{message: b, from: far}
}

func newProber(t *testing.T, cfg Config, c *fakeConn) *Prober {
	t.Helper()
	if cfg.Interface == "" {
		cfg.Interface, cfg.Source, cfg.To = "six0", near, far
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.open = func(int) (conn, error) { return c, nil }
	return p
}

// outcome is what came of a run.
type outcome struct {
	err   error
	ended time.Duration // since its start
	stats Stats
}

// simulate runs a prober on c, with the clock of a bubble, until it ends or the
// horizon is reached.
func simulate(t *testing.T, cfg Config, c *fakeConn, horizon time.Duration) (o outcome) {
	t.Helper()
	p := newProber(t, cfg, c)
	ctx, cancel := context.WithTimeout(t.Context(), horizon)
	defer cancel()
	o.err = p.Run(ctx)
	o.ended, o.stats = time.Since(c.start), p.Stats()
	cancel()
	synctest.Wait()
	if c.closes != 1 {
		t.Errorf("the socket was closed %d times", c.closes)
	}
	return o
}
