package daemon

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sixin4/cmd/internal/config"
	"sixin4/encap/engine"
	"sixin4/tsp"
	"sixin4/tsp/broker"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/store/sqlite"
)

// office is a brokerage with a store and without an engine.
type office struct {
	*leases
	t *testing.T
}

// officeHost has the address that the office listens at.
type officeHost struct{ *fakeHost }

func (officeHost) HasAddress(a netip.Addr) (bool, error) { return a.String() == "192.0.2.2", nil }

func newOffice(t *testing.T, pairs ...string) office {
	t.Helper()
	raw := make(config.Raw)
	for i := 0; i < len(pairs); i += 2 {
		raw.Set(config.Key(pairs[i]), pairs[i+1])
	}
	raw.Set(config.Prefix, "2001:db8:1000::/36")
	raw.Set(config.Listen, "192.0.2.2")
	cfg, err := config.CheckBroker(raw)
	if err != nil {
		t.Fatal(err)
	}
	b := &brokerage{tunnel: newTunnel(brokerSettings(cfg), Env{fake: officeHost{twoPeers()}}), cfg: cfg, listen: cfg.Listen}
	b.store, err = sqlite.Open(t.Context(), sqlite.Config{
		Path: filepath.Join(t.TempDir(), "tspd.db"), Config: store.Config{Pool: cfg.Prefix, Quarantine: -1},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.dns = b.resolvers(b.ownAddress())
	b.leases = newLeases(b)
	b.leases.asks = nobodyAnswers
	t.Cleanup(func() {
		if err := errors.Join(b.undo.Undo(), b.store.Close()); err != nil {
			t.Error(err)
		}
	})
	return office{b.leases, t}
}

// at is an end at the first socket.
func at(text string) engine.End { return engine.End{AddrPort: netip.MustParseAddrPort(text)} }

// nobodyAnswers is for leases.asks.
func nobodyAnswers(context.Context, *liveLease, time.Duration) bool { return false }

func (o office) user(name string, prefix int) *broker.User {
	o.t.Helper()
	u, err := o.b.store.AddUser(o.t.Context(), store.User{Name: name, PrefixLen: prefix})
	if err != nil {
		o.t.Fatal(err)
	}
	return &broker.User{ID: u.ID, Name: u.Name, PrefixLen: u.PrefixLen}
}

// request asks for a tunnel from an outer address; u is nil for nobody.
func (o office) request(u *broker.User, outer string, r tsp.Request) (*broker.Grant, error) {
	r.Action, r.Type, r.Client = tsp.ActionCreate, tsp.V6V4, netip.MustParseAddr(outer)
	return o.Offer(o.t.Context(), broker.Ask{
		User: u, Request: &r, Version: tsp.V202, Type: tsp.V6V4, Outer: r.Client, From: netip.AddrPortFrom(r.Client, 4711),
		Hears: true,
	})
}

// up is request and Accept, and returns the tunnel.
func (o office) up(u *broker.User, outer string, r tsp.Request) *tsp.Tunnel {
	o.t.Helper()
	g, err := o.request(u, outer, r)
	if err == nil {
		err = o.Accept(o.t.Context(), g)
	}
	if err != nil {
		o.t.Fatal(err)
	}
	return g.Tunnel
}

// settle is handOver without an engine.
func (o office) settle() {
	fresh, _, _ := o.news()
	for _, l := range fresh {
		o.doubt(l)
	}
}

// all are the tunnels as the engine wants them.
func (o office) all() []PlannedPeer { return o.peers(1000) }

// remotes are the outer addresses that are carried.
func (o office) remotes() (list []string) {
	for _, p := range o.all() {
		list = append(list, p.Remote.String())
	}
	slices.Sort(list)
	return list
}

func TestLeaseOffer(t *testing.T) {
	o := newOffice(t, "dns", "2001:db8:53::1", "keepalive", "40s")
	alice := o.user("alice", 48)
	router := tsp.Request{Router: &tsp.Router{}, Keepalive: 10 * time.Second}
	first := o.up(alice, "192.0.2.1", router)
	want := tsp.Tunnel{
		Type: tsp.V6V4, Lifetime: o.b.cfg.Lifetime,
		Server4: netip.MustParseAddr("192.0.2.2"), Client4: netip.MustParseAddr("192.0.2.1"),
		Server6: netip.MustParseAddr("2001:db8:1000::1"), Client6: netip.MustParseAddr("2001:db8:1000::2"),
		Prefix: netip.MustParsePrefix("2001:db8:1001::/48"), DNS: []netip.Addr{netip.MustParseAddr("2001:db8:53::1")},
		Keepalive: 40 * time.Second, KeepaliveTo: netip.MustParseAddr("2001:db8:1000::1"),
	}
	if got, want := mustText(t, first), mustText(t, &want); got != want {
		t.Errorf("offer\n%s\nwant\n%s", got, want)
	}
	again := o.up(alice, "192.0.2.99", router)
	if again.Client6 != first.Client6 || again.Prefix != first.Prefix {
		t.Errorf("from another address %v %v, want the same as before", again.Client6, again.Prefix)
	}
	if got := o.remotes(); !slices.Equal(got, []string{"192.0.2.99"}) {
		t.Errorf("carried are %v, want the new address alone", got)
	}
	host := o.up(nil, "192.0.2.3", tsp.Request{})
	rare := o.up(o.user("carol", 0), "192.0.2.4", tsp.Request{Keepalive: 24 * time.Hour})
	if rare.Keepalive != o.b.cfg.Silence/2 {
		t.Errorf("who wants to ask once a day is told %v, want %v", rare.Keepalive, o.b.cfg.Silence/2)
	}
	if host.Client6 == first.Client6 || host.Prefix.IsValid() || host.Keepalive != 0 {
		t.Errorf("nobody got %+v", host)
	}
}

// mustText is a tunnel as it goes to a client.
func mustText(t *testing.T, o *tsp.Tunnel) string {
	t.Helper()
	m, err := o.Message()
	if err != nil {
		t.Fatal(err)
	}
	return string(m.Bytes())
}

func TestLeaseRefused(t *testing.T) {
	o := newOffice(t)
	bob := o.user("bob", 56)
	tests := []struct {
		name  string
		user  *broker.User
		outer string
		r     tsp.Request
		want  tsp.Code
	}{
		{"the broker's own address", bob, "192.0.2.2", tsp.Request{}, tsp.BadIPv4},
		{"a loopback address", bob, "127.0.0.1", tsp.Request{}, tsp.BadIPv4},
		{"a multicast address", bob, "224.0.0.1", tsp.Request{}, tsp.BadIPv4},
		{"a reserved address", bob, "240.0.0.1", tsp.Request{}, tsp.BadIPv4},
		{"a prefix for nobody", nil, "192.0.2.1", tsp.Request{Router: &tsp.Router{PrefixLen: 64}}, tsp.PrefixAnonymous},
		{"more than the account has", bob, "192.0.2.1", tsp.Request{Router: &tsp.Router{PrefixLen: 48}}, tsp.PrefixUnavailable},
		{"an account that is gone", &broker.User{ID: store.NewID(time.Now())}, "192.0.2.1", tsp.Request{}, tsp.AuthFailed},
	}
	for _, tt := range tests {
		g, err := o.request(tt.user, tt.outer, tt.r)
		var status *tsp.Error
		if !errors.As(err, &status) || status.Code != tt.want {
			t.Errorf("%s: %+v, %v; want status %d", tt.name, g, err, tt.want)
		}
	}
}

// TestLeaseUnproven: what was accepted is carried as unproven, and what has shown that
// it is there as proven; a second tunnel at the same address takes the place of one
// that was not heard.
func TestLeaseUnproven(t *testing.T) {
	o := newOffice(t)
	alice, bob := o.user("alice", 0), o.user("bob", 0)
	o.up(alice, "192.0.2.1", tsp.Request{})
	if peers := o.all(); len(peers) != 1 || !peers[0].unproven {
		t.Errorf("accepted: %+v, want it unproven", peers)
	}
	if l := o.nextDoubt(); l != nil {
		t.Errorf("%v is asked before the engine knows it", l.Outer)
	}
	o.settle()
	l := o.nextDoubt()
	if l == nil || o.nextDoubt() != nil {
		t.Fatal("not one is to be asked")
	}
	l.proven = true
	if peers := o.all(); peers[0].unproven {
		t.Errorf("proven: %+v", peers)
	}
	taken := o.up(bob, "192.0.2.1", tsp.Request{})
	if peers := o.all(); len(peers) != 1 || !peers[0].unproven || peers[0].Prefixes[0].Addr() != taken.Client6 {
		t.Errorf("taken over: %+v, want bob's, unproven", peers)
	}
	if s, err := o.b.store.Lease(t.Context(), l.ID); err != nil || s.State != store.Down {
		t.Errorf("the one before is %s, %v; want it down", s.State, err)
	}
}

// TestLeaseEnds has each way in which a tunnel ends.
func TestLeaseEnds(t *testing.T) {
	tests := []struct {
		name string
		end  func(o office, l *liveLease, g *broker.Grant)
		want []string
	}{
		{"nothing happened", func(o office, _ *liveLease, _ *broker.Grant) { o.touch(t.Context()); o.expire(t.Context()) }, []string{"192.0.2.1"}},
		{"its connection is closed", func(o office, _ *liveLease, g *broker.Grant) { o.Close(g, true) }, []string{"192.0.2.1"}},
		{"deleted", func(o office, _ *liveLease, g *broker.Grant) { o.Close(g, false) }, nil},
		{"deleted by an earlier session", func(o office, l *liveLease, _ *broker.Grant) {
			o.Close(&broker.Grant{ID: grantID(l.ID, l.Epoch-1)}, false)
		}, []string{"192.0.2.1"}},
		{"dropped by an operator", func(o office, l *liveLease, _ *broker.Grant) {
			if err := o.b.store.Deactivate(t.Context(), l.ID, l.Epoch); err != nil {
				t.Error(err)
			}
			o.expire(t.Context())
		}, nil},
		{"silent, and not asked yet", func(o office, l *liveLease, _ *broker.Grant) {
			l.asking, l.proven, l.since = false, true, l.since.Add(-o.b.cfg.Silence-time.Second)
			o.touch(t.Context())
			if o.nextDoubt() != l {
				t.Error("it is not going to be asked")
			}
		}, []string{"192.0.2.1"}},
		{"silent, and silent when asked", func(o office, l *liveLease, _ *broker.Grant) {
			l.asked, l.proven = proofTries-1, true
			o.ask(t.Context(), l)
		}, nil},
		{"ended by what was known of an earlier session", func(o office, l *liveLease, _ *broker.Grant) {
			earlier := l.Lease
			earlier.Epoch--
			o.carry(&liveLease{Lease: earlier})
		}, []string{"192.0.2.1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := newOffice(t)
			g, err := o.request(o.user("alice", 0), "192.0.2.1", tsp.Request{})
			if err == nil {
				err = o.Accept(t.Context(), g)
			}
			if err != nil {
				t.Fatal(err)
			}
			o.settle()
			tt.end(o, o.nextDoubt(), g)
			if got := o.remotes(); !slices.Equal(got, tt.want) {
				t.Errorf("carried are %v, want %v", got, tt.want)
			}
			id, _, err := parseGrant(g.ID)
			if err != nil {
				t.Fatal(err)
			}
			state := store.Up
			if tt.want == nil {
				state = store.Down
			}
			if s, err := o.b.store.Lease(t.Context(), id); err != nil || s.State != state {
				t.Errorf("the lease is %s, %v; want it %s", s.State, err, state)
			}
		})
	}
}

// TestLeaseResume: what was up when a broker ended is carried again, and must show
// anew that it is there.
func TestLeaseResume(t *testing.T) {
	o := newOffice(t)
	o.up(o.user("alice", 0), "192.0.2.1", tsp.Request{})
	o.up(o.user("bob", 0), "192.0.2.3", tsp.Request{})
	live, err := o.b.store.Live(t.Context(), o.b.node())
	if err != nil || len(live) != 2 {
		t.Fatalf("%v, %v: want two", live, err)
	}
	o.leases = newLeases(o.b)
	o.leases.asks = nobodyAnswers
	for _, l := range live {
		o.leases.resume(l)
	}
	o.settle()
	if got := o.remotes(); !slices.Equal(got, []string{"192.0.2.1", "192.0.2.3"}) {
		t.Errorf("carried are %v", got)
	}
	for range 2 {
		l := o.nextDoubt()
		if l == nil || l.proven {
			t.Fatalf("%+v is not to be asked", l)
		}
		l.asked = proofTries - 1
		o.ask(t.Context(), l)
	}
	if got := o.remotes(); len(got) != 2 {
		t.Errorf("carried are %v, want both: their network may come back later", got)
	}
}
