package storetest

import (
	"net/netip"
	"slices"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker/store"
)

// testFirstLease is the example of the documentation.
func testFirstLease(e *env) {
	s := e.open(e.config())
	ann := e.add(s, "ann", nil)
	l := e.reserve(s, ann.ID)
	want := store.Lease{
		ID: l.ID, UserID: ann.ID, Client6: netip.MustParseAddr("2001:db8:1000::2"), Server6: netip.MustParseAddr("2001:db8:1000::1"),
		Prefix: netip.MustParsePrefix("2001:db8:1001::/48"), Epoch: l.Epoch, State: store.Offered, Created: l.Created,
	}
	e.equal("offered", l, want)
	if !uuid7.MatchString(l.ID) || l.Epoch <= 0 || l.Created.IsZero() {
		e.Errorf("ID %s, epoch %d, created %v", l.ID, l.Epoch, l.Created)
	}
	got := e.activate(s, l)
	want.State, want.Node, want.Type, want.Outer, want.LastSeen = store.Up, "n1", tsp.V6UDPV4, home, got.LastSeen
	want.Local, want.Merged = local, true
	e.equal("up", got, want)
	e.equal("read", e.lease(s, l.ID), want)
	if got.LastSeen.IsZero() {
		e.Error("up and not seen")
	}
	e.must(s.Deactivate(e.Context(), l.ID, l.Epoch))
	want.State = store.Down
	e.equal("down", e.lease(s, l.ID), want)
	at := netip.AddrPortFrom(home.Addr(), 0)
	_, err := s.Activate(e.Context(), store.Activation{ID: l.ID, Epoch: l.Epoch, Node: "n1", Type: tsp.V6V4, Outer: at})
	e.must(err)
	got = e.lease(s, l.ID)
	want.State, want.Type, want.Outer, want.Local, want.Merged, want.LastSeen = store.Up, tsp.V6V4, at, netip.AddrPort{}, false, got.LastSeen
	e.equal("up by protocol 41", got, want)
	e.equal("usage", s.Usage(), store.Usage{Pool: Pool, Addresses: 1, Prefixes: 1, Free: 1<<28 - 1 - 65536, Largest: 48})
}

// testPermanent: the same for ever, whatever is wanted, wherever from.
func testPermanent(e *env) {
	cfg := e.config()
	s := e.open(cfg)
	ann := e.add(s, "ann", nil)
	first := e.up(s, ann.ID)
	other := e.up(s, e.add(s, "bob", nil).ID)
	for i, w := range []store.Want{
		{PrefixLen: 48}, {PrefixLen: 64}, {PrefixLen: 0}, {PrefixLen: 56, From: netip.MustParseAddrPort("198.51.100.1:1")},
	} {
		w.UserID = ann.ID
		e.pass(1000 * time.Hour)
		l, err := s.Reserve(e.Context(), w)
		if e.must(err); l.ID != first.ID || l.Client6 != first.Client6 || l.Prefix != first.Prefix || l.Epoch <= first.Epoch {
			e.Errorf("%d: %+v, was %+v", i, l, first)
		}
		e.activate(s, l)
		expired, err := s.ExpireBefore(e.Context(), e.clock().Add(10000*time.Hour))
		if e.must(err); len(expired) != 0 {
			e.Errorf("expired: %+v", expired)
		}
		s = e.open(cfg) // another process
	}
	if got := e.reserve(s, e.add(s, "cid", nil).ID); got.Client6 == first.Client6 || got.Prefix.Overlaps(first.Prefix) || got.Prefix.Overlaps(other.Prefix) {
		e.Errorf("a third user gets %+v", got)
	}
	e.must(s.Release(e.Context(), first.ID, first.Epoch+1<<60))
	w := store.Want{UserID: ann.ID, PrefixLen: 56}
	if l, err := s.Reserve(e.Context(), w); err != nil || l.ID == first.ID || l.Prefix.Bits() != 56 || l.Prefix.Overlaps(first.Prefix) {
		e.Errorf("after the release: %+v, %v", l, err)
	}
}

func testPrefixLater(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	ann := e.add(s, "ann", nil)
	host, err := s.Reserve(ctx, store.Want{UserID: ann.ID})
	if e.must(err); host.Prefix.IsValid() {
		e.Errorf("not wanted: %+v", host)
	}
	router, err := s.Reserve(ctx, store.Want{UserID: ann.ID, PrefixLen: 60})
	if e.must(err); router.ID != host.ID || router.Client6 != host.Client6 || router.Prefix.Bits() != 60 {
		e.Errorf("%+v, was %+v", router, host)
	}
	if got := e.lease(s, host.ID); got.Prefix != router.Prefix {
		e.Errorf("read: %+v", got)
	}
}

