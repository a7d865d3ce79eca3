// Package storetest has the tests that every store.Store must pass (RFC 5572 says
// nothing about stores; package store does).
package storetest

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/sasl"
)

// Opener opens one database, a new one first and then the same one again and again.
type Opener func(ctx context.Context, cfg store.Config) (store.Store, error)

// Run runs all tests; backend makes an empty database.
func Run(t *testing.T, backend func(t testing.TB) Opener) {
	for name, test := range map[string]func(*env){
		"users":                    testUsers,
		"many users":               testManyUsers,
		"user refused":             testUserRefused,
		"digest":                   testDigest,
		"replace key":              testReplaceKey,
		"first lease":              testFirstLease,
		"permanent lease":          testPermanent,
		"prefix later":             testPrefixLater,
		"several tunnels":          testSeveral,
		"anonymous":                testAnonymous,
		"quarantine":               testQuarantine,
		"no quarantine":            testNoQuarantine,
		"remove user":              testRemoveUser,
		"disable user":             testDisable,
		"fencing":                  testFencing,
		"touch":                    testTouch,
		"live":                     testLive,
		"count leases":             testCountLeases,
		"full":                     testFull,
		"history":                  testHistory,
		"forget history":           testForget,
		"reserve refused":          testReserveRefused,
		"unknown leases":           testUnknown,
		"other pool":               testOtherPool,
		"two processes":            testTwo,
		"two processes, full pool": testTwoFull,
		"crowd":                    testCrowd,
		"model":                    testModel,
		"cancelled":                testCancelled,
		"closed":                   testClosed,
		"sign-up":                  testSignup,
		"sign-up refused":          testSignupRefused,
		"sign-up expires":          testSignupExpires,
		"sign-up once":             testSignupOnce,
		"many sign-ups":            testManySignups,
		"opened sign-ups":          testOpenedSignups,
		"find sign-ups":            testFindSignups,
		"confirmed e-mail":         testConfirmed,
		"one e-mail, two brokers":  testOneEmail,
		"resets":                   testResets,
		"reset once":               testResetOnce,
		"find users":               testFind,
		"find leases":              testFindLeases,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each has a database of its own, and waits for the disk
			e := &env{T: t, opener: backend(t), now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
			test(e)
		})
	}
}

// Pool is that of the examples in the documentation.
var Pool = netip.MustParsePrefix("2001:db8:1000::/36")

// env is a database with a clock.
type env struct {
	*testing.T
	opener Opener

	mu  sync.Mutex
	now time.Time
}

func (e *env) clock() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now = e.now.Add(time.Microsecond) // no two things happen at once
	return e.now
}

func (e *env) pass(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now = e.now.Add(d)
}

// config is the usual one.
func (e *env) config() store.Config {
	return store.Config{Pool: Pool, Quarantine: 24 * time.Hour, Now: e.clock, Key: key(e, 1)}
}

