package keepalive

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// TestAskForReal: hosts that are there are found, and one that is not is not.
func TestAskForReal(t *testing.T) {
	here, there := twoLinks(t)
	const hosts = 40
	for i := range hosts {
		if err := there.AddAddr("b0", host(i).String()+"/64"); err != nil {
			t.Fatal(err)
		}
	}
	a, err := NewAsker(AskerConfig{Interface: "a0", Source: near})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var run, all sync.WaitGroup
	defer run.Wait()
	defer cancel()
	run.Go(func() {
		if err := here.Do(func() error { return a.Run(ctx) }); err != nil {
			t.Error(err)
		}
	})
	for i := range hosts {
		all.Go(func() {
			if err := a.Ask(ctx, host(i), limit); err != nil {
				t.Errorf("%v: %v", host(i), err)
			}
		})
	}
	all.Go(func() {
		if err := a.Ask(ctx, host(hosts), 50*time.Millisecond); !errors.Is(err, ErrDead) {
			t.Errorf("nobody: %v", err)
		}
	})
	all.Wait()
}

// host is an address of the far end's link.
func host(i int) netip.Addr {
	b := far.As16()
	b[14], b[15] = 1, byte(i)
	return netip.AddrFrom16(b)
}
