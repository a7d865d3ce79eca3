package keepalive

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// manyFake is a fakeConn to any far end.
type manyFake struct {
	*fakeConn
	mu sync.Mutex
	to []netip.Addr
}

func (m *manyFake) sendTo(message []byte, to netip.Addr) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.to = append(m.to, to)
	return m.send(message)
}

func (m *manyFake) receive(b []byte, deadline time.Time) (int, netip.Addr, error) {
	if deadline.IsZero() {
		deadline = time.Now().Add(1000 * time.Hour)
	}
	return m.fakeConn.receive(b, deadline)
}

// asking runs an Asker in a bubble, with far ends that f gives voice.
func asking(t *testing.T, f func(m *manyFake, to netip.Addr, request []byte) error, use func(ctx context.Context, a *Asker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a, err := NewAsker(AskerConfig{Interface: "six0", Source: near})
		if err != nil {
			t.Fatal(err)
		}
		m := &manyFake{}
		m.fakeConn = newFakeConn(func(_ *fakeConn, n int, request []byte) error { return f(m, m.to[n], request) })
		a.open = func(int) (manyConn, error) { return m, nil }
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() {
			if err := a.Run(ctx); err != nil {
				t.Errorf("run: %v", err)
			}
		})
		use(ctx, a)
		cancel()
		run.Wait()
		if len(a.waiting) > 0 {
			t.Errorf("%d requests are remembered", len(a.waiting))
		}
	})
}

// answerOf is the reply to a request.
func answerOf(request []byte) []byte {
	r := append([]byte(nil), request...)
	r[0] = typeReply
	return r
}

func TestAsk(t *testing.T) {
	other := netip.MustParseAddr("2001:db8::3")
	changed := func(request []byte, at int) []byte {
		r := answerOf(request)
		r[at] ^= 1
		return r
	}
	for _, tt := range []struct {
		name   string
		answer func(request []byte) (message []byte, from netip.Addr)
		dead   bool
	}{
		{"answered", func(q []byte) ([]byte, netip.Addr) { return answerOf(q), far }, false},
		{"by another", func(q []byte) ([]byte, netip.Addr) { return answerOf(q), other }, true},
		{"another nonce", func(q []byte) ([]byte, netip.Addr) { return changed(q, headerLen), far }, true},
		{"another number", func(q []byte) ([]byte, netip.Addr) { return changed(q, 7), far }, true},
		{"another identifier", func(q []byte) ([]byte, netip.Addr) { return changed(q, 5), far }, true},
		{"another code", func(q []byte) ([]byte, netip.Addr) { return changed(q, 1), far }, true},
		{"the request itself", func(q []byte) ([]byte, netip.Addr) { return q, far }, true},
		{"longer", func(q []byte) ([]byte, netip.Addr) { return append(answerOf(q), 0), far }, true},
		{"shorter", func(q []byte) ([]byte, netip.Addr) { return answerOf(q)[:messageLen-1], far }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			say := func(m *manyFake, _ netip.Addr, request []byte) error {
				message, from := tt.answer(request)
				m.in <- received{message, from, nil}
				return nil
			}
			asking(t, say, func(ctx context.Context, a *Asker) {
				start := time.Now()
				err := a.Ask(ctx, far, time.Second)
				if errors.Is(err, ErrDead) != tt.dead || !tt.dead && err != nil {
					t.Errorf("error %v", err)
				}
				if took := time.Since(start); tt.dead && took != time.Second || !tt.dead && took != 0 {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// TestAskMany: each hears its own answer, whatever the order, and a broken socket now and
// then does not matter.
func TestAskMany(t *testing.T) {
	const n = 500
	var asked [][]byte
	var whom []netip.Addr
	say := func(m *manyFake, to netip.Addr, request []byte) error {
		asked, whom = append(asked, request), append(whom, to)
		if len(asked) < n {
			return nil
		}
		m.in <- received{nil, netip.Addr{}, errors.New("no buffer space")}
		for i := range n {
			if i%5 != 0 { // those are not there
				m.in <- received{answerOf(asked[n-1-i]), whom[n-1-i], nil}
			}
		}
		return nil
	}
	asking(t, say, func(ctx context.Context, a *Asker) {
		var all sync.WaitGroup
		var found, dead atomic.Int32
		for i := range n {
			to := far.As16()
			to[14], to[15] = byte(i>>8), byte(i)
			all.Go(func() {
				switch err := a.Ask(ctx, netip.AddrFrom16(to), time.Minute); {
				case err == nil:
					found.Add(1)
				case errors.Is(err, ErrDead):
					dead.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		all.Wait()
		if found.Load() != n/5*4 || dead.Load() != n/5 {
			t.Errorf("%d found, %d dead", found.Load(), dead.Load())
		}
	})
}

func TestAskEnds(t *testing.T) {
	silent := func(*manyFake, netip.Addr, []byte) error { return errors.New("network is down") }
	asking(t, silent, func(ctx context.Context, a *Asker) {
		if err := a.Ask(ctx, far, time.Second); !errors.Is(err, ErrDead) {
			t.Errorf("a request that cannot be sent: %v", err)
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := a.Ask(short, far, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cancelled: %v", err)
		}
		if err := a.Ask(ctx, netip.MustParseAddr("192.0.2.1"), time.Second); err == nil || !strings.Contains(err.Error(), "destination") {
			t.Errorf("IPv4: %v", err)
		}
	})
	a, err := NewAsker(AskerConfig{Interface: "six0", Source: near})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Ask(ctx, far, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("before Run: %v", err)
	}
	errOpen := errors.New("no")
	a.open = func(int) (manyConn, error) { return nil, errOpen }
	if err := a.Run(t.Context()); !errors.Is(err, errOpen) {
		t.Errorf("no socket: %v", err)
	}
}

func TestAskerConfig(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  AskerConfig
		ok   bool
	}{
		{"right", AskerConfig{Interface: "six0", Source: near}, true},
		{"no interface", AskerConfig{Source: near}, false},
		{"a name too long", AskerConfig{Interface: strings.Repeat("x", 16), Source: near}, false},
		{"IPv4", AskerConfig{Interface: "six0", Source: netip.MustParseAddr("192.0.2.1")}, false},
		{"nobody", AskerConfig{Interface: "six0"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := NewAsker(tt.cfg); (err == nil) != tt.ok {
				t.Errorf("error %v", err)
			}
		})
	}
}
