package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"sixin4/encap/engine"
	"sixin4/tsp"
	"sixin4/tsp/broker/store"
)

// TestLeaseSockets: a tunnel in UDP is at the socket that it was asked for on; clients at one
// address and port are told apart by it, and do not stand in each other's way.
func TestLeaseSockets(t *testing.T) {
	o := newOffice(t)
	o.sockets(2)
	alice, bob := o.user("alice", 0), o.user("bob", 0)
	const from = "192.0.2.1:4711"
	for i, l := range []*liveLease{o.byUDPAt(alice, from, 0), o.byUDPAt(bob, from, 1)} {
		want := o.b.beside.udp[i].LocalAddr()
		at := func(p PlannedPeer) bool { return p.socket == uint16(i) && p.local == want && p.port == 4711 }
		if l.Local != want || !slices.ContainsFunc(o.all(), at) {
			t.Errorf("%d: at %v, want %v; peers %+v", i, l.Local, want, o.all())
		}
		if s, err := o.b.store.Lease(t.Context(), l.ID); err != nil || s.Local != want {
			t.Errorf("%d: the store has %v, %v, want %v", i, s.Local, err, want)
		}
		g, err := o.offerUDP(nil, "192.0.2.9:1", o.b.beside.udp[i].Control())
		if err != nil || g.Tunnel.Server4 != want.Addr() {
			t.Errorf("%d: %+v, %v; want the broker's end %v", i, g, err, want.Addr())
		}
	}
	if len(o.all()) != 2 {
		t.Errorf("carried are %+v, want two", o.all())
	}
	o.answering(true)
	o.end(t.Context(), o.byOuter[engine.End{AddrPort: netip.MustParseAddrPort(from), Socket: 1}], "test")
	for i, want := range []bool{true, false} { // alice is there, and nobody at the other socket
		if _, err := o.offerUDP(bob, from, o.b.beside.udp[i].Control()); isCode(err, tsp.IPv4InUse) != want {
			t.Errorf("bob at socket %d: %v; want alice in the way: %t", i, err, want)
		}
	}
	o.b.cfg.RedirectAbove = 1
	o.byUDPAt(bob, "192.0.2.3:4711", 1)
	for from, want := range map[string]bool{from: false, "192.0.2.3:4711": false, "192.0.2.1:4712": true} {
		if got := o.full(nil, netip.MustParseAddrPort(from)); got != want {
			t.Errorf("%s is sent on: %t, want %t", from, got, want)
		}
	}
}

// TestLeaseOtherSocket: a client that asks at another socket has its tunnel there, and the
// engine hears of both ends.
func TestLeaseOtherSocket(t *testing.T) {
	o := newOffice(t)
	o.sockets(2)
	alice := o.user("alice", 0)
	first := o.byUDPAt(alice, "192.0.2.1:4711", 0)
	o.news()
	second := o.byUDPAt(alice, "192.0.2.1:4711", 1)
	if second.Client6 != first.Client6 || !first.gone {
		t.Errorf("%v, was %v", second.Client6, first.Client6)
	}
	_, without, with := o.news()
	if !slices.Equal(without, []engine.End{first.end()}) || len(with) != 1 || with[0].socket != 1 {
		t.Errorf("the engine hears of %v gone and %+v come", without, with)
	}
}

// TestResumeSockets: after a restart a tunnel goes on at the socket that it was at, one from
// before that was on record at the first, and one whose socket is not there any more is ended.
func TestResumeSockets(t *testing.T) {
	o := newOffice(t)
	o.sockets(3)
	var users []string
	for i := range uint16(3) {
		u := o.user(string(rune('a'+i)), 0)
		o.byUDPAt(u, "192.0.2.1:4711", i)
		users = append(users, u.ID)
	}
	old := o.byUDPAt(o.user("old", 0), "192.0.2.1:4712", 0)
	_, err := o.b.store.Activate(t.Context(), store.Activation{ID: old.ID, Epoch: old.Epoch, Node: o.b.node(), Type: old.Type, Outer: old.Outer})
	if err != nil {
		t.Fatal(err)
	}
	live, err := o.b.live(t.Context())
	if err != nil || len(live) != 4 {
		t.Fatalf("%+v, %v", live, err)
	}
	last := o.b.beside.udp[2]
	o.b.beside.udp = o.b.beside.udp[:2]
	slices.Reverse(o.b.beside.udp) // --listen in another order
	o.leases = newLeases(o.b)
	for _, l := range live {
		o.resume(l)
	}
	want := map[string]uint16{users[0]: 1, users[1]: 0, old.UserID: 0}
	for _, l := range o.byID {
		socket, ok := want[l.UserID]
		if !ok || l.socket != socket || l.peer().local != o.b.beside.udp[socket].LocalAddr() {
			t.Errorf("%s is carried at %d, %v, want at %d", l.UserID, l.socket, l.peer().local, socket)
		}
	}
	if len(o.byID) != len(want) {
		t.Errorf("%d are carried, want %d", len(o.byID), len(want))
	}
	if s, err := o.b.store.Lease(t.Context(), old.ID); err != nil || s.Local != o.b.beside.udp[0].LocalAddr() {
		t.Errorf("the store has %+v, %v of the one of old", s, err)
	}
	i := slices.IndexFunc(live, func(l store.Lease) bool { return l.Local == last.LocalAddr() })
	if s, err := o.b.store.Lease(t.Context(), live[i].ID); err != nil || s.State != store.Down || s.UserID != users[2] {
		t.Errorf("the one whose socket is gone: %+v, %v; want it down", s, err)
	}
}

