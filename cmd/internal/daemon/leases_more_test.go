package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"sixin4/encap"
	"sixin4/encap/engine"
	"sixin4/encap/packettest"
	"sixin4/tsp"
	"sixin4/tsp/broker"
	"sixin4/tsp/broker/store"
)

// answering has all clients answer, or none.
func (o office) answering(yes bool) {
	o.asks = func(context.Context, *liveLease, time.Duration) bool { return yes }
}

// provenUp is up, and the tunnel is shown to be there.
func (o office) provenUp(u *broker.User, outer string) *tsp.Tunnel {
	o.t.Helper()
	tunnel := o.up(u, outer, tsp.Request{})
	o.mu.Lock()
	l := o.byOuter[at(outer+":0")]
	o.mu.Unlock()
	o.ask(o.t.Context(), l)
	return tunnel
}

// byDatagram is request over UDP.
func (o office) byDatagram(u *broker.User, outer string) (*broker.Grant, error) {
	a := netip.MustParseAddr(outer)
	r := tsp.Request{Action: tsp.ActionCreate, Type: tsp.V6V4, Client: a}
	return o.Offer(o.t.Context(), broker.Ask{
		User: u, Request: &r, Version: tsp.V202, Type: tsp.V6V4, Outer: a,
		From: netip.AddrPortFrom(a, 4711), Conn: new(net.UDPConn),
	})
}

func isCode(err error, want tsp.Code) bool {
	status, ok := errors.AsType[*tsp.Error](err)
	return ok && status.Code == want
}

// TestLeaseAgain is about a client without an account that comes back over UDP.
func TestLeaseAgain(t *testing.T) {
	t.Run("its interface answers", func(t *testing.T) {
		o := newOffice(t)
		o.answering(true)
		first := o.provenUp(nil, "192.0.2.1")
		o.settle()
		before := o.all()
		g, err := o.byDatagram(nil, "192.0.2.1")
		if err != nil || g.Tunnel.Client6 != first.Client6 {
			t.Fatalf("%+v, %v; want %v again", g, err, first.Client6)
		}
		o.Close(g, false) // a session that was only begun, as anybody can in the name of another
		if err := o.Accept(t.Context(), g); err != nil {
			t.Error(err)
		}
		o.Close(g, false) // and one that says that it wants no tunnel any more
		if now := o.all(); len(now) != 1 || now[0].unproven || now[0].Remote != before[0].Remote {
			t.Errorf("carried are %+v, want what there was, proven", now)
		}
		if fresh, without, with := o.news(); len(fresh)+len(without)+len(with) != 0 {
			t.Errorf("the engine is to change %v %v %v, want nothing", fresh, without, with)
		}
	})
	t.Run("its interface is gone", func(t *testing.T) {
		o := newOffice(t)
		o.answering(true)
		first := o.provenUp(nil, "192.0.2.1")
		o.answering(false)
		g, err := o.byDatagram(nil, "192.0.2.1")
		if err != nil || g.Tunnel.Client6 == first.Client6 {
			t.Fatalf("%+v, %v; want another address", g, err)
		}
	})
	t.Run("a user's tunnel is there", func(t *testing.T) {
		o := newOffice(t)
		o.answering(true)
		o.provenUp(o.user("alice", 0), "192.0.2.1")
		for _, u := range []*broker.User{nil, o.user("bob", 0)} {
			if g, err := o.byDatagram(u, "192.0.2.1"); !isCode(err, tsp.IPv4InUse) {
				t.Errorf("%+v, %v; want status %d", g, err, tsp.IPv4InUse)
			}
		}
	})
	t.Run("it asks for a user's tunnel", func(t *testing.T) {
		o := newOffice(t)
		o.answering(true)
		o.provenUp(nil, "192.0.2.1")
		if g, err := o.byDatagram(o.user("bob", 0), "192.0.2.1"); !isCode(err, tsp.IPv4InUse) {
			t.Errorf("%+v, %v; want status %d", g, err, tsp.IPv4InUse)
		}
	})
}

// moody is a store that fails for some time.
type moody struct {
	store.Store
	fails bool
}

var errMoody = errors.New("disk is full")

func (m *moody) Deactivate(ctx context.Context, id string, epoch int64) error {
	if m.fails {
		return errMoody
	}
	return m.Store.Deactivate(ctx, id, epoch)
}

func (m *moody) Touch(ctx context.Context, seen []store.Seen) ([]string, error) {
	if m.fails {
		return nil, errMoody
	}
	return m.Store.Touch(ctx, seen)
}