func testSeveral(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	ann := e.add(s, "ann", func(u *store.User) { u.MaxTunnels = 2 })
	from := func(text string) store.Lease {
		e.Helper()
		addr := netip.MustParseAddrPort(text)
		l, err := s.Reserve(ctx, store.Want{UserID: ann.ID, From: addr})
		e.must(err)
		a := e.activation(l)
		a.Outer = addr
		if addr.Port() == 3653 { // stands for a client that can do without UDP
			a.Type, a.Outer = tsp.V6V4, netip.AddrPortFrom(addr.Addr(), 0)
		}
		l, err = s.Activate(ctx, a)
		e.must(err)
		return l
	}
	a, b := from("192.0.2.1:3653"), from("192.0.2.2:1000")
	if a.ID == b.ID || a.Client6 == b.Client6 {
		e.Errorf("the second tunnel is the first: %+v", b)
	}
	for _, tt := range []struct {
		from string
		want store.Lease
		why  string
	}{
		{"192.0.2.1:3653", a, "its own"},
		{"192.0.2.2:1000", b, "its own"},
		{"192.0.2.1:3653", a, "its own, over protocol 41"},
		{"192.0.2.2:2000", b, "its own address, no new one to be had"},
		{"192.0.2.3:1000", a, "not seen for the longest time"},
		{"192.0.2.3:1000", a, "its own now"},
	} {
		if got := from(tt.from); got.ID != tt.want.ID {
			e.Errorf("from %s: not %s", tt.from, tt.why)
		}
	}
	e.must(s.Deactivate(ctx, b.ID, 1<<62))
	if got := from("192.0.2.9:1"); got.ID != b.ID {
		e.Error("from elsewhere: not the one that is down")
	}
	_, err := s.UpdateUser(ctx, ann.ID, func(u *store.User) error { u.MaxTunnels = 1; return nil })
	e.must(err)
	if got := from("192.0.2.9:1"); got.ID != a.ID {
		e.Error("beyond the limit, a lease is not the oldest")
	}
}

// testAnonymous: an offer that nobody takes is free at once.
func testAnonymous(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	a, b, c := e.reserve(s, ""), e.reserve(s, ""), e.reserve(s, "")
	if a.UserID != "" || a.Expires.IsZero() || a.Prefix.IsValid() || a.Client6 == b.Client6 {
		e.Errorf("%+v and %+v", a, b)
	}
	b = e.activate(s, b)
	e.must(s.Release(ctx, c.ID, c.Epoch))
	e.pass(2 * time.Minute)
	expired, err := s.ExpireBefore(ctx, e.clock())
	e.must(err)
	a.Epoch = 0 // it was never up
	e.equal("expired", expired, []store.Lease{a})
	_, err = s.Activate(ctx, store.Activation{ID: b.ID, Epoch: b.Epoch + 1})
	if err == nil {
		e.Error("a lease of nobody that never expires")
	}
	_, err = s.Lease(ctx, a.ID)
	e.fails(err, store.ErrNotFound)
	_, err = s.Activate(ctx, e.activation(a))
	e.fails(err, store.ErrNotFound)
	for _, want := range []netip.Addr{a.Client6, c.Client6} {
		if got := e.reserve(s, ""); got.Client6 != want {
			e.Errorf("%v, want %v", got.Client6, want)
		}
	}
	if got := e.lease(s, b.ID); got.State != store.Up || !got.Expires.After(e.clock()) {
		e.Errorf("in use: %+v", got)
	}
}