// TestRebindSocket: a client is looked for elsewhere by the socket of its tunnel, and not
// because of what comes to another.
func TestRebindSocket(t *testing.T) {
	o := newOffice(t)
	o.sockets(2)
	const before, after = "192.0.2.1:4711", "192.0.2.1:4712"
	l := o.byUDPAt(o.user("alice", 0), before, 1)
	r, p := newRoad(o), echoRequest(l.Client6, l.Server6, nonce{})
	r.hear(o, l, after, p) // at the first socket
	r.hear(o, l, before, p)
	if len(r.sent) != 0 {
		t.Errorf("asked at %v because of what came to another socket", r.sent)
	}
	to := engine.End{AddrPort: netip.MustParseAddrPort(after), Socket: 1}
	r.hearAt(o, l, to, p)
	if len(r.sent) != 1 || r.sent[to] == nil {
		t.Fatalf("asked at %v, want at %v", r.sent, to)
	}
	r.hear(o, l, after, replyTo(r.sent[to]))
	if l.gone {
		t.Error("moved by a reply to another socket")
	}
	r.hearAt(o, l, to, replyTo(r.sent[to]))
	if peers := o.all(); len(peers) != 1 || peers[0].port != 4712 || peers[0].socket != 1 {
		t.Errorf("%+v", peers)
	}
	if s, err := o.b.store.Lease(t.Context(), l.ID); err != nil || s.Local != l.Local || s.Outer.String() != after {
		t.Errorf("the store has %+v, %v", s, err)
	}
}

// TestMoveToAnother: a tunnel follows its client to where another one was, but not to where
// one has been made since the client was asked there.
func TestMoveToAnother(t *testing.T) {
	o := newOffice(t)
	o.sockets(1)
	one, two := o.byUDP(nil, "192.0.2.1:4711"), o.byUDP(nil, "192.0.2.1:4712")
	carried := func() (list []string) {
		for _, l := range o.byID {
			list = append(list, fmt.Sprint(l.Client6, " ", l.Outer.Port()))
		}
		slices.Sort(list)
		return list
	}
	before := carried()
	o.move(t.Context(), one, two.Outer, two.since.Add(-time.Second))
	if now := carried(); !slices.Equal(now, before) {
		t.Errorf("the one that was made since is ousted: %v, want %v", now, before)
	}
	o.move(t.Context(), one, two.Outer, two.since.Add(time.Second))
	if now := carried(); len(now) != 1 || now[0] != fmt.Sprint(one.Client6, " 4712") {
		t.Errorf("%v, want %v alone, at port 4712", now, one.Client6)
	}
}

// TestLeaseMerged: that a client takes merged TCP is on record, outlives a restart and a
// move, and is no more believed of whoever renews the tunnel of nobody; that it does not is.
func TestLeaseMerged(t *testing.T) {
	o := newOffice(t)
	o.sockets(1)
	by, merged := o.b.beside.udp[0].Control(), func() bool { return o.all()[0].merged }
	ask := func(takes bool) {
		t.Helper()
		g, err := o.offerMerged(nil, "192.0.2.1:4711", by, takes)
		if err == nil {
			err = o.Accept(t.Context(), g)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	restart := func() {
		t.Helper()
		live, err := o.b.live(t.Context())
		if err != nil || len(live) != 1 {
			t.Fatalf("%+v, %v", live, err)
		}
		o.leases = newLeases(o.b)
		o.resume(live[0])
	}
	ask(true)
	restart()
	if !merged() {
		t.Error("not known after a restart")
	}
	o.move(t.Context(), o.byOuter[at("192.0.2.1:4711")], netip.MustParseAddrPort("192.0.2.1:4712"), time.Now())
	o.move(t.Context(), o.byOuter[at("192.0.2.1:4712")], netip.MustParseAddrPort("192.0.2.1:4711"), time.Now())
	if !merged() {
		t.Error("not known after a move")
	}
	o.news()
	ask(false)
	if _, _, with := o.news(); merged() || len(with) != 1 || with[0].merged {
		t.Errorf("denied, and the engine hears %+v", with)
	}
	ask(true)
	restart()
	if merged() {
		t.Error("whoever renews a tunnel of nobody is believed")
	}
}
