package daemon

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/encap/keepalive"
)

// forgetful is a NAT in front of a far end that follows its client.
type forgetful struct {
	timeout time.Duration
	last    time.Time // that something passed
	lost    int
	dead    bool
}

// ask is keeper.ask: a request that finds the way closed opens it, and is lost.
func (f *forgetful) ask(_ context.Context, timeout time.Duration) bool {
	open := !f.last.IsZero() && time.Since(f.last) < f.timeout
	f.last = time.Now()
	if open && !f.dead {
		return true
	}
	f.lost++
	time.Sleep(timeout)
	f.last = time.Now()
	return false
}

// TestKeeper: idle for hours behind a NAT that forgets after 30 s, with an interval of two
// minutes to begin with, the tunnel is never given up, and soon hardly ever interrupted.
func TestKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &forgetful{timeout: 30 * time.Second, last: time.Now()}
		k := keeper{ask: f.ask, sent: func() uint64 { return 0 }, rhythm: newRhythm(2 * time.Minute)}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Hour)
		defer cancel()
		if err := k.run(ctx); err != nil {
			t.Errorf("given up: %v", err)
		}
		if f.lost > 60 {
			t.Errorf("%d requests were lost in ten hours", f.lost)
		}
	})
}

// TestKeeperDead: three lost requests in a row are the end, and a hint makes them come now.
func TestKeeperDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &forgetful{timeout: time.Hour, last: time.Now()}
		hint := make(chan struct{}, 1)
		k := keeper{ask: f.ask, sent: func() uint64 { return 0 }, hint: hint, rhythm: newRhythm(10 * time.Minute)}
		ended := make(chan error, 1)
		begun := time.Now()
		go func() { ended <- k.run(t.Context()) }()
		synctest.Wait()
		f.dead = true
		hint <- struct{}{}
		if err := <-ended; !errors.Is(err, keepalive.ErrDead) {
			t.Errorf("ended with %v", err)
		}
		if took := time.Since(begun); took != keepalive.DefaultLosses*keepalive.DefaultTimeout {
			t.Errorf("known after %v", took)
		}
	})
}

// TestKeeperBusy: with other packets on the way a lost request says nothing about NAT.
func TestKeeperBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &forgetful{timeout: 30 * time.Second, last: time.Now()}
		n := uint64(0)
		k := keeper{ask: f.ask, sent: func() uint64 { n++; return n }, rhythm: newRhythm(time.Minute)}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := k.run(ctx); err != nil || k.rhythm.now != time.Minute {
			t.Errorf("%v, interval %v; want that of the broker", err, k.rhythm.now)
		}
	})
}
