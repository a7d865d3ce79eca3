package account

import (
	"context"
	"sync"
	"testing"
	"time"
)

// TestPauses: nobody waits for less than it was told, alone or among many, the first time
// or with what another has used.
func TestPauses(t *testing.T) {
	var p pauses
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			for n := range 5 {
				d := time.Duration(1+(i+n)%4) * time.Millisecond
				start := time.Now()
				if p.wait(t.Context(), d); time.Since(start) < d {
					t.Errorf("%v instead of %v", time.Since(start), d)
				}
			}
		})
	}
	all.Wait()
}

// TestPausesEnd: a pause ends with its context, before it begins and while it lasts, and
// the next one is as long as any.
func TestPausesEnd(t *testing.T) {
	var p pauses
	over, cancel := context.WithCancel(t.Context())
	cancel()
	p.wait(over, time.Hour)
	for range 3 {
		soon, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		p.wait(soon, time.Hour)
		cancel()
	}
	start := time.Now()
	if p.wait(t.Context(), time.Millisecond); time.Since(start) < time.Millisecond {
		t.Errorf("%v instead of a millisecond", time.Since(start))
	}
}
