package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"sixin4/tsp/broker/store"
)

func testFull(e *env) {
	cfg := e.config()
	cfg.Pool = netip.MustParsePrefix("2001:db8:1000::/62")
	s, ctx := e.open(cfg), e.Context()
	var last store.Lease
	for _, name := range []string{"ann", "bob", "cid"} {
		l, err := s.Reserve(ctx, store.Want{UserID: e.add(s, name, nil).ID, PrefixLen: 64})
		e.must(err)
		last = l
	}
	before := s.Usage()
	dan := store.Want{UserID: e.add(s, "dan", nil).ID, PrefixLen: 64}
	for range 3 { // and nothing gets lost
		_, err := s.Reserve(ctx, dan)
		e.fails(err, store.ErrFull)
	}
	e.equal("usage", s.Usage(), before)
	e.must(s.Release(ctx, last.ID, last.Epoch))
	if l, err := s.Reserve(ctx, dan); err != nil || l.Prefix != last.Prefix {
		e.Errorf("what was released: %+v, %v", l, err)
	}
}

func testReserveRefused(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	ann := e.add(s, "ann", nil)
	for _, w := range []store.Want{
		{UserID: ann.ID, PrefixLen: 47}, {UserID: ann.ID, PrefixLen: 65}, {UserID: ann.ID, PrefixLen: -1}, {},
	} {
		if l, err := s.Reserve(ctx, w); err == nil {
			e.Errorf("%+v: %+v", w, l)
		}
	}
	_, err := s.Reserve(ctx, store.Want{UserID: "x"})
	e.fails(err, store.ErrNotFound)
	cfg := e.config()
	cfg.Pool = netip.Prefix{}
	_, err = e.open(cfg).Reserve(ctx, store.Want{UserID: ann.ID})
	e.fails(err, errors.ErrUnsupported)
}

func testUnknown(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	_, err := s.Lease(ctx, "x")
	e.fails(err, store.ErrNotFound)
	_, err = s.Activate(ctx, store.Activation{ID: "x", Epoch: 1})
	e.fails(err, store.ErrNotFound)
	e.fails(s.Deactivate(ctx, "x", 1), store.ErrNotFound)
	e.fails(s.Release(ctx, "x", 1), store.ErrNotFound)
	if live, err := s.Live(ctx, "x"); err != nil || len(live) != 0 {
		e.Errorf("live: %+v, %v", live, err)
	}
	if expired, err := s.ExpireBefore(ctx, e.clock()); err != nil || len(expired) != 0 {
		e.Errorf("expired: %+v, %v", expired, err)
	}
}

// testOtherPool: a pool may grow, but not leave anybody outside.
func testOtherPool(e *env) {
	cfg := e.config()
	s, ctx := e.open(cfg), e.Context()
	ann := e.add(s, "ann", nil)
	l := e.up(s, ann.ID)
	cfg.Pool = netip.MustParsePrefix("2001:db8:2000::/36")
	if _, err := e.opener(ctx, cfg); err == nil || !strings.Contains(err.Error(), `"ann"`) || !strings.Contains(err.Error(), "2001:db8:100") {
		e.Errorf("opened with a pool elsewhere: %v", err)
	}
	cfg.Pool = netip.MustParsePrefix("2001:db8::/32")
	s = e.open(cfg)
	got := e.reserve(s, ann.ID)
	if got.Client6 != l.Client6 || got.Prefix != l.Prefix || got.Server6 != netip.MustParseAddr("2001:db8::1") {
		e.Errorf("%+v, was %+v", got, l)
	}
	e.equal("activated", e.activate(s, got).Server6, got.Server6)
	if other := e.reserve(s, e.add(s, "bob", nil).ID); other.Client6 != netip.MustParseAddr("2001:db8::2") || other.Prefix != netip.MustParsePrefix("2001:db8:1::/48") {
		e.Errorf("the next: %+v", other)
	}
	e.must(s.RemoveUser(ctx, ann.ID)) // in quarantine nobody minds
	cfg.Pool = netip.MustParsePrefix("2001:db8::/36")
	e.open(cfg)
}