// TestLeaseDebts: the end of a tunnel that the store does not take is told again.
func TestLeaseDebts(t *testing.T) {
	o := newOffice(t)
	m := &moody{Store: o.b.store, fails: true}
	o.b.store = m
	for i, name := range []string{"alice", "bob", "carol"} {
		g, err := o.request(o.user(name, 0), fmt.Sprintf("192.0.2.1%d", i), tsp.Request{})
		if err == nil {
			err = o.Accept(t.Context(), g)
		}
		if err != nil {
			t.Fatal(err)
		}
		o.Close(g, false)
	}
	o.debts.retry(t.Context(), o.b)
	if got := o.states(); got[store.Up] != 3 || len(o.debts.open) != 3 || len(o.all()) != 0 {
		t.Errorf("%v, %d debts, %d carried; want three up in a store that fails", got, len(o.debts.open), len(o.all()))
	}
	m.fails = false
	o.debts.retry(t.Context(), o.b)
	if got := o.states(); got[store.Down] != 3 || len(o.debts.open) != 0 {
		t.Errorf("%v, %d debts; want three down", got, len(o.debts.open))
	}
}

// engineRoom gives an office an engine that nothing goes through.
func (o office) engineRoom() {
	o.t.Helper()
	s := o.b.shape()
	table, err := o.b.newTable(s, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	lane := engine.Lane{In: packettest.NewQueue(), Out: packettest.NewQueue()}
	if o.b.engine, err = engine.New(engine.Config{Inbound: lane, Outbound: []engine.Lane{lane}, MTU: 1480, Source: s.source()}, table); err != nil {
		o.t.Fatal(err)
	}
	o.b.now.Store(&s)
	close(o.b.begun)
}

// enginePeers are the peers of the engine, with their prefixes.
func (o office) enginePeers() (list []string) {
	for p := range o.b.engine.Peers() {
		list = append(list, fmt.Sprintf("%v%v", p.Remote, p.Prefixes))
	}
	slices.Sort(list)
	return list
}

// TestLeaseHandOver: the engine gets what has changed, and a tunnel that it refuses ends
// alone.
func TestLeaseHandOver(t *testing.T) {
	o := newOffice(t, "tunnel-rate", "10mbit", "block-ports", "25")
	o.engineRoom()
	o.up(o.user("alice", 48), "192.0.2.1", tsp.Request{Router: &tsp.Router{}})
	o.up(o.user("bob", 0), "192.0.2.3", tsp.Request{})
	o.handOver(t.Context())
	want := []string{"192.0.2.1[2001:db8:1000::2/128 2001:db8:1001::/48]", "192.0.2.3[2001:db8:1000::3/128]"}
	if got := o.enginePeers(); !slices.Equal(got, want) || len(o.doubts) != 2 {
		t.Errorf("the engine has %v, %d are to be asked; want %v", got, len(o.doubts), want)
	}
	clash := o.byOuter[at("192.0.2.3:0")].Lease
	clash.ID, clash.UserID, clash.Outer = store.NewID(time.Now()), "", netip.MustParseAddrPort("192.0.2.9:0")
	o.put(clash)
	o.up(o.user("carol", 0), "192.0.2.4", tsp.Request{})
	o.handOver(t.Context())
	want = append(want, "192.0.2.4[2001:db8:1000::4/128]")
	if got := o.enginePeers(); !slices.Equal(got, want) {
		t.Errorf("with a tunnel that has another's address the engine has %v, want %v", got, want)
	}
	if o.byID[clash.ID] != nil || len(o.dirty) != 1 {
		t.Errorf("it is carried still: %v, %v", o.byID[clash.ID], o.dirty)
	}
	if status := o.b.tunnel.status("broker"); len(status.Peers) != 3 || status.Peers[0].MTU != 1480 || status.PeersOmitted != 0 {
		t.Errorf("status %+v", status)
	}
	for i := range 2 * mostListed {
		l := store.Lease{ID: fmt.Sprint(i), Epoch: 1, Client6: netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0xff, 14: byte(i >> 8), 15: byte(i)})}
		l.Outer = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 0)
		o.put(l)
	}
	o.handOver(t.Context())
	status := o.b.tunnel.status("broker")
	if len(status.Peers) != mostListed || status.PeersOmitted != mostListed+3 || len(o.b.now.Load().peers) != mostHops+1 {
		t.Errorf("%d peers, %d omitted, %d in the shape", len(status.Peers), status.PeersOmitted, len(o.b.now.Load().peers))
	}
}

// TestLeaseTouch: who was heard while the store failed is told to it later.
func TestLeaseTouch(t *testing.T) {
	o := newOffice(t)
	m := &moody{Store: o.b.store, fails: true}
	o.b.store = m
	o.answering(true)
	o.engineRoom()
	tunnel := o.provenUp(o.user("alice", 0), "192.0.2.1")
	o.handOver(t.Context())
	o.hear(tunnel)
	before := o.seen()
	o.touch(t.Context())
	if !o.seen().Equal(before) {
		t.Error("a store that fails has noted it")
	}
	m.fails = false
	o.touch(t.Context())
	if !o.seen().After(before) {
		t.Error("it is not noted when the store works again")
	}
}

// seen is when the only lease was, as the store knows it.
func (o office) seen() (at time.Time) {
	for l, err := range o.b.store.Leases(o.t.Context()) {
		if err != nil {
			o.t.Fatal(err)
		}
		at = l.LastSeen
	}
	return at
}

