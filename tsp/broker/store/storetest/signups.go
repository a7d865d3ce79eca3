package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"sixin4/tsp/broker/store"
)

// waits adds a sign-up from a source; its token is made of its name.
func (e *env) waits(s store.Store, name, source string, change func(*store.Signup)) store.Signup {
	e.Helper()
	v := store.Signup{Name: name, Source: source, Token: tokenOf(name), Expires: e.clock().Add(time.Hour)}
	if change != nil {
		change(&v)
	}
	v, err := s.AddSignup(e.Context(), v)
	e.must(err)
	return v
}

func tokenOf(text string) []byte { return fmt.Appendf(nil, "%-32s", text) }

func mailed(v *store.Signup) {
	v.Mailed, v.Approved, v.Email = true, true, v.Name+"@example.net"
}

// names are who waits, oldest first.
func (e *env) names(s store.Store) (list []string) {
	e.Helper()
	for _, v := range all(e, s.Signups(e.Context())) {
		list = append(list, v.Name)
	}
	return list
}

// few is a configuration with room for few sign-ups.
func (e *env) few() store.Config {
	cfg := e.config()
	cfg.Signups, cfg.SignupsOfSource = 6, 3
	return cfg
}

// testManySignups: who floods the list ousts himself, first within a source, and then
// in the source that has most.
func testManySignups(e *env) {
	s := e.open(e.few())
	e.waits(s, "ann", "one", nil)
	for i := range 5 {
		e.waits(s, fmt.Sprint("x", i), "two", nil)
	}
	e.equal("five of one source", e.names(s), []string{"ann", "x2", "x3", "x4"})
	for i := range 4 { // by mail it is the same
		e.waits(s, fmt.Sprint("y", i), fmt.Sprint("net", i), mailed)
	}
	e.equal("four more of others", e.names(s), []string{"ann", "x4", "y0", "y1", "y2", "y3"})
	e.waits(s, "bob", "three", nil)
	e.equal("of equals the oldest", e.names(s), []string{"x4", "y0", "y1", "y2", "y3", "bob"})
}

// testOpenedSignups: who has opened the link is ousted by nobody who has not, and whom
// the operator has approved by nobody.
func testOpenedSignups(e *env) {
	s, ctx := e.open(e.few()), e.Context()
	ann, bob := e.waits(s, "ann", "one", nil), e.waits(s, "bob", "two", nil)
	e.must(s.OpenSignup(ctx, ann.ID))
	e.must(s.OpenSignup(ctx, ann.ID)) // again is nothing new
	_, err := s.ApproveSignup(ctx, bob)
	e.must(err)
	for i := range 20 {
		e.waits(s, fmt.Sprint("x", i), fmt.Sprint("net", i), nil)
	}
	e.equal("strangers", e.names(s), []string{"ann", "bob", "x14", "x15", "x16", "x17", "x18", "x19"})
	for i := range 9 { // they open theirs, too: these have their own room
		e.must(s.OpenSignup(ctx, e.waits(s, fmt.Sprint("y", i), "two", nil).ID))
	}
	e.equal("opened from one source", e.names(s)[:3], []string{"ann", "bob", "x15"})
	got := e.names(s)
	e.equal("opened from one source, the last", got[len(got)-3:], []string{"y6", "y7", "y8"})
	e.fails(s.OpenSignup(ctx, "x"), store.ErrNotFound)
	e.fails(s.OpenSignup(ctx, "\xff"), store.ErrNotFound)
}

