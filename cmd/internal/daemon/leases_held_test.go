package daemon

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/web"
)

// restarted is an office that has just been started anew, with tunnels of alice at
// 192.0.2.1 and of nobody at 192.0.2.3, neither of which has answered yet.
func restarted(t *testing.T) (o office, alice *broker.User) {
	o = newOffice(t)
	alice = o.user("alice", 0)
	o.up(alice, "192.0.2.1", tsp.Request{})
	o.up(nil, "192.0.2.3", tsp.Request{})
	live, err := o.b.store.Live(t.Context(), o.b.node())
	if err != nil || len(live) != 2 {
		t.Fatalf("%v, %v: want two", live, err)
	}
	o.leases = newLeases(o.b)
	o.leases.asks = nobodyAnswers
	o.b.leases = o.leases
	for _, l := range live {
		o.leases.resume(l)
	}
	return o, alice
}

// TestLeaseHeld: a tunnel of the run before that has not answered yet is not ousted by who
// only claims to have its address.
func TestLeaseHeld(t *testing.T) {
	o, alice := restarted(t)
	bob := o.user("bob", 0)
	both := []string{"192.0.2.1", "192.0.2.3"}
	for _, tt := range []struct {
		user *broker.User
		at   string
	}{{nil, "192.0.2.1"}, {bob, "192.0.2.1"}, {bob, "192.0.2.3"}} {
		if g, err := o.byDatagram(tt.user, tt.at); !isCode(err, tsp.IPv4InUse) {
			t.Errorf("%+v at %s: %+v, %v; want status %d", tt.user, tt.at, g, err, tsp.IPv4InUse)
		}
	}
	before := o.byOuter[at("192.0.2.3:0")]
	g, err := o.byDatagram(nil, "192.0.2.3") // nobody again: the same host for all that is known
	if err != nil || g.Tunnel.Client6 != before.Client6 {
		t.Fatalf("%+v, %v; want %v again", g, err, before.Client6)
	}
	o.doubts, before.asking = nil, false
	if err := o.Accept(t.Context(), g); err != nil || !slices.Contains(o.doubts, before) {
		t.Errorf("%v: who comes back is not asked at once", err)
	}
	o.Close(g, false)
	w := webBackend{o.leases}
	o.b.server, err = broker.New(broker.Config{Provisioner: o.leases, Accounts: accounts{o.b.store}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Move(t.Context(), bob.ID, "", netip.MustParseAddr("192.0.2.1")); !errors.Is(err, web.ErrTaken) {
		t.Errorf("by /nic/update: %v", err)
	}
	if got := o.remotes(); !slices.Equal(got, both) {
		t.Errorf("carried are %v, want both", got)
	}
	for _, l := range o.byID {
		if s, err := o.b.store.Lease(t.Context(), l.ID); err != nil || s.State != store.Up {
			t.Errorf("%s is %s, %v", l.Outer, s.State, err)
		}
	}
	// The owner may come back, and who has shown to have the address may have it.
	if _, err := o.byDatagram(alice, "192.0.2.1"); err != nil {
		t.Errorf("alice: %v", err)
	}
	_, err = o.Offer(t.Context(), broker.Ask{
		User: bob, Request: &tsp.Request{}, Version: tsp.V202, Type: tsp.V6V4, Outer: netip.MustParseAddr("192.0.2.1"),
		From: netip.MustParseAddrPort("192.0.2.1:4711"), Hears: true,
	})
	if err != nil {
		t.Errorf("bob over TCP: %v", err)
	}
}

// TestLeaseHeed: what an operator ends by a command ends within seconds, whatever the
// command was.
func TestLeaseHeed(t *testing.T) {
	for name, end := range map[string]func(o office, userID string, l store.Lease) error{
		"remove": func(o office, userID string, _ store.Lease) error { return o.b.store.RemoveUser(o.t.Context(), userID) },
		"disable": func(o office, userID string, _ store.Lease) error {
			_, err := o.b.store.UpdateUser(o.t.Context(), userID, func(u *store.User) error { u.Disabled = true; return nil })
			return err
		},
		"drop": func(o office, _ string, l store.Lease) error {
			return o.b.store.Deactivate(o.t.Context(), l.ID, l.Epoch)
		},
		"release": func(o office, _ string, l store.Lease) error { return o.b.store.Release(o.t.Context(), l.ID, l.Epoch) },
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			alice, begin := o.user("alice", 0), time.Now()
			o.up(alice, "192.0.2.1", tsp.Request{})
			o.up(o.user("bob", 0), "192.0.2.3", tsp.Request{})
			for range 2 { // alice comes again: her first session is over, and she is not
				if !o.heed(t.Context(), begin, make(map[string]time.Time)) || len(o.remotes()) != 2 {
					t.Fatalf("carried are %v, want both", o.remotes())
				}
				o.up(alice, "192.0.2.1", tsp.Request{})
			}
			l := o.byOuter[at("192.0.2.1:0")].Lease
			if err := end(o, alice.ID, l); err != nil {
				t.Fatal(err)
			}
			<-o.changed
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- o.keep(ctx, func() {}) }()
			select {
			case <-o.changed:
			case <-time.After(10 * heedInterval):
				t.Error("nothing changes")
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if got := o.remotes(); !slices.Equal(got, []string{"192.0.2.3"}) {
				t.Errorf("carried are %v", got)
			}
		})
	}
}

// TestLeaseNoQuarantine: what was a removed user's is another's at once, and the engine
// carries it for that one.
func TestLeaseNoQuarantine(t *testing.T) {
	o := newOffice(t)
	o.engineRoom()
	alice := o.user("alice", 48)
	router := tsp.Request{Router: &tsp.Router{}}
	o.up(alice, "192.0.2.1", router)
	o.handOver(t.Context())
	if err := o.b.store.RemoveUser(t.Context(), alice.ID); err != nil {
		t.Fatal(err)
	}
	o.up(o.user("bob", 48), "192.0.2.3", router)
	for range 2 {
		o.handOver(t.Context())
	}
	want := []string{"192.0.2.3[2001:db8:1000::2/128 2001:db8:1001::/48]"}
	if got := o.enginePeers(); !slices.Equal(got, want) {
		t.Errorf("the engine has %v, want %v", got, want)
	}
	if got := o.remotes(); !slices.Equal(got, []string{"192.0.2.3"}) {
		t.Errorf("carried are %v", got)
	}
}