func key(t testing.TB, fill byte) *store.Key {
	k, err := store.NewKey([]byte(strings.Repeat(string(rune(fill)), 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// open opens the database until the end of the test.
func (e *env) open(cfg store.Config) store.Store {
	e.Helper()
	s, err := e.opener(e.Context(), cfg)
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() {
		if err := s.Close(); err != nil {
			e.Errorf("close: %v", err)
		}
	})
	return s
}

// fails fails unless the error wraps another.
func (e *env) fails(err, want error) {
	e.Helper()
	if !errors.Is(err, want) {
		e.Errorf("error %v, want %v", err, want)
	}
}

// must ends the test at an error.
func (e *env) must(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

// add adds a user with one tunnel and a prefix length.
func (e *env) add(s store.Store, name string, change func(*store.User)) store.User {
	e.Helper()
	u := store.User{
		Name: name, PrefixLen: 48, MaxTunnels: 1,
		Scram: sasl.ScramKeys{Salt: []byte("salt of " + name), Iterations: 4096, StoredKey: []byte("stored"), ServerKey: []byte("server")},
	}
	if change != nil {
		change(&u)
	}
	u, err := s.AddUser(e.Context(), u)
	e.must(err)
	return u
}

var (
	home  = netip.MustParseAddrPort("192.0.2.7:40000")
	local = netip.MustParseAddrPort("198.51.100.2:443") // of the broker
)

// reserve reserves for a user, who wants a /48, or for nobody.
func (e *env) reserve(s store.Store, userID string) store.Lease {
	e.Helper()
	w := store.Want{UserID: userID, PrefixLen: 48, From: home}
	if userID == "" {
		w.PrefixLen, w.Expires = 0, e.clock().Add(time.Minute)
	}
	l, err := s.Reserve(e.Context(), w)
	e.must(err)
	return l
}

// activate activates what was reserved, at node n1 from home; that of nobody for an hour.
func (e *env) activate(s store.Store, l store.Lease) store.Lease {
	e.Helper()
	l, err := s.Activate(e.Context(), e.activation(l))
	e.must(err)
	return l
}

func (e *env) activation(l store.Lease) store.Activation {
	return store.Activation{
		ID: l.ID, Epoch: l.Epoch, Node: "n1", Type: tsp.V6UDPV4, Outer: home, Local: local, Merged: true,
		Expires: e.clock().Add(time.Hour),
	}
}

// up is a lease of a user that is up.
func (e *env) up(s store.Store, userID string) store.Lease {
	e.Helper()
	return e.activate(s, e.reserve(s, userID))
}

// crowd brings up so many leases of nobody, several at a time: commits cost less
// together.
func (e *env) crowd(s store.Store, n int) []store.Lease {
	e.Helper()
	leases, errs := make([]store.Lease, n), make([]error, n)
	const together = 16
	var wg sync.WaitGroup
	for first := range together {
		wg.Go(func() {
			for i := first; i < n; i += together {
				l, err := s.Reserve(e.Context(), store.Want{From: home, Expires: e.clock().Add(time.Minute)})
				if err == nil {
					l, err = s.Activate(e.Context(), e.activation(l))
				}
				leases[i], errs[i] = l, err
			}
		})
	}
	wg.Wait()
	e.must(errors.Join(errs...))
	return leases
}

// all takes what an iterator has.
func all[T any](e *env, from iter.Seq2[T, error]) []T {
	e.Helper()
	var values []T
	for v, err := range from {
		e.must(err)
		values = append(values, v)
	}
	return values
}

// lease reads one.
func (e *env) lease(s store.Store, id string) store.Lease {
	e.Helper()
	l, err := s.Lease(e.Context(), id)
	e.must(err)
	return l
}

// disjoint fails when two leases overlap, in the dumbest way.
func (e *env) disjoint(s store.Store) []store.Lease {
	e.Helper()
	leases := all(e, s.Leases(e.Context()))
	owner := map[netip.Prefix]string{}
	for _, l := range leases {
		blocks := []netip.Prefix{netip.PrefixFrom(l.Client6, 128)}
		if l.Prefix.IsValid() {
			blocks = append(blocks, l.Prefix)
		}
		for _, b := range blocks {
			for bits := b.Bits(); bits >= 36; bits-- {
				if other := owner[netip.PrefixFrom(b.Addr(), bits).Masked()]; other != "" {
					e.Errorf("%v of %s is in a block of %s", b, l.ID, other)
				}
			}
		}
		for _, b := range blocks {
			owner[b] = l.ID
		}
	}
	for b, id := range owner { // those inside that came later
		for bits := b.Bits() - 1; bits >= 36; bits-- {
			if other := owner[netip.PrefixFrom(b.Addr(), bits).Masked()]; other != "" {
				e.Errorf("%v of %s is in a block of %s", b, id, other)
			}
		}
	}
	return leases
}
