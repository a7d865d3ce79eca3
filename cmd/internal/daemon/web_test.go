package daemon

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/web"
)

// movable is an office with a server, which knows whether it drains.
func movable(t *testing.T) (office, webBackend) {
	o := newOffice(t)
	server, err := broker.New(broker.Config{Provisioner: o.leases, Accounts: accounts{o.b.store}})
	if err != nil {
		t.Fatal(err)
	}
	o.b.server = server
	return o, webBackend{o.leases}
}

// TestMove: a tunnel that was never up, one that is, one of several.
func TestMove(t *testing.T) {
	o, w := movable(t)
	alice := o.user("alice", 48)
	move := func(leaseID, to string, want error) {
		t.Helper()
		if err := w.Move(t.Context(), alice.ID, leaseID, netip.MustParseAddr(to)); !errors.Is(err, want) {
			t.Errorf("move %q to %s: %v, want %v", leaseID, to, err, want)
		}
	}
	move("", "192.0.2.1", nil)
	leases, err := o.b.store.LeasesOf(t.Context(), alice.ID)
	if err != nil || len(leases) != 1 {
		t.Fatalf("%+v, %v", leases, err)
	}
	first := leases[0]
	if first.State != store.Up || first.Outer.Addr().String() != "192.0.2.1" || first.Prefix.Bits() != 48 || first.Type != tsp.V6V4 {
		t.Errorf("after the first call: %+v", first)
	}
	if live, ok := w.Live(first.ID); !ok || live.Proven || live.Outer.Addr().String() != "192.0.2.1" {
		t.Errorf("live: %+v, %v", live, ok)
	}
	move(first.ID, "192.0.2.7", nil)
	if got := o.remotes(); !slices.Equal(got, []string{"192.0.2.7"}) {
		t.Errorf("carried are %v, want the new address alone", got)
	}
	now, err := o.b.store.Lease(t.Context(), first.ID)
	if err != nil || now.Client6 != first.Client6 || now.Prefix != first.Prefix || now.Epoch <= first.Epoch {
		t.Errorf("%+v, %v", now, err)
	}
	if got := w.Totals().Tunnels; got != 1 {
		t.Errorf("%d tunnels", got)
	}
	move(first.ID, "192.0.2.2", web.ErrAddress) // the broker's own
	for _, bad := range []string{"127.0.0.1", "224.0.0.1", "0.0.0.0", "255.255.255.255", "169.254.0.1"} {
		move(first.ID, bad, web.ErrAddress)
	}
	move("x", "192.0.2.8", store.ErrNotFound)
	bob := o.user("bob", 0)
	if err := w.Move(t.Context(), bob.ID, first.ID, netip.MustParseAddr("192.0.2.8")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the tunnel of another: %v", err)
	}
	w.Drain(true)
	if !w.Draining() {
		t.Error("not draining")
	}
	move(first.ID, "192.0.2.9", nil) // it is up, so it may go on
	w.Ended(first.ID)
	w.Ended("x")
	if _, ok := w.Live(first.ID); ok || len(o.remotes()) != 0 {
		t.Error("carried after its end")
	}
	move(first.ID, "192.0.2.9", web.ErrDraining)
	w.Drain(false)
	if _, err := o.b.store.UpdateUser(t.Context(), alice.ID, func(u *store.User) error { u.Disabled = true; return nil }); err != nil {
		t.Fatal(err)
	}
	move(first.ID, "192.0.2.9", store.ErrDisabled)
}

// TestMoveTaken: who answers at an address keeps it, also when a question was lost; who
// does not loses it.
func TestMoveTaken(t *testing.T) {
	for lost := range len(takenTimes) + 1 {
		o, w := movable(t)
		answers, asked := lost < len(takenTimes), 0
		o.asks = func(context.Context, *liveLease, time.Duration) bool { asked++; return asked > lost }
		o.up(o.user("bob", 0), "192.0.2.1", tsp.Request{})
		o.mu.Lock()
		o.byOuter[at("192.0.2.1:0")].proven = true
		o.mu.Unlock()
		err := w.Move(t.Context(), o.user("alice", 0).ID, "", netip.MustParseAddr("192.0.2.1"))
		if answers != errors.Is(err, web.ErrTaken) || !answers && err != nil {
			t.Errorf("%d questions lost: %v", lost, err)
		}
	}
}

// TestSameFailures: wrong passwords at the pages are counted with those of sessions.
func TestSameFailures(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tspd.key")
	if err := os.WriteFile(file, make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	o := newOffice(t, "key-file", file)
	o.engineRoom()
	if err := o.b.openServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := o.b.webConfig()
	if err != nil || c.Failures == nil || c.Failures != o.b.failures {
		t.Errorf("%p, %v; want %p", c.Failures, err, o.b.failures)
	}
}