// testFindSignups goes through the pages of those that wait for the operator.
func testFindSignups(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	var want []string
	for i := range 7 {
		v := e.waits(s, fmt.Sprint("Ann", i), "", func(v *store.Signup) { v.Email = fmt.Sprintf("a_%d@example.net", i) })
		if i == 4 {
			e.must(s.OpenSignup(ctx, v.ID))
			want = slices.Insert(want, 0, v.Name)
			continue
		}
		want = append(want, v.Name)
	}
	e.waits(s, "mail", "", mailed)
	_, err := s.ApproveSignup(ctx, e.waits(s, "approved", "", nil))
	e.must(err)
	find := func(f store.Find) (names []string, last string) {
		e.Helper()
		page, err := s.FindSignups(ctx, f)
		e.must(err)
		for _, v := range page {
			names, last = append(names, v.Name), v.Place()
		}
		return names, last
	}
	var got []string
	for after := ""; ; {
		page, last := find(store.Find{After: after, Limit: 2})
		if got = append(got, page...); len(page) == 0 {
			break
		}
		after = last
	}
	e.equal("all pages", got, want)
	for text, want := range map[string][]string{"ANN3": {"Ann3"}, "a_6": {"Ann6"}, "%": nil, "\x00": nil} {
		names, _ := find(store.Find{Text: text})
		e.equal("with "+text, names, want)
	}
	e.pass(2 * time.Hour)
	names, _ := find(store.Find{})
	e.equal("later", names, []string(nil))
}

// testConfirmed: an e-mail that somebody only says to have keeps nobody out. The first
// to confirm it has it.
func testConfirmed(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	const email = "ann@example.net"
	squatter := e.add(s, "squatter", func(u *store.User) { u.Email = email })
	e.add(s, "another", func(u *store.User) { u.Email = email })
	_, err := s.UserByEmail(ctx, email)
	e.fails(err, store.ErrNotFound)
	own := func(name string) func(*store.Signup) {
		return func(v *store.Signup) { mailed(v); v.Email, v.Token = email, tokenOf(name) }
	}
	e.waits(s, "ann", "", own("one"))
	e.waits(s, "late", "", own("two"))
	ann, err := s.Redeem(ctx, tokenOf("one"), keysOf("ann"))
	e.must(err)
	if !ann.Confirmed {
		e.Error("not confirmed")
	}
	_, err = s.Redeem(ctx, tokenOf("two"), keysOf("late"))
	e.fails(err, store.ErrEmail)
	got, err := s.UserByEmail(ctx, email)
	e.must(err)
	e.equal("who has the e-mail", got, ann)
	_, err = s.UpdateUser(ctx, squatter.ID, func(u *store.User) error { u.Confirmed = true; return nil })
	e.fails(err, store.ErrEmail)
	_, err = s.AddUser(ctx, store.User{Name: "new", Email: email, Confirmed: true})
	e.fails(err, store.ErrEmail)
	if _, err = s.AddUser(ctx, store.User{Name: "new", Confirmed: true}); err == nil {
		e.Error("confirmed without an e-mail")
	}
	unmailed := e.waits(s, "unmailed", "", func(v *store.Signup) { v.Email = email })
	_, err = s.ApproveSignup(ctx, unmailed)
	e.must(err)
	u, err := s.Redeem(ctx, unmailed.Token, keysOf("unmailed"))
	if e.must(err); u.Confirmed {
		e.Error("confirmed by a link that was shown")
	}
	e.must(s.RemoveUser(ctx, ann.ID))
	_, err = s.UpdateUser(ctx, squatter.ID, func(u *store.User) error { u.Confirmed = true; return nil })
	e.must(err) // free again
}

// testOneEmail: of many links to one e-mail, followed at the same time at two brokers,
// one makes a user.
func testOneEmail(e *env) {
	brokers, ctx := []store.Store{e.open(e.config()), e.open(e.config())}, e.Context()
	const links = 8
	for round := range 5 {
		results := make(chan error)
		for i := range links {
			name := fmt.Sprintf("r%dn%d", round, i)
			e.waits(brokers[0], name, "", func(v *store.Signup) { mailed(v); v.Email = fmt.Sprintf("r%d@example.net", round) })
		}
		for i := range links {
			go func() {
				_, err := brokers[i%2].Redeem(ctx, tokenOf(fmt.Sprintf("r%dn%d", round, i)), keysOf("x"))
				results <- err
			}()
		}
		good := 0
		for range links {
			switch err := <-results; {
			case err == nil:
				good++
			case !errors.Is(err, store.ErrEmail):
				e.Errorf("the others are told %v", err)
			}
		}
		if good != 1 {
			e.Errorf("%d users of one e-mail", good)
		}
	}
}