// testQuarantine: what was used stays unused for a day.
func testQuarantine(e *env) {
	cfg := e.config()
	s, ctx := e.open(cfg), e.Context()
	w := store.Want{PrefixLen: 64, Expires: e.clock().Add(time.Minute)}
	l, err := s.Reserve(ctx, w)
	e.must(err)
	l = e.activate(s, l)
	e.pass(2 * time.Hour) // it was to be an hour
	expired, err := s.ExpireBefore(ctx, e.clock())
	e.must(err)
	e.equal("expired", expired, []store.Lease{l})
	for range 2 {
		if got := e.lease(s, l.ID); got.State != store.Quarantined || got.UserID != "" || got.Expires.Before(e.clock().Add(23*time.Hour)) {
			e.Errorf("in quarantine: %+v", got)
		}
		w.Expires = e.clock().Add(1000 * time.Hour)
		if got, err := s.Reserve(ctx, w); err != nil || got.Client6 == l.Client6 || got.Prefix == l.Prefix {
			e.Errorf("handed out from quarantine: %+v, %v", got, err)
		}
		_, err := s.Activate(ctx, e.activation(l))
		e.fails(err, store.ErrNotFound)
		e.fails(s.Release(ctx, l.ID, l.Epoch), store.ErrNotFound)
		e.fails(s.Deactivate(ctx, l.ID, l.Epoch), store.ErrNotFound)
		s = e.open(cfg)
	}
	before := s.Usage()
	e.pass(25 * time.Hour)
	expired, err = s.ExpireBefore(ctx, e.clock())
	if e.must(err); len(expired) != 0 {
		e.Errorf("expired again: %+v", expired)
	}
	if u := s.Usage(); u.Addresses != before.Addresses-1 || u.Prefixes != before.Prefixes-1 || u.Free != before.Free+1 {
		e.Errorf("usage %+v, was %+v", u, before)
	}
	var again []netip.Addr
	for range 2 {
		again = append(again, e.reserve(s, "").Client6)
	}
	if !slices.Contains(again, l.Client6) {
		e.Errorf("%v is lost: %v", l.Client6, again)
	}
}

func testNoQuarantine(e *env) {
	cfg := e.config()
	cfg.Quarantine = -1
	s := e.open(cfg)
	fresh := s.Usage()
	ann := e.add(s, "ann", nil)
	l := e.up(s, ann.ID)
	e.must(s.Release(e.Context(), l.ID, l.Epoch))
	if got := all(e, s.Leases(e.Context())); len(got) != 0 || s.Usage() != fresh {
		e.Errorf("%+v are left, usage %+v", got, s.Usage())
	}
	if again := e.reserve(s, ann.ID); again.Client6 != l.Client6 || again.Prefix != l.Prefix || again.ID == l.ID {
		e.Errorf("%+v, want what is free: %+v", again, l)
	}
}

func testRemoveUser(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	ann := e.add(s, "ann", func(u *store.User) { u.MaxTunnels = 2 })
	used := e.up(s, ann.ID)
	unused, err := s.Reserve(ctx, store.Want{UserID: ann.ID, From: netip.MustParseAddrPort("192.0.2.99:1")})
	e.must(err)
	e.must(s.RemoveUser(ctx, ann.ID))
	if got := e.lease(s, used.ID); got.State != store.Quarantined || got.UserID != "" {
		e.Errorf("used: %+v", got)
	}
	_, err = s.Lease(ctx, unused.ID)
	e.fails(err, store.ErrNotFound)
	_, err = s.Reserve(ctx, store.Want{UserID: ann.ID})
	e.fails(err, store.ErrNotFound)
	lost, err := s.Touch(ctx, []store.Seen{{ID: used.ID, Epoch: used.Epoch, At: e.clock()}})
	e.must(err)
	e.equal("lost", lost, []string{used.ID})
	if again := e.up(s, e.add(s, "ann", nil).ID); again.Prefix == used.Prefix || again.Client6 == used.Client6 {
		e.Errorf("a new user of that name gets %+v", again)
	}
}

func testDisable(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	ann := e.add(s, "ann", nil)
	l := e.up(s, ann.ID)
	offer := e.reserve(s, ann.ID)
	disable := func(yes bool) {
		_, err := s.UpdateUser(ctx, ann.ID, func(u *store.User) error { u.Disabled = yes; return nil })
		e.must(err)
	}
	disable(true)
	if got := e.lease(s, l.ID); got.State != store.Down {
		e.Errorf("the session goes on: %+v", got)
	}
	_, err := s.Reserve(ctx, store.Want{UserID: ann.ID})
	e.fails(err, store.ErrDisabled)
	_, err = s.Activate(ctx, e.activation(offer))
	e.fails(err, store.ErrDisabled)
	disable(false)
	if got := e.up(s, ann.ID); got.ID != l.ID || got.Prefix != l.Prefix {
		e.Errorf("enabled again: %+v, was %+v", got, l)
	}
}

