package pathmtu

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sixin4/encap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// path is a path in memory. The clock is that of a bubble.
type path struct {
	p       *Prober
	carries encap.TunMTU  // longer packets vanish; 0: all do
	rtt     time.Duration // of answers
	lose    func(n int) bool
	refuse  error
	mu      sync.Mutex // held while a step changes the above

	start time.Time
	sizes []encap.TunMTU
	times []time.Duration
	found []encap.TunMTU
	at    []time.Duration // of found
}

func (w *path) Send(size encap.TunMTU) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.sizes)
	w.sizes, w.times = append(w.sizes, size), append(w.times, time.Since(w.start))
	if w.refuse != nil {
		return w.refuse
	}
	if size > w.carries || w.lose != nil && w.lose(n) {
		return nil
	}
	time.AfterFunc(w.rtt, func() { w.p.Answered(size) })
	return nil
}

func (w *path) last() encap.TunMTU {
	if len(w.found) == 0 {
		return encap.MinTunMTU
	}
	return w.found[len(w.found)-1]
}

// run lets a prober with the ceiling run on w; steps happen at their times, in order.
func (w *path) run(t *testing.T, cfg Config, horizon time.Duration, steps ...step) {
	t.Helper()
	cfg.Sender = w
	if cfg.Ceiling == nil {
		cfg.Ceiling = func() encap.TunMTU { return 1480 }
	}
	ceiling := cfg.Ceiling
	cfg.Found = func(mtu encap.TunMTU) {
		w.found, w.at = append(w.found, mtu), append(w.at, time.Since(w.start))
		if mtu < encap.MinTunMTU || mtu > max(ceiling(), encap.MinTunMTU) {
			t.Errorf("found %d", mtu)
		}
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.p, w.start = p, time.Now()
	if w.rtt == 0 {
		w.rtt = 30 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(t.Context(), horizon)
	defer cancel()
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	for _, s := range steps {
		<-time.After(s.at - time.Since(w.start))
		w.mu.Lock()
		s.do()
		w.mu.Unlock()
	}
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	synctest.Wait()
}

type step struct {
	at time.Duration
	do func()
}

// TestSearch: what is found on paths that carry different sizes and what is tried.
func TestSearch(t *testing.T) {
	for _, c := range []struct {
		name             string
		carries, ceiling encap.TunMTU
		want             encap.TunMTU
		probes           int // at most, in the first minute
	}{
		{"all of the ceiling", 1480, 1480, 1480, 10},
		{"more than the ceiling", 9000, 1480, 1480, 10},
		{"1472 (PPPoE)", 1472, 1480, 1472, 30},
		{"1380", 1380, 1480, 1380, 40},
		{"1281", 1281, 1480, 1281, 40},
		{"only 1280", 1280, 1480, 1280, 40},
		{"ceiling 1280", 1280, 1280, 1280, 10},
		{"ceiling below 1280", 1280, 600, 1280, 10},
		{"jumbo ceiling, Ethernet path", 1480, 8980, 1480, 60},
		{"the longest", encap.MaxTunMTU, encap.MaxTunMTU, encap.MaxTunMTU, 10},
		{"beyond the longest", encap.MaxTunMTU, encap.MaxTunMTU + 9, encap.MaxTunMTU, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &path{carries: c.carries}
				w.run(t, Config{Ceiling: func() encap.TunMTU { return c.ceiling }}, time.Minute)
				if w.last() != c.want || w.p.Status() != (Status{Complete, c.want}) {
					t.Errorf("found %d, %+v", w.found, w.p.Status())
				}
				if w.sizes[0] != 1280 || len(w.sizes) > c.probes || !slices.IsSorted(w.found) {
					t.Errorf("%d probes: %d", len(w.sizes), w.sizes)
				}
				if top := max(min(c.ceiling, encap.MaxTunMTU), 1280); slices.Max(w.sizes) > top {
					t.Errorf("probes over the ceiling: %d", w.sizes)
				}
				if c.want == 1280 && len(w.found) != 0 {
					t.Errorf("found %d and was there", w.found)
				}
			})
		})
	}
}

// TestRisesOnlyOnAnswers: at once at 1280, then rising: each value found is one that was
// answered just before.
func TestRisesOnlyOnAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &path{carries: 1400}
		answered := map[encap.TunMTU]bool{}
		w.lose = func(n int) bool { answered[w.sizes[n]] = true; return false }
		w.run(t, Config{}, time.Minute)
		for _, mtu := range w.found {
			if !answered[mtu] {
				t.Errorf("%d was never answered", mtu)
			}
		}
		if w.last() != 1400 || len(w.found) < 2 {
			t.Errorf("found %d", w.found)
		}
	})
}

// TestTimes: probes of one size come a timeout apart, confirmations an interval.
func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &path{carries: 1280, rtt: time.Millisecond}
		w.run(t, Config{Ceiling: func() encap.TunMTU { return 1281 }}, 25*time.Second)
		ms := time.Millisecond
		want := []time.Duration{0, 1 * ms, 1001 * ms, 2001 * ms, 13001 * ms, 23002 * ms}
		if !slices.Equal(w.times, want) || !slices.Equal(w.sizes, []encap.TunMTU{1280, 1281, 1281, 1281, 1280, 1280}) {
			t.Errorf("%d at %v", w.sizes, w.times)
		}
	})
}

