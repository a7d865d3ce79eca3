package keepalive

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// watched is a far end that is there or not, and what a monitor says about it.
type watched struct {
	m       *Monitor
	there   atomic.Bool
	broken  atomic.Bool // no socket can be opened
	start   time.Time
	changes []Change
	said    []string // state and seconds since the start
	conns   []*fakeConn
}

var errNoSocket = errors.New("no such device")

func newWatched(t *testing.T, cfg Config) *watched {
	t.Helper()
	w := &watched{start: time.Now()}
	cfg.Interface, cfg.Source, cfg.To = "six0", near, far
	m, err := NewMonitor(cfg, func(c Change) {
		w.changes = append(w.changes, c)
		w.said = append(w.said, c.State.String()+" "+time.Since(w.start).String())
	})
	if err != nil {
		t.Fatal(err)
	}
	m.prober.open = func(int) (conn, error) {
		if w.broken.Load() {
			return nil, errNoSocket
		}
		c := newFakeConn(func(c *fakeConn, _ int, message []byte) error {
			if w.there.Load() {
				c.later(20*time.Millisecond, replyTo(message))
			}
			return nil
		})
		w.conns = append(w.conns, c)
		return c, nil
	}
	w.m = m
	return w
}

// run lets the monitor run; toggles are when the far end goes and comes, in turn.
func (w *watched) run(t *testing.T, horizon time.Duration, toggles ...time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), horizon)
	defer cancel()
	done := make(chan error)
	go func() { done <- w.m.Run(ctx) }()
	for _, at := range toggles {
		<-time.After(at - time.Since(w.start))
		w.there.Store(!w.there.Load())
	}
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	synctest.Wait()
	for i, c := range w.conns {
		if c.closes != 1 {
			t.Errorf("socket %d was closed %d times", i, c.closes)
		}
	}
}

func (w *watched) want(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(w.said, want) {
		t.Errorf("said:\n%s\nwant:\n%s", strings.Join(w.said, "\n"), strings.Join(want, "\n"))
	}
}

func TestMonitor(t *testing.T) {
	s := time.Second
	for _, c := range []struct {
		name    string
		there   bool
		horizon time.Duration
		toggles []time.Duration
		want    []string
	}{
		{"up at once", true, 100 * s, nil, []string{"up 20ms"}},
		{"never there", false, 100 * s, nil, []string{"down 15s"}},
		{"comes later", false, 100 * s, []time.Duration{22 * s}, []string{"down 15s", "up 25.02s"}},
		{"goes", true, 200 * s, []time.Duration{40 * s}, []string{"up 20ms", "down 1m15s"}},
		{"goes and comes", true, 200 * s, []time.Duration{40 * s, 92 * s}, []string{"up 20ms", "down 1m15s", "up 1m35.02s"}},
		{"a short silence is nothing", true, 200 * s, []time.Duration{55 * s, 67 * s}, []string{"up 20ms"}},
		{"gone before the first answer, then there", false, 100 * s, []time.Duration{7 * s}, []string{"up 10.02s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatched(t, Config{})
				w.there.Store(c.there)
				w.run(t, c.horizon, c.toggles...)
				w.want(t, c.want...)
				for i, change := range w.changes {
					was := Asking
					if i > 0 {
						was = w.changes[i-1].State
					}
					if change.Was != was || (change.State == Down) != errors.Is(change.Err, ErrDead) || (change.State == Up) != (change.RTT == 20*time.Millisecond) {
						t.Errorf("%+v", change)
					}
				}
				status := w.m.Status()
				if last := w.changes[len(w.changes)-1]; status.State != last.State || !status.Since.Equal(last.At) || status.Stats.Sent == 0 {
					t.Errorf("%+v", status)
				}
			})
		})
	}
}

