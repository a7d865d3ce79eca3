package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"sixin4/tsp/broker/store"
	"sixin4/tsp/sasl"
)

// signup is one with a token of n.
func (e *env) signup(s store.Store, name string, n byte) store.Signup {
	e.Helper()
	v, err := s.AddSignup(e.Context(), store.Signup{
		Name: name, Email: name + "@example.net", Token: bytes.Repeat([]byte{n}, 32), PrefixLen: 64, MaxTunnels: 1,
		Expires: e.clock().Add(time.Hour),
	})
	e.must(err)
	return v
}

// keysOf are keys that a test recognises.
func keysOf(text string) store.User {
	return store.User{Scram: sasl.ScramKeys{Salt: []byte("salt"), Iterations: 4096, StoredKey: []byte(text), ServerKey: []byte("server")}}
}

func testSignup(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	ann, bob := e.signup(s, "ann", 1), e.signup(s, "bob", 2)
	if !uuid7.MatchString(ann.ID) || ann.Created.IsZero() || ann.Approved {
		e.Errorf("added %+v", ann)
	}
	e.equal("all", all(e, s.Signups(ctx)), []store.Signup{ann, bob})
	got, err := s.SignupByToken(ctx, bob.Token)
	e.must(err)
	e.equal("by token", got, bob)
	_, err = s.Redeem(ctx, ann.Token, keysOf("ann"))
	e.fails(err, store.ErrNotFound) // not approved

	want := ann
	want.Approved, want.PrefixLen, want.MaxTunnels, want.Expires = true, 48, 3, ann.Expires.Add(time.Hour)
	got, err = s.ApproveSignup(ctx, store.Signup{ID: ann.ID, PrefixLen: 48, MaxTunnels: 3, Expires: want.Expires})
	e.must(err)
	e.equal("approved", got, want)
	u, err := s.Redeem(ctx, ann.Token, keysOf("ann"))
	e.must(err)
	stored, err := s.UserByName(ctx, "ann")
	e.must(err)
	e.equal("the user", stored, u)
	if u.Email != "ann@example.net" || u.PrefixLen != 48 || u.MaxTunnels != 3 || string(u.Scram.StoredKey) != "ann" || u.Operator {
		e.Errorf("the user is %+v", u)
	}
	_, err = s.Redeem(ctx, ann.Token, keysOf("again"))
	e.fails(err, store.ErrNotFound)
	e.must(s.RemoveSignup(ctx, bob.ID))
	e.fails(s.RemoveSignup(ctx, bob.ID), store.ErrNotFound)
	e.equal("the rest", all(e, s.Signups(ctx)), []store.Signup(nil))
}

func testSignupRefused(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	e.add(s, "ann", nil)
	late := e.signup(s, "ann", 1)
	one, two := e.signup(s, "bob", 2), e.signup(s, "bob", 3)
	_, err := s.AddSignup(ctx, store.Signup{Name: "cid", Token: one.Token, Expires: one.Expires})
	e.fails(err, store.ErrExists)
	for _, bad := range []store.Signup{
		{}, {Name: "cid", Token: []byte("short"), Expires: one.Expires}, {Name: "cid", Token: make([]byte, 32)},
		{Name: "c\x00d", Token: make([]byte, 32), Expires: one.Expires},
		{Name: "cid", Email: "Upper@example.net", Token: make([]byte, 32), Expires: one.Expires},
		{Name: "cid", Email: strings.Repeat("x", 255), Token: make([]byte, 32), Expires: one.Expires},
		{Name: "cid", PrefixLen: 47, Token: make([]byte, 32), Expires: one.Expires},
	} {
		if _, err := s.AddSignup(ctx, bad); err == nil {
			e.Errorf("added %+v", bad)
		}
	}
	_, err = s.ApproveSignup(ctx, late)
	e.fails(err, store.ErrExists)
	for _, v := range []store.Signup{one, two} {
		_, err = s.ApproveSignup(ctx, v)
		e.must(err)
	}
	_, err = s.Redeem(ctx, two.Token, keysOf("two"))
	e.must(err)
	_, err = s.Redeem(ctx, one.Token, keysOf("one"))
	e.fails(err, store.ErrExists)
	if _, err := s.SignupByToken(ctx, one.Token); err != nil {
		e.Errorf("who came too late is forgotten: %v", err)
	}
	for _, token := range [][]byte{nil, {1}, make([]byte, 32)} {
		_, err = s.SignupByToken(ctx, token)
		e.fails(err, store.ErrNotFound)
		_, err = s.Redeem(ctx, token, keysOf("x"))
		e.fails(err, store.ErrNotFound)
	}
	for _, id := range []string{"", "x", "\x00", "\xff"} {
		_, err = s.ApproveSignup(ctx, store.Signup{ID: id})
		e.fails(err, store.ErrNotFound)
		e.fails(s.RemoveSignup(ctx, id), store.ErrNotFound)
		_, err = s.Lease(ctx, id)
		e.fails(err, store.ErrNotFound)
	}
}