// testTwo: both think that the same is free.
func testTwo(e *env) {
	a, b := e.open(e.config()), e.open(e.config())
	users := []store.User{}
	for i := range 40 {
		users = append(users, e.add(a, fmt.Sprint("user", i), nil))
	}
	for i, u := range users {
		s, other := a, b
		if i/3%2 == 1 {
			s, other = b, a
		}
		l := e.reserve(s, u.ID)
		if again := e.reserve(other, u.ID); again.ID != l.ID || again.Prefix != l.Prefix {
			e.Errorf("%+v here, %+v there", l, again)
		}
	}
	var wg sync.WaitGroup
	for i := range 40 {
		s := []store.Store{a, b}[i%2]
		wg.Go(func() {
			l := e.reserve(s, users[i/2].ID)
			if i%3 == 0 {
				e.reserve(s, "")
			}
			if _, err := s.Activate(e.Context(), e.activation(l)); err != nil && !errors.Is(err, store.ErrConflict) {
				e.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(e.disjoint(a)); n != 40+14 {
		e.Errorf("%d leases", n)
	}
}

// testTwoFull: what one frees, the other finds, but does not look for at every request.
func testTwoFull(e *env) {
	cfg := e.config()
	cfg.Pool = netip.MustParsePrefix("2001:db8:1000::/63")
	cfg.Quarantine = -1
	a, b := e.open(cfg), e.open(cfg)
	w := store.Want{PrefixLen: 64, Expires: e.clock().Add(time.Hour)}
	l, err := a.Reserve(e.Context(), w)
	e.must(err)
	_, err = b.Reserve(e.Context(), w)
	e.fails(err, store.ErrFull)
	e.must(a.Release(e.Context(), l.ID, l.Epoch))
	_, err = b.Reserve(e.Context(), w)
	e.fails(err, store.ErrFull)
	e.pass(2 * time.Minute)
	_, err = b.Reserve(e.Context(), w)
	e.must(err)
	_, err = a.Reserve(e.Context(), w)
	e.fails(err, store.ErrFull)
}

func testHistory(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	ann := e.add(s, "ann", nil)
	l := e.up(s, ann.ID)
	e.activate(s, l) // again: nothing new
	e.must(s.Deactivate(ctx, l.ID, l.Epoch))
	e.must(s.Deactivate(ctx, l.ID, l.Epoch))
	middle := e.clock()
	other := e.up(s, e.add(s, "bob", nil).ID)
	e.must(s.RemoveUser(ctx, ann.ID))
	nobody := e.activate(s, e.reserve(s, ""))

	entries := all(e, s.Log(ctx, store.Query{}))
	var got []string
	for i, entry := range entries {
		got = append(got, fmt.Sprint(entry.Event, " ", entry.UserName))
		if !uuid7.MatchString(entry.ID) || entry.At.IsZero() || i > 0 && !entry.At.After(entries[i-1].At) {
			e.Errorf("entry %+v", entry)
		}
	}
	e.equal("events", got, []string{"began ann", "ended ann", "began bob", "returned ann", "began "})
	want := store.Entry{
		ID: entries[0].ID, At: entries[0].At, Event: store.Began, LeaseID: l.ID, UserID: ann.ID, UserName: "ann",
		Client6: l.Client6, Prefix: l.Prefix, Type: l.Type, Outer: l.Outer, Node: "n1",
	}
	e.equal("entry", entries[0], want)
	for _, tt := range []struct {
		name  string
		query store.Query
		want  []int
	}{
		{"address", store.Query{Address: l.Client6}, []int{0, 1, 3}},
		{"first of the prefix", store.Query{Address: l.Prefix.Addr()}, []int{0, 1, 3}},
		{"in the prefix", store.Query{Address: netip.MustParseAddr("2001:db8:1002:ffff:ffff:ffff:ffff:ffff")}, []int{2}},
		{"after the prefix", store.Query{Address: netip.MustParseAddr("2001:db8:1003::")}, nil},
		{"before the prefix", store.Query{Address: netip.MustParseAddr("2001:db8:1000:ffff:ffff:ffff:ffff:ffff")}, nil},
		{"nobody's", store.Query{Address: nobody.Client6}, []int{4}},
		{"then", store.Query{Address: l.Client6, Until: middle}, []int{0, 1}},
		{"later", store.Query{From: middle}, []int{2, 3, 4}},
		{"over", store.Query{Over: true}, []int{1, 3}},
		{"over later", store.Query{From: middle, Over: true}, []int{3}},
		{"exactly", store.Query{From: entries[1].At, Until: entries[2].At}, []int{1}},
		{"bob", store.Query{Address: other.Client6}, []int{2}},
	} {
		var want []store.Entry
		for _, i := range tt.want {
			want = append(want, entries[i])
		}
		e.equal(tt.name, all(e, s.Log(ctx, tt.query)), want)
	}
}

// testForget has more than a page, with many entries at the same time.
func testForget(e *env) {
	cfg := e.config()
	frozen := e.clock()
	cfg.Now = func() time.Time { return frozen }
	s, ctx := e.open(cfg), e.Context()
	const n = 620
	e.crowd(s, n)
	e.equal("entries", len(all(e, s.Log(ctx, store.Query{}))), n)
	for _, tt := range []struct {
		before time.Time
		want   int
	}{{frozen, 0}, {frozen.Add(time.Microsecond), n}, {frozen.Add(time.Hour), 0}} {
		got, err := s.ForgetLog(ctx, tt.before)
		e.must(err)
		e.equal("forgotten", got, tt.want)
	}
	e.equal("entries", len(all(e, s.Log(ctx, store.Query{}))), 0)
}

// testCrowd: many at the same time, and everything that was said is true afterwards.
func testCrowd(e *env) {
	cfg := e.config()
	s := e.open(cfg)
	var mu sync.Mutex
	said := map[string]store.Lease{}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 20 {
				u := e.add(s, fmt.Sprintf("user%d.%d", i, j), nil)
				l := e.up(s, u.ID)
				mu.Lock()
				said[l.ID] = l
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	s = e.open(cfg)
	leases := e.disjoint(s)
	if len(leases) != len(said) || len(said) != 320 {
		e.Errorf("%d leases, want %d", len(leases), len(said))
	}
	for _, l := range leases {
		e.equal("lease", l, said[l.ID])
	}
}

// testCancelled: whoever does not wait any more has changed nothing.
func testCancelled(e *env) {
	s := e.open(e.config())
	ann := e.add(s, "ann", nil)
	before := s.Usage()
	ctx, cancel := context.WithCancel(e.Context())
	cancel()
	_, err := s.Reserve(ctx, store.Want{UserID: ann.ID, PrefixLen: 48})
	e.fails(err, context.Canceled)
	_, err = s.Reserve(ctx, store.Want{Expires: e.clock()})
	e.fails(err, context.Canceled)
	_, err = s.AddUser(ctx, store.User{Name: "bob"})
	e.fails(err, context.Canceled)
	e.equal("usage", s.Usage(), before)
	e.equal("users", all(e, s.Users(e.Context())), []store.User{ann})
	e.equal("leases", all(e, s.Leases(e.Context())), []store.Lease(nil))
}

func testClosed(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	ann := e.add(s, "ann", nil)
	e.must(s.Close())
	e.must(s.Close())
	_, err := s.UserByName(ctx, "ann")
	e.fails(err, os.ErrClosed)
	_, err = s.AddUser(ctx, store.User{Name: "bob"})
	e.fails(err, os.ErrClosed)
	_, err = s.Reserve(ctx, store.Want{UserID: ann.ID})
	e.fails(err, os.ErrClosed)
	_, err = s.Live(ctx, "n1")
	e.fails(err, os.ErrClosed)
	_, err = s.CountLeases(ctx)
	e.fails(err, os.ErrClosed)
	for _, err := range s.Users(ctx) {
		e.fails(err, os.ErrClosed)
	}
}
