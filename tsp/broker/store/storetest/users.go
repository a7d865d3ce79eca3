package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"sixin4/tsp/broker/store"
	"sixin4/tsp/sasl"
)

var uuid7 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func (e *env) equal(what string, got, want any) {
	e.Helper()
	if !reflect.DeepEqual(got, want) {
		e.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func testUsers(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	digest := sasl.NewDigest("ann", "realm", "secret")
	ann := e.add(s, "ann", func(u *store.User) {
		u.Legacy, u.Digest, u.Mechanisms, u.MaxTunnels, u.Disabled = true, &digest, []string{sasl.Plain, sasl.DigestMD5}, 3, true
	})
	bob := e.add(s, "bob", nil)
	if !uuid7.MatchString(ann.ID) || !uuid7.MatchString(bob.ID) || ann.ID >= bob.ID || ann.Created.IsZero() {
		e.Errorf("IDs %s, %s, created %v", ann.ID, bob.ID, ann.Created)
	}
	got, err := s.UserByName(ctx, "ann")
	e.must(err)
	e.equal("by name", got, ann)
	got, err = s.User(ctx, bob.ID)
	e.must(err)
	e.equal("by ID", got, bob)
	e.equal("all", all(e, s.Users(ctx)), []store.User{ann, bob})

	changed, err := s.UpdateUser(ctx, ann.ID, func(u *store.User) error {
		e.equal("to change", *u, ann)
		u.ID, u.Name, u.Disabled, u.Mechanisms, u.Digest, u.Legacy = "x", "anna", false, nil, nil, false
		u.Scram.StoredKey = []byte("other")
		return nil
	})
	e.must(err)
	got, err = s.UserByName(ctx, "anna")
	e.must(err)
	e.equal("changed", got, changed)
	if got.ID != ann.ID || got.Disabled || got.Mechanisms != nil || got.Digest != nil || string(got.Scram.StoredKey) != "other" {
		e.Errorf("changed to %+v", got)
	}
	e.must(s.RemoveUser(ctx, bob.ID))
	e.equal("the rest", all(e, s.Users(ctx)), []store.User{changed})
}

func testUserRefused(e *env) {
	s, ctx := e.open(e.config()), e.Context()
	ann, bob := e.add(s, "ann", nil), e.add(s, "bob", nil)
	_, err := s.AddUser(ctx, store.User{Name: "ann"})
	e.fails(err, store.ErrExists)
	rename := func(u *store.User) error { u.Name = "ann"; return nil }
	_, err = s.UpdateUser(ctx, bob.ID, rename)
	e.fails(err, store.ErrExists)
	for _, name := range []string{"\x00", "ann\x00", "\xff"} { // some databases take no such text
		_, err = s.UserByName(ctx, name)
		e.fails(err, store.ErrNotFound)
	}
	for _, id := range []string{"", "x", ann.ID + "x"} {
		_, err = s.User(ctx, id)
		e.fails(err, store.ErrNotFound)
		_, err = s.UserByName(ctx, id)
		e.fails(err, store.ErrNotFound)
		_, err = s.UpdateUser(ctx, id, rename)
		e.fails(err, store.ErrNotFound)
		e.fails(s.RemoveUser(ctx, id), store.ErrNotFound)
	}
	mine := errors.New("mine")
	_, err = s.UpdateUser(ctx, bob.ID, func(u *store.User) error { u.Name = "x"; return mine })
	e.fails(err, mine)
	digest := sasl.Digest{1}
	for _, u := range []store.User{
		{}, {Name: strings.Repeat("x", 254)}, {Name: "cid", PrefixLen: 47}, {Name: "cid", PrefixLen: 65}, {Name: "cid", MaxTunnels: -1},
		{Name: "cid", Digest: &digest}, {Name: "c\x00d"}, {Name: "c\xffd"}, {Name: "c\nd"},
		{Name: "cid", Mechanisms: []string{"A B"}}, {Name: "cid", Mechanisms: []string{""}},
	} {
		if _, err := s.AddUser(ctx, u); err == nil {
			e.Errorf("added %+v", u)
		}
	}
	e.equal("users", all(e, s.Users(ctx)), []store.User{ann, bob})
}

// testManyUsers has more than a page, and stops in the middle.
func testManyUsers(e *env) {
	s := e.open(e.config())
	var names []string
	for i := range 603 {
		names = append(names, e.add(s, fmt.Sprintf("user%04d", (i*7)%603), nil).Name)
	}
	slices.Sort(names)
	var got []string
	for _, u := range all(e, s.Users(e.Context())) {
		got = append(got, u.Name)
	}
	e.equal("names", got, names)
	n := 0
	for range s.Users(e.Context()) {
		if n++; n == 251 {
			break
		}
	}
	if n != 251 {
		e.Errorf("%d users before the break", n)
	}
}

func testDigest(e *env) {
	cfg := e.config()
	s, ctx := e.open(cfg), e.Context()
	digest := sasl.NewDigest("ann", "realm", "secret")
	ann := e.add(s, "ann", func(u *store.User) { u.Legacy, u.Digest = true, &digest })

	cfg.Key = key(e, 2)
	_, err := e.opener(ctx, cfg)
	e.fails(err, store.ErrKey)

	cfg.Key = nil
	blind := e.open(cfg)
	u, err := blind.User(ctx, ann.ID)
	if e.must(err); u.Digest != nil {
		e.Error("a digest without a key")
	}
	_, err = blind.AddUser(ctx, store.User{Name: "bob", Legacy: true, Digest: &digest})
	e.fails(err, store.ErrKey)
	_, err = blind.UpdateUser(ctx, ann.ID, func(u *store.User) error { u.MaxTunnels = 2; return nil })
	e.must(err)
	u, err = s.User(ctx, ann.ID)
	if e.must(err); u.MaxTunnels != 2 || u.Digest == nil || *u.Digest != digest {
		e.Errorf("after a change without the key: %+v", u)
	}
	for what, change := range map[string]func(*store.User) error{
		"legacy login": func(u *store.User) error { u.Legacy = false; return nil },
		"the password": func(u *store.User) error { u.Scram.StoredKey[0]++; return nil },
	} {
		_, err = s.UpdateUser(ctx, ann.ID, func(u *store.User) error { u.Legacy, u.Digest = true, &digest; return nil })
		e.must(err)
		_, err = blind.UpdateUser(ctx, ann.ID, change)
		e.must(err)
		if u, err = s.User(ctx, ann.ID); err != nil || u.Digest != nil {
			e.Errorf("the digest outlives %s: %+v, %v", what, u, err)
		}
	}
}