// testResets: a link changes the password once; a user has few; another password is the
// end of all.
func testResets(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	ann, bob := e.add(s, "ann", nil), e.add(s, "bob", nil)
	add := func(u store.User, name string, lasts time.Duration) {
		e.Helper()
		e.must(s.AddReset(ctx, store.Reset{UserID: u.ID, Token: tokenOf(name), Expires: e.clock().Add(lasts)}))
	}
	works := func(want store.User, names ...string) {
		e.Helper()
		for _, name := range names {
			u, err := s.UserByReset(ctx, tokenOf(name))
			e.must(err)
			e.equal("whose is "+name, u, want)
		}
	}
	gone := func(names ...string) {
		e.Helper()
		for _, name := range names {
			_, err := s.UserByReset(ctx, tokenOf(name))
			e.fails(err, store.ErrNotFound)
			_, err = s.Reset(ctx, tokenOf(name), func(*store.User) error { e.Errorf("%s changes something", name); return nil })
			e.fails(err, store.ErrNotFound)
		}
	}
	another := func(text string) func(*store.User) error {
		return func(u *store.User) error { u.Scram.StoredKey = []byte(text); return nil }
	}
	for i := range store.MaxResets + 1 {
		add(ann, fmt.Sprint("a", i), time.Hour)
	}
	add(bob, "b", time.Hour)
	gone("a0", "x", "")
	works(ann, "a1", "a2", "a3")
	works(bob, "b")
	e.fails(s.AddReset(ctx, store.Reset{UserID: ann.ID, Token: tokenOf("b"), Expires: e.clock().Add(time.Hour)}), store.ErrExists)
	e.fails(s.AddReset(ctx, store.Reset{UserID: "x", Token: tokenOf("x"), Expires: e.clock().Add(time.Hour)}), store.ErrNotFound)
	for _, bad := range []store.Reset{{UserID: ann.ID, Token: tokenOf("x")}, {UserID: ann.ID, Token: bytes.Repeat([]byte{1}, 31), Expires: e.clock()}} {
		if err := s.AddReset(ctx, bad); err == nil {
			e.Errorf("added %+v", bad)
		}
	}
	u, err := s.Reset(ctx, tokenOf("a2"), another("new"))
	if e.must(err); u.ID != ann.ID || string(u.Scram.StoredKey) != "new" {
		e.Errorf("changed %+v", u)
	}
	gone("a1", "a2", "a3")
	works(bob, "b")
	_, err = s.UpdateUser(ctx, bob.ID, func(u *store.User) error { u.PrefixLen = 56; return nil })
	e.must(err)
	bob.PrefixLen = 56
	works(bob, "b")
	_, err = s.UpdateUser(ctx, bob.ID, another("new"))
	e.must(err)
	gone("b")
	add(ann, "short", time.Minute)
	e.pass(time.Hour)
	gone("short")
	add(ann, "last", time.Hour)
	e.must(s.RemoveUser(ctx, ann.ID))
	gone("last")
}

// testResetOnce: of many that follow one link at the same time, one has it.
func testResetOnce(e *env) {
	brokers, ctx := []store.Store{e.open(e.config()), e.open(e.config())}, e.Context()
	ann := e.add(brokers[0], "ann", nil)
	e.must(brokers[0].AddReset(ctx, store.Reset{UserID: ann.ID, Token: tokenOf("a"), Expires: e.clock().Add(time.Hour)}))
	results := make(chan error)
	for i := range 8 {
		go func() {
			_, err := brokers[i%2].Reset(ctx, tokenOf("a"), func(*store.User) error { return nil })
			results <- err
		}()
	}
	good := 0
	for range 8 {
		switch err := <-results; {
		case err == nil:
			good++
		case !errors.Is(err, store.ErrNotFound):
			e.Error(err)
		}
	}
	if good != 1 {
		e.Errorf("%d have changed the password", good)
	}
}
