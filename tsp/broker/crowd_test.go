package broker_test

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"sixin4/tsp"
	"sixin4/tsp/broker"
)

// loggedIn are sessions over UDP, each from an address of its own, oldest first.
func (w *world) loggedIn(n int) (all []talk) {
	w.t.Helper()
	for i := range n {
		k := w.talk("udp", address(i))
		if err := k.in(w.t.Context(), tsp.V202, byScram); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, k)
	}
	return all
}

// TestCrowdInOrder: of those that wait over UDP, the oldest session goes first, and
// nobody is sent away.
func TestCrowdInOrder(t *testing.T) {
	inWorld(t, func(c *broker.Config) { c.Limits.Running = 1 }, func(t *testing.T, w *world) {
		var order []netip.Addr // by one goroutine at a time
		first := make(chan struct{})
		w.pool.offer = func(ctx context.Context, a broker.Ask) (*broker.Grant, error) {
			if len(order) == 0 {
				<-first
			}
			order = append(order, a.Outer)
			return goodGrant(ctx, a)
		}
		clients := w.loggedIn(6)
		var all sync.WaitGroup
		for _, n := range []int{5, 3, 4, 0, 2, 1} { // the youngest is being served when the others come
			all.Go(func() {
				_, err := clients[n].Create(t.Context(), request(tsp.V6V4, address(n)))
				if err == nil {
					err = clients[n].Accept(t.Context())
				}
				if err != nil {
					t.Errorf("client %d: %v", n, err)
				}
			})
			synctest.Wait()
		}
		close(first)
		all.Wait()
		want := []netip.Addr{address(5), address(0), address(1), address(2), address(3), address(4)}
		if !slices.Equal(order, want) {
			t.Errorf("served %v, want %v", order, want)
		}
		if s := w.Stats(); s.Tunnels != 6 || s.Drops[broker.DropBusy] != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestCrowdTooLarge: those for whom there is no room ask again, and come in later.
func TestCrowdTooLarge(t *testing.T) {
	inWorld(t, func(c *broker.Config) { c.Limits.Running, c.Limits.Waiting = 1, 1 }, func(t *testing.T, w *world) {
		first := make(chan struct{})
		w.pool.offer = func(ctx context.Context, a broker.Ask) (*broker.Grant, error) {
			<-first
			return goodGrant(ctx, a)
		}
		var all sync.WaitGroup
		for n, k := range w.loggedIn(4) {
			all.Go(func() {
				if _, err := k.Create(t.Context(), request(tsp.V6V4, address(n))); err != nil {
					t.Errorf("client %d: %v", n, err)
				}
			})
			synctest.Wait() // one is served, one waits
		}
		if s := w.Stats(); s.Drops[broker.DropBusy] != 2 {
			t.Errorf("%+v, want 2 messages for which there was no room", s)
		}
		close(first)
		all.Wait()
	})
}