func testSignupExpires(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	old := e.signup(s, "ann", 1)
	_, err := s.ApproveSignup(ctx, old)
	e.must(err)
	e.pass(2 * time.Hour)
	_, err = s.SignupByToken(ctx, old.Token)
	e.fails(err, store.ErrNotFound)
	_, err = s.Redeem(ctx, old.Token, keysOf("ann"))
	e.fails(err, store.ErrNotFound)
	e.equal("all", all(e, s.Signups(ctx)), []store.Signup(nil))
	fresh := e.signup(s, "ann", 1) // the token is free again, as the old one is gone
	e.equal("all", all(e, s.Signups(ctx)), []store.Signup{fresh})
}

// testSignupOnce: of many that redeem one at the same time, one has it.
func testSignupOnce(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	v := e.signup(s, "ann", 1)
	_, err := s.ApproveSignup(ctx, v)
	e.must(err)
	results := make(chan error)
	for i := range 8 {
		go func() {
			_, err := s.Redeem(ctx, v.Token, keysOf(fmt.Sprint(i)))
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
		e.Errorf("redeemed %d times", good)
	}
}

func testFind(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	ann := e.add(s, "ann", func(u *store.User) { u.Email, u.Operator, u.Confirmed = "a_x@example.net", true, true })
	hannah, zoe := e.add(s, "Hannah", nil), e.add(s, "z%e", nil)
	for _, tt := range []struct {
		find store.Find
		want []store.User
	}{
		{store.Find{}, []store.User{hannah, ann, zoe}},
		{store.Find{Text: "ANN"}, []store.User{hannah, ann}},
		{store.Find{Text: "ann", After: "Hannah"}, []store.User{ann}},
		{store.Find{Limit: 1}, []store.User{hannah}},
		{store.Find{Text: "a_x"}, []store.User{ann}},
		{store.Find{Text: "%"}, []store.User{zoe}},
		{store.Find{Text: "!"}, nil},
		{store.Find{Text: "\x00"}, nil},
	} {
		got, err := s.FindUsers(ctx, tt.find)
		e.must(err)
		e.equal(fmt.Sprintf("%+v", tt.find), got, tt.want)
	}
	got, err := s.UserByEmail(ctx, "a_x@example.net")
	e.must(err)
	e.equal("by e-mail", got, ann)
	_, err = s.UpdateUser(ctx, hannah.ID, func(u *store.User) error { u.Email = "h@example.net"; return nil })
	e.must(err)
	for _, email := range []string{"", "ax@example.net", "\xff", "h@example.net"} { // the last is not confirmed
		_, err = s.UserByEmail(ctx, email)
		e.fails(err, store.ErrNotFound)
	}
}

func testFindLeases(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	ann, bob := e.add(s, "ann", nil), e.add(s, "bob", nil)
	one, two := e.lease(s, e.up(s, ann.ID).ID), e.lease(s, e.up(s, bob.ID).ID)
	nobody := e.lease(s, e.reserve(s, "").ID)
	inside := one.Prefix.Addr().As16()
	inside[15] = 9
	for _, tt := range []struct {
		find store.Find
		want []store.Lease
	}{
		{store.Find{}, []store.Lease{one, two, nobody}},
		{store.Find{After: one.ID, Limit: 1}, []store.Lease{two}},
		{store.Find{Text: "AN"}, []store.Lease{one}},
		{store.Find{Text: two.ID}, []store.Lease{two}},
		{store.Find{Text: nobody.Client6.String()}, []store.Lease{nobody}},
		{store.Find{Text: netip.AddrFrom16(inside).String()}, []store.Lease{one}},
		{store.Find{Text: two.Prefix.String()}, []store.Lease{two}},
		{store.Find{Text: home.Addr().String()}, []store.Lease{one, two}},
		{store.Find{Text: "192.0.2.99"}, nil},
		{store.Find{Text: "\xff"}, nil},
	} {
		got, err := s.FindLeases(ctx, tt.find)
		e.must(err)
		e.equal(fmt.Sprintf("%+v", tt.find), got, tt.want)
	}
	got, err := s.LeasesOf(ctx, bob.ID)
	e.must(err)
	e.equal("of bob", got, []store.Lease{two})
}