// TestMonitorDamps: a link that flaps is down, then up, and in the end damped: that it
// comes is not told any more until it has been quiet.
func TestMonitorDamps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, Config{Interval: time.Second, Timeout: time.Second})
		w.there.Store(true)
		var toggles []time.Duration
		for i := range 6 { // goes at 10 s, comes at 20 s, and so on
			toggles = append(toggles, time.Duration(10+10*i)*time.Second)
		}
		w.run(t, 10*time.Minute, toggles...)
		if len(w.said) != 8 {
			t.Fatalf("said %q", w.said)
		}
		var states []State
		for _, c := range w.changes {
			states = append(states, c.State)
		}
		if !slices.Equal(states, []State{Up, Down, Up, Down, Up, Down, Damped, Up}) {
			t.Errorf("said %q", w.said)
		}
		if held := w.changes[7].At.Sub(w.changes[6].At); held < 2*time.Minute || held > 3*time.Minute {
			t.Errorf("it was held for %v", held)
		}
	})
}

// TestMonitorSurvives: a socket that cannot be opened is a far end that is down, for as
// long as that is so.
func TestMonitorSurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, Config{})
		w.there.Store(true)
		w.broken.Store(true)
		time.AfterFunc(33*time.Second, func() { w.broken.Store(false) })
		w.run(t, time.Minute)
		w.want(t, "down 0s", "up 35.02s")
		if !errors.Is(w.changes[0].Err, errNoSocket) {
			t.Errorf("%v", w.changes[0].Err)
		}
	})
}

// TestDamping has the figures of the state machine alone.
func TestDamping(t *testing.T) {
	s := time.Second
	base := time.Unix(1e9, 0)
	for _, c := range []struct {
		name  string
		falls []time.Duration
		at    time.Duration
		want  State
	}{
		{"no fall", nil, 0, Up},
		{"one", []time.Duration{0}, 1 * s, Up},
		{"two at once", []time.Duration{0, 1 * s}, 2 * s, Up},
		{"three within a minute", []time.Duration{0, 30 * s, 60 * s}, 61 * s, Damped},
		{"three in five minutes", []time.Duration{0, 150 * s, 300 * s}, 301 * s, Up},
		{"one every 45 seconds, for a while", []time.Duration{0, 45 * s, 90 * s, 135 * s}, 136 * s, Damped},
		{"three within a minute, two minutes later", []time.Duration{0, 30 * s, 60 * s}, 180 * s, Damped},
		{"three within a minute, three minutes later", []time.Duration{0, 30 * s, 60 * s}, 240 * s, Up},
		{"twenty within a minute, almost five minutes later", every(20, 3*s), (57 + 295) * s, Damped},
		{"twenty within a minute, five minutes later", every(20, 3*s), (57 + 301) * s, Up},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l link
			l.answered(base)
			for _, at := range c.falls {
				if l.dead(base.Add(at)) != Down {
					t.Error("not down")
				}
				l.answered(base.Add(at))
			}
			if got := l.answered(base.Add(c.at)); got != c.want {
				t.Errorf("%v, want %v; %+v", got, c.want, l.damp)
			}
		})
	}
	var l link
	for range 100 {
		l.dead(base)
	}
	if got := l.answered(base); got != Up {
		t.Errorf("one that was never up has fallen: %v", got)
	}
}

func every(n int, d time.Duration) (times []time.Duration) {
	for i := range n {
		times = append(times, time.Duration(i)*d)
	}
	return times
}

func TestNewMonitorChecks(t *testing.T) {
	good := Config{Interface: "six0", Source: near, To: far}
	once := good
	once.Once = true
	tell := func(Change) {}
	for _, c := range []struct {
		name string
		cfg  Config
		tell func(Change)
	}{{"nobody to tell", good, nil}, {"once", once, tell}, {"what a prober refuses", Config{}, tell}} {
		if m, err := NewMonitor(c.cfg, c.tell); err == nil || m != nil {
			t.Errorf("%s: %v, %v", c.name, m, err)
		}
	}
	var names []string
	for s := Asking; s <= Damped+1; s++ {
		names = append(names, s.String())
	}
	if got := strings.Join(names, " "); got != "asking up down damped State(4)" {
		t.Error(got)
	}
}