// hear has the engine take a packet from a client.
func (o office) hear(tunnel *tsp.Tunnel) {
	o.t.Helper()
	in, out := packettest.NewQueue(), packettest.NewQueue()
	echo := packettest.ICMPv6(tunnel.Client6, tunnel.Server6, 129, 0, make([]byte, 8))
	in.Push(packettest.Outer(tunnel.Client4, tunnel.Server4, 1, echo))
	idle := engine.Lane{In: packettest.NewQueue(), Out: out}
	s := o.b.now.Load()
	e, err := engine.New(engine.Config{
		Inbound: engine.Lane{In: in, Out: out}, Outbound: []engine.Lane{idle}, MTU: 1480, Source: s.source(),
	}, mustTable(o.t, o.b.tunnel, *s))
	if err != nil {
		o.t.Fatal(err)
	}
	if refused := e.Change(nil, o.b.tunnel.enginePeers(*s, o.all())); refused != nil {
		o.t.Fatal(refused)
	}
	ctx, cancel := context.WithCancel(o.t.Context())
	done := make(chan error)
	go func() { done <- e.Run(ctx) }()
	for e.Totals().Rx.Packets == 0 && e.Totals().Drops == [encap.NumDrops]uint64{} {
		select {
		case err := <-done:
			o.t.Fatalf("the engine ended: %v", err)
		default:
		}
	}
	cancel()
	if err := <-done; err != nil {
		o.t.Fatal(err)
	}
	o.b.engine = e
}

func mustTable(t *testing.T, tunnel *tunnel, s shape) *engine.Table {
	t.Helper()
	table, err := tunnel.newTable(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// TestLeaseFull: by load, who has a tunnel here stays.
func TestLeaseFull(t *testing.T) {
	o := newOffice(t, "redirect", "192.0.2.99", "redirect-above", "2")
	alice, bob, carol := o.user("alice", 0), o.user("bob", 0), o.user("carol", 0)
	from := func(a string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(a), 4711) }
	o.up(alice, "192.0.2.1", tsp.Request{})
	if o.full(carol, from("192.0.2.4")) {
		t.Error("full with one tunnel of two")
	}
	o.up(nil, "192.0.2.3", tsp.Request{})
	for _, tt := range []struct {
		name string
		user *broker.User
		from string
		want bool
	}{
		{"a new one", bob, "192.0.2.4", true},
		{"a new one without an account", nil, "192.0.2.4", true},
		{"the user of a tunnel, from elsewhere", alice, "192.0.2.4", false},
		{"where a tunnel ends", nil, "192.0.2.3", false},
	} {
		if got := o.full(tt.user, from(tt.from)); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	o.end(t.Context(), o.byOuter[at("192.0.2.1:0")], "test")
	if o.full(bob, from("192.0.2.4")) || len(o.users) != 1 {
		t.Errorf("full with one tunnel of two; users %v", o.users)
	}
}

// TestLeaseOtherName: in a file, what is up under another name is ours and gets our name.
func TestLeaseOtherName(t *testing.T) {
	o := newOffice(t)
	o.up(o.user("alice", 0), "192.0.2.1", tsp.Request{})
	g, err := o.request(o.user("bob", 0), "192.0.2.3", tsp.Request{})
	if err == nil {
		err = o.Accept(t.Context(), g)
	}
	if err != nil {
		t.Fatal(err)
	}
	o.b.cfg.Node = "broker1"
	live, err := o.b.live(t.Context())
	if err != nil || len(live) != 2 {
		t.Fatalf("%v, %v; want two", live, err)
	}
	for _, l := range live {
		if l.Node != "broker1" || l.State != store.Up {
			t.Errorf("%+v", l)
		}
	}
	if mine, err := o.b.store.Live(t.Context(), "192.0.2.2"); err != nil || len(mine) != 0 {
		t.Errorf("the old name has %v, %v", mine, err)
	}
	again, err := o.b.live(t.Context())
	if err != nil || len(again) != 2 || again[0].Epoch != live[0].Epoch {
		t.Errorf("the next time: %v, %v; want the same sessions", again, err)
	}
}

// TestLeaseOwnAddress: this host's addresses are known without a question for each offer.
func TestLeaseOwnAddress(t *testing.T) {
	o := newOffice(t)
	o.b.own.Store(&map[netip.Addr]bool{netip.MustParseAddr("192.0.2.7"): true})
	for outer, want := range map[string]bool{"192.0.2.7": false, "192.0.2.8": true} {
		if _, err := o.request(nil, outer, tsp.Request{}); (err == nil) != want || err != nil && !isCode(err, tsp.BadIPv4) {
			t.Errorf("%s: %v", outer, err)
		}
	}
	o.b.listOwn()
	if own := o.b.own.Load(); own == nil || (*own)[netip.MustParseAddr("192.0.2.7")] {
		t.Errorf("listed anew: %v", own)
	}
}
