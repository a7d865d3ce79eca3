package pathmtu

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/encap"
)

// TestBlackHoleAppears: from one moment on long packets vanish. The MTU falls back to 1280
// as soon as that is known, and what fits is found.
func TestBlackHoleAppears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &path{carries: 1480}
		w.run(t, Config{}, 2*time.Minute, step{30 * time.Second, func() { w.carries = 1400 }})
		i := slices.Index(w.found, 1280)
		if i != 1 || w.found[0] != 1480 || w.last() != 1400 {
			t.Fatalf("found %d", w.found)
		}
		if after := w.at[i] - 30*time.Second; after > DefaultConfirmInterval+DefaultMaxProbes*DefaultProbeTimeout+time.Second {
			t.Errorf("it took %v", after)
		}
		for j, size := range w.sizes {
			if w.times[j] > w.at[i] && size >= 1480 {
				t.Errorf("%d was tried again after %v", size, w.times[j])
			}
		}
	})
}

// TestRechecked: whoever knows that the path has changed need not wait.
func TestRechecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &path{carries: 1400}
		w.run(t, Config{}, 50*time.Second,
			step{45 * time.Second, func() { w.carries = 1480; w.p.Recheck(); w.p.Recheck() }})
		if w.last() != 1480 || w.at[len(w.at)-1] > 46*time.Second {
			t.Errorf("found %d at %v", w.found, w.at)
		}
	})
}

// TestRaises: a path that becomes wider is noticed after the raise interval.
func TestRaises(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &path{carries: 1400}
		w.run(t, Config{}, 15*time.Minute, step{time.Minute, func() { w.carries = 1480 }})
		at := w.at[len(w.at)-1]
		if w.last() != 1480 || at < 10*time.Minute || at > 11*time.Minute {
			t.Errorf("found %d at %v", w.found, w.at)
		}
	})
}

// TestSilence: a path that carries nothing for a while changes nothing, unless it carries
// less when it is back.
func TestSilence(t *testing.T) {
	for _, c := range []struct {
		name string
		back encap.TunMTU
		want []encap.TunMTU // found at the end
	}{
		{"as before", 1480, []encap.TunMTU{1480}},
		{"less", 1300, []encap.TunMTU{1480, 1280, 1300}},
		{"never back", 0, []encap.TunMTU{1480}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &path{carries: 1480}
				w.run(t, Config{}, 3*time.Minute,
					step{20 * time.Second, func() { w.carries = 0 }},
					step{50 * time.Second, func() {
						if w.p.Status() != (Status{Silent, 1480}) {
							t.Errorf("%+v", w.p.Status())
						}
						w.carries = c.back
					}})
				if !slices.Equal(w.found[:1], c.want[:1]) || w.last() != c.want[len(c.want)-1] || len(c.want) == 1 && len(w.found) != 1 ||
					len(c.want) > 1 && w.found[1] != c.want[1] {
					t.Errorf("found %d, want %d", w.found, c.want)
				}
				if c.back == 0 && len(w.sizes) > 60 {
					t.Errorf("%d probes into silence", len(w.sizes))
				}
			})
		})
	}
}

// TestCeilingFalls: a link that becomes smaller lowers the MTU at the next probe, whatever
// is answered, and nothing over it is sent any more.
func TestCeilingFalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ceiling atomic.Int64
		ceiling.Store(1480)
		w := &path{carries: 9000}
		w.run(t, Config{Ceiling: func() encap.TunMTU { return encap.TunMTU(ceiling.Load()) }}, time.Minute,
			step{25 * time.Second, func() { ceiling.Store(1400); w.p.Recheck() }})
		if !slices.Equal(w.found, []encap.TunMTU{1480, 1400}) || w.at[1] != 25*time.Second {
			t.Errorf("found %d at %v", w.found, w.at)
		}
		for i, size := range w.sizes {
			if w.times[i] >= 25*time.Second && size > 1400 {
				t.Errorf("%d sent at %v", size, w.times[i])
			}
		}
	})
}

// TestCeilingFallsInSearch: losses of a size that is not tried any more do not count for the
// one that takes its place.
func TestCeilingFallsInSearch(t *testing.T) {
	ceiling := encap.TunMTU(1480)
	cfg := Config{Ceiling: func() encap.TunMTU { return ceiling }, MaxProbes: 3}
	now := time.Unix(1e9, 0)
	s := newSearch(&cfg, now)
	try := func(want encap.TunMTU, answered bool) {
		t.Helper()
		if size, _ := s.next(now); size != want {
			t.Fatalf("%d is tried, want %d", size, want)
		}
		s.result(answered, now)
	}
	try(1280, true)
	try(1480, false)
	try(1480, false)
	ceiling = 1400
	try(1400, false)
	try(1400, false)
	try(1400, true)
	if s.current != 1400 {
		t.Errorf("found %d", s.current)
	}
}
