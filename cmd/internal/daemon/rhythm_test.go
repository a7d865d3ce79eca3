package daemon

import (
	"testing"
	"time"
)

// TestRhythm: it comes close to how long a NAT remembers, stays below, and never asks
// less often than the broker wants.
func TestRhythm(t *testing.T) {
	for _, tt := range []struct {
		name          string
		most, timeout time.Duration
	}{
		{"a NAT that forgets after 30 s", 110 * time.Second, 30 * time.Second},
		{"one that forgets after 45 s", time.Minute, 45 * time.Second},
		{"one that forgets soon", 30 * time.Second, 6 * time.Second},
		{"none that forgets", 30 * time.Second, time.Hour},
		{"a broker that wants to be asked often", time.Second, time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRhythm(tt.most)
			broke := 0
			for range 50 {
				if r.now > tt.most || r.now <= 0 {
					t.Fatalf("interval %v, where the broker's is %v", r.now, tt.most)
				}
				if r.now < tt.timeout {
					r.held()
				} else {
					r.broke()
					broke++
				}
			}
			best := min(tt.most, tt.timeout)
			if r.now > best || r.now < best/2 || broke > 8 {
				t.Errorf("interval %v after %d times too long, want it near %v", r.now, broke, best)
			}
		})
	}
}

// TestRhythmLoss: one lost packet does not make it ask more often for ever.
func TestRhythmLoss(t *testing.T) {
	r := newRhythm(time.Minute)
	r.held()
	r.broke()
	if r.now >= time.Minute {
		t.Fatalf("%v after a loss", r.now)
	}
	for range 3 * rhythmAgain {
		r.held()
	}
	if r.now != time.Minute {
		t.Errorf("%v long after a loss, want the broker's %v", r.now, time.Minute)
	}
}