// TestLossyLink: losses that say nothing about sizes do not keep the right size from being
// found, at the latest when it is searched again, and never lead over it.
func TestLossyLink(t *testing.T) {
	for _, c := range []struct {
		name string
		lose func(rnd *rand.Rand, n int) bool
	}{
		{"every second", func(_ *rand.Rand, n int) bool { return n%2 == 0 }},
		{"two of three", func(_ *rand.Rand, n int) bool { return n%3 != 0 }},
		{"10 % each way", func(rnd *rand.Rand, _ int) bool { return rnd.Float64() < 0.19 }},
		{"30 % each way", func(rnd *rand.Rand, _ int) bool { return rnd.Float64() < 0.51 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(88, 99))
				w := &path{carries: 1420}
				w.lose = func(n int) bool { return c.lose(rnd, n) }
				w.run(t, Config{}, 5*time.Hour)
				if len(w.found) == 0 || slices.Max(w.found) != 1420 {
					t.Errorf("found %d", w.found)
				}
			})
		})
	}
}

// TestAsymmetricLosses: requests get through and answers are lost, and the other way
// round; either is a loss, and a quarter of them is no reason to change what was found.
func TestAsymmetricLosses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &path{carries: 1480}
		w.lose = func(n int) bool { return n%4 == 3 }
		w.run(t, Config{}, time.Hour)
		if !slices.Equal(w.found, []encap.TunMTU{1480}) {
			t.Errorf("found %d", w.found)
		}
	})
}

// TestNeverAnswers: a far end that does not answer at all leaves the tunnel at 1280.
func TestNeverAnswers(t *testing.T) {
	for name, refuse := range map[string]error{"lost": nil, "not sent": errors.New("refused")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &path{refuse: refuse}
				w.run(t, Config{}, time.Hour)
				if len(w.found) != 0 || w.p.Status() != (Status{Silent, 1280}) || slices.Max(w.sizes) != 1280 {
					t.Errorf("found %d, %+v", w.found, w.p.Status())
				}
			})
		})
	}
}

// TestLateAnswers: on a path that takes longer than the timeout, an answer to the probe
// before counts, as it is to the same size.
func TestLateAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &path{carries: 1480, rtt: 1500 * time.Millisecond}
		w.run(t, Config{}, 2*time.Minute)
		if !slices.Equal(w.found, []encap.TunMTU{1480}) {
			t.Errorf("found %d", w.found)
		}
	})
}

// TestAnsweredNeverBlocks: more answers than anybody reads.
func TestAnsweredNeverBlocks(t *testing.T) {
	p, err := New(Config{Sender: &path{}, Ceiling: func() encap.TunMTU { return 1480 }, Found: func(encap.TunMTU) {}})
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		p.Answered(1480)
		p.Recheck()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(ctx); err != nil {
		t.Error(err)
	}
}

// TestLog: one line for what a search has come to, one for a fall, none for the steps.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		cfg := Config{Logger: slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))}
		w := &path{carries: 1400}
		w.run(t, cfg, 3*time.Minute,
			step{time.Minute, func() { w.carries = 1300 }}, step{2 * time.Minute, func() { w.carries = 0 }})
		want := `level=INFO msg="the MTU of the path is found" mtu=1400
level=WARN msg="the path carries less than it did, looking for how much" mtu=1280 was=1400
level=INFO msg="the MTU of the path is found" mtu=1300
level=WARN msg="the far end answers no echo request of 1280 bytes, so the MTU of the path cannot be found" mtu=1300
`
		if text.String() != want {
			t.Errorf("%s\nwant:\n%s", text.String(), want)
		}
	})
}

func TestNewChecks(t *testing.T) {
	good := Config{Sender: &path{}, Ceiling: func() encap.TunMTU { return 1480 }, Found: func(encap.TunMTU) {}}
	for _, c := range []struct {
		name string
		edit func(*Config)
		want string
	}{
		{"no sender", func(c *Config) { c.Sender = nil }, "path MTU: Sender, Ceiling and Found are required"},
		{"negative probes", func(c *Config) { c.MaxProbes = -1 }, "path MTU: -1 probes: want 1 to 100"},
		{"too many probes", func(c *Config) { c.MaxProbes = 101 }, "path MTU: 101 probes: want 1 to 100"},
		{"negative timeout", func(c *Config) { c.ProbeTimeout = -1 }, "path MTU: probe timeout -1ns is negative"},
		{"negative confirm interval", func(c *Config) { c.ConfirmInterval = -1 }, "path MTU: confirm interval -1ns is negative"},
		{"negative raise interval", func(c *Config) { c.RaiseInterval = -1 }, "path MTU: raise interval -1ns is negative"},
	} {
		cfg := good
		c.edit(&cfg)
		if _, err := New(cfg); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	var names []string
	for p := Base; p <= Silent+1; p++ {
		names = append(names, p.String())
	}
	if got := strings.Join(names, " "); got != "base searching complete silent Phase(4)" {
		t.Error(got)
	}
}
