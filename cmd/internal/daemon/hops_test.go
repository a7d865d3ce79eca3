package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/encap/wire"
)

// fakeConn remembers the hops that it was given.
type fakeConn struct {
	mu   sync.Mutex
	hops map[[4]byte]wire.Hop
	sets int
}

func (c *fakeConn) SetHops(hops map[[4]byte]wire.Hop) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hops, c.sets = hops, c.sets+1
}

// has returns how many hops c has now, and how often it was given some.
func (c *fakeConn) has() (hops, sets int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.hops), c.sets
}

// followed is a follower of a host that does what the test says.
type followed struct {
	follower
	mu     sync.Mutex // over what the test changes and counts
	at     hopSetter
	seen   []string
	err    error
	known  map[[4]byte]wire.Hop
	hopped int // times that somebody asked for hops
	looked int // and for who looks
	out    bytes.Buffer
}

func newFollowed(c *fakeConn) *followed {
	f := &followed{at: c, known: map[[4]byte]wire.Hop{{192, 0, 2, 1}: {Link: 1}}}
	f.follower = follower{
		egress: func() ([]string, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.looked++
			return f.seen, f.err
		},
		conn: func() hopSetter {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.at
		},
		hops: func() map[[4]byte]wire.Hop {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.hopped++
			return f.known
		},
		log: slog.New(slog.NewTextHandler(&f.out, &slog.HandlerOptions{
			Level: slog.LevelDebug,
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			},
		})),
	}
	return f
}

// change changes what f sees.
func (f *followed) change(how func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how()
}

// counts returns how often f asked for hops, and who looks.
func (f *followed) counts() (hopped, looked int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hopped, f.looked
}

// during runs f until the test has looked at what it did.
func (f *followed) during(t *testing.T, look func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.run(ctx, func() {}) }()
	wait(time.Millisecond) // and from then on a little behind the ticks
	look()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
}

// wait lets d pass and all be done that is due then.
func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// TestFollowerChanges: the wire follows what looks at packets within a second,
// and says so once.
func TestFollowerChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(fakeConn)
		f := newFollowed(c)
		check := func(when, use string) {
			t.Helper()
			if hops, _ := c.has(); f.inUse() != use || (hops > 0) != (use == "packet") {
				t.Errorf("%s: %s with %d hops, want %s", when, f.inUse(), hops, use)
			}
		}
		f.during(t, func() {
			check("at the start", "packet")
			f.change(func() { f.seen = []string{"a", "b", "c", "d", "e"} })
			wait(egressInterval)
			check("seen", "raw")
			f.change(func() { f.seen = []string{"a"} })
			wait(5 * egressInterval)
			check("seen by another", "raw")
			f.change(func() { f.seen = nil })
			wait(egressInterval)
			check("not any more", "packet")
			f.change(func() { f.err = errors.New("no idea") })
			wait(egressInterval)
			check("not known", "raw")
		})
		const want = `level=INFO msg="packets are handed to the link directly"
level=INFO msg="packets go through the raw socket" reason="seen by a, b, c and 2 more"
level=INFO msg="packets are handed to the link directly"
level=INFO msg="packets go through the raw socket" reason="something may look at them: no idea"
`
		if got := f.out.String(); got != want {
			t.Errorf("log:\n%swant\n%s", got, want)
		}
	})
}

// TestFollowerStartsRaw: that is no change, so it is not for everybody's eyes.
func TestFollowerStartsRaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(fakeConn)
		f := newFollowed(c)
		f.seen = []string{"a"}
		f.during(t, func() { wait(3 * egressInterval) })
		if got, want := f.out.String(), "level=DEBUG msg=\"packets go through the raw socket\" reason=\"seen by a\"\n"; got != want {
			t.Errorf("log %q, want %q", got, want)
		}
		if f.hopped != 0 || f.inUse() != "raw" {
			t.Errorf("asked %d times for hops, wire %s", f.hopped, f.inUse())
		}
	})
}

// TestFollowerInterval: hops are asked for every second time, and at once for a
// new connection.
func TestFollowerInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(fakeConn)
		f := newFollowed(c)
		f.at = nil // there is none at first
		f.during(t, func() {
			if f.inUse() != "raw" {
				t.Errorf("without a connection: %s", f.inUse())
			}
			f.change(func() { f.at = c })
			wait(egressInterval)
			if hopped, _ := f.counts(); hopped != 1 || f.inUse() != "packet" {
				t.Errorf("a second after the connection came: asked %d times, %s", hopped, f.inUse())
			}
			wait(4 * hopInterval)
			hopped, looked := f.counts()
			if _, sets := c.has(); hopped != 5 || sets != 5 || looked != 10 {
				t.Errorf("asked %d times for hops, set %d times, asked %d times who looks; want 5, 5, 10", hopped, sets, looked)
			}
			next := new(fakeConn)
			f.change(func() { f.at = next })
			wait(egressInterval)
			if hops, _ := next.has(); hops != 1 {
				t.Errorf("the next connection has %d hops, want 1", hops)
			}
			f.change(func() { f.known = nil })
			wait(hopInterval)
			if f.inUse() != "raw" {
				t.Errorf("no next hop is known: %s, want raw", f.inUse())
			}
		})
	})
}

// TestFollowerAlways: who asked for the packet wire has it.
func TestFollowerAlways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(fakeConn)
		f := newFollowed(c)
		f.always, f.seen = true, []string{"a"}
		f.during(t, func() { wait(3 * egressInterval) })
		if len(c.hops) != 1 || f.looked != 0 || strings.Contains(f.out.String(), "raw") {
			t.Errorf("hops %v, asked %d times who looks, log %q", c.hops, f.looked, &f.out)
		}
	})
}