// testFencing: two brokers, of which the first is late with everything.
func testFencing(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	ann := e.add(s, "ann", nil)
	old := e.reserve(s, ann.ID)
	newer := e.reserve(s, ann.ID)
	if old.ID != newer.ID || old.Epoch >= newer.Epoch {
		e.Fatalf("epoch %d, then %d", old.Epoch, newer.Epoch)
	}
	e.activate(s, old)
	a := e.activation(newer)
	a.Node = "n2"
	got, err := s.Activate(ctx, a)
	if e.must(err); got.Node != "n2" || got.Epoch != newer.Epoch {
		e.Errorf("taken over: %+v", got)
	}
	_, err = s.Activate(ctx, e.activation(old))
	e.fails(err, store.ErrConflict)
	e.fails(s.Deactivate(ctx, old.ID, old.Epoch), store.ErrConflict)
	e.fails(s.Release(ctx, old.ID, old.Epoch), store.ErrConflict)
	same := e.activation(newer) // the same number, of another broker
	_, err = s.Activate(ctx, same)
	e.fails(err, store.ErrConflict)
	lost, err := s.Touch(ctx, []store.Seen{{ID: old.ID, Epoch: old.Epoch, At: e.clock()}})
	e.must(err)
	e.equal("lost", lost, []string{old.ID})
	e.equal("after all that", e.lease(s, old.ID), got)
	a.Outer = netip.MustParseAddrPort("198.51.100.7:1")
	if got, err = s.Activate(ctx, a); err != nil || got.Outer != a.Outer {
		e.Errorf("its own again, at another address: %+v, %v", got, err)
	}
	e.pass(-time.Hour) // the clock of the next broker is slow
	if next := e.reserve(s, ann.ID); next.Epoch <= newer.Epoch {
		e.Errorf("epoch %d, then %d", newer.Epoch, next.Epoch)
	}
}

func testTouch(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	ann := e.up(s, e.add(s, "ann", nil).ID)
	var seen []store.Seen
	for _, l := range e.crowd(s, 620) {
		seen = append(seen, store.Seen{ID: l.ID, Epoch: l.Epoch})
	}
	e.must(s.Deactivate(ctx, seen[1].ID, seen[1].Epoch))
	seen[2].Epoch--
	want := []string{seen[1].ID, seen[2].ID, "unknown"}
	seen = append(seen, store.Seen{ID: "unknown"}, store.Seen{ID: ann.ID, Epoch: ann.Epoch})
	at := e.clock().Truncate(time.Microsecond)
	for i := range seen {
		seen[i].At, seen[i].Expires = at, at.Add(5*time.Hour)
	}
	lost, err := s.Touch(ctx, seen)
	e.must(err)
	slices.Sort(lost)
	slices.Sort(want)
	e.equal("lost", lost, want)
	for _, i := range []int{0, 619} {
		if got := e.lease(s, seen[i].ID); !got.LastSeen.Equal(at) || !got.Expires.Equal(at.Add(5*time.Hour)) {
			e.Errorf("touched: %+v", got)
		}
	}
	if got := e.lease(s, seen[1].ID); got.LastSeen.Equal(at) {
		e.Errorf("not up, and touched: %+v", got)
	}
	if got := e.lease(s, ann.ID); !got.LastSeen.Equal(at) || !got.Expires.IsZero() {
		e.Errorf("a user's: %+v", got)
	}
	if lost, err := s.Touch(ctx, []store.Seen{{ID: seen[0].ID, Epoch: seen[0].Epoch, At: e.clock()}}); err != nil || lost != nil {
		e.Errorf("without an expiry: %v, %v", lost, err)
	}
	if got := e.lease(s, seen[0].ID); !got.LastSeen.After(at) || !got.Expires.Equal(at.Add(5*time.Hour)) {
		e.Errorf("without an expiry: %+v", got)
	}
	if lost, err := s.Touch(ctx, nil); err != nil || lost != nil {
		e.Errorf("nothing touched: %v, %v", lost, err)
	}
}

func testLive(e *env) {
	cfg := e.config()
	s, ctx := e.open(cfg), e.Context()
	e.reserve(s, "")
	down := e.activate(s, e.reserve(s, ""))
	e.must(s.Deactivate(ctx, down.ID, down.Epoch))
	a := e.activation(e.reserve(s, ""))
	a.Node = "n2"
	_, err := s.Activate(ctx, a)
	e.must(err)
	want := []store.Lease{e.up(s, e.add(s, "ann", nil).ID), e.activate(s, e.reserve(s, ""))}
	got, err := e.open(cfg).Live(ctx, "n1")
	e.must(err)
	e.equal("live", got, want)
	if all, err := s.Live(ctx, ""); err != nil || len(all) != 3 {
		e.Errorf("of all nodes: %+v, %v; want three", all, err)
	}
}
