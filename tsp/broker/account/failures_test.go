package account

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp/sasl"
)

func TestFailures(t *testing.T) {
	other := Source{Addr: netip.MustParseAddr("203.0.113.9")}
	for _, m := range mechanisms() {
		t.Run(m, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := verifier(t, people(), Limits{
					Failures:          Rate{PerSecond: 0.1, Burst: 3},
					FailuresPerSource: Rate{PerSecond: 1, Burst: 5},
				})
				login := func(s Source, user, password string, want error) {
					t.Helper()
					if _, _, err := try(t, v, s, m, user, password); !errors.Is(err, want) {
						t.Errorf("%v %s %s: %v", s.Addr, user, password, err)
					}
				}
				for range 10 {
					login(source, "alice", "secret", nil) // who is right does not pay
				}
				for range 3 {
					login(source, "alice", "wrong", sasl.ErrAuth)
				}
				for range 3 {
					login(source, "alice", "wrong", ErrBusy)
					login(source, "alice", "secret", ErrBusy)
				}
				login(other, "alice", "secret", nil)
				login(source, "modern", "wrong", sasl.ErrAuth)
				login(source, "bob", "wrong", sasl.ErrAuth)
				login(source, "carol", "wrong", ErrBusy) // five of one source
				login(other, "carol", "wrong", sasl.ErrAuth)
				<-time.After(10 * time.Second)
				login(source, "alice", "secret", nil)
				login(source, "alice", "wrong", sasl.ErrAuth)
				login(source, "alice", "wrong", ErrBusy)
			})
		})
	}
}

// TestManyGuesses: 100 000 wrong passwords, from one source or from many, do not keep
// the user out.
func TestManyGuesses(t *testing.T) {
	for _, sources := range []int{1, 1000, 100_000} {
		t.Run(fmt.Sprint(sources), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := verifier(t, people(), Limits{Remembered: 1 << 12})
				checked := 0
				v.derive = func(password string, _ sasl.ScramKeys) bool {
					checked++
					return password == "secret"
				}
				for i := range 100_000 {
					l, _ := v.Start(sasl.Plain, Source{Addr: netip.AddrFrom4([4]byte{10, byte(i % sources >> 16), byte(i % sources >> 8), byte(i % sources)})})
					if _, done, _ := l.Next(t.Context(), []byte("alice\x00wrong")); done {
						t.Fatal("wrong, and in")
					}
				}
				if want := min(100_000, sources*10); checked != want {
					t.Errorf("%d were checked, want %d", checked, want)
				}
				for _, m := range mechanisms() {
					if _, _, err := try(t, v, source, m, "alice", "secret"); err != nil {
						t.Errorf("%s: %v", m, err)
					}
				}
				if n := v.failures.accounts.Len() + v.failures.sources.Len(); n > 2<<12 {
					t.Errorf("%d are remembered", n)
				}
			})
		})
	}
}

// TestForeignNonce: who has not heard our nonce costs a source nothing.
func TestForeignNonce(t *testing.T) {
	v := verifier(t, people(), Limits{Failures: Rate{PerSecond: 1, Burst: 1}})
	for range 5 {
		l, err := v.Start(sasl.ScramSHA256, source)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.Next(t.Context(), []byte("n,,n=alice,r=abc")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.Next(t.Context(), []byte("c=biws,r=abcguessed,p=AAAA")); !errors.Is(err, sasl.ErrAuth) {
			t.Error(err)
		}
	}
	if _, _, err := try(t, v, source, sasl.ScramSHA256, "alice", "secret"); err != nil {
		t.Error(err)
	}
}

// TestSharedFailures: what was guessed at one Verifier counts at another, with the same
// account and source only.
func TestSharedFailures(t *testing.T) {
	limits := Limits{Iterations: 4096, LookupTime: -1}
	shared, a := NewFailures(limits), people()
	var both [2]*Verifier
	for i := range both {
		v, err := New(Config{Accounts: a, Limits: limits, Failures: shared})
		if err != nil {
			t.Fatal(err)
		}
		both[i] = v
	}
	burst := limits.withDefaults().Failures.Burst
	for i := range burst {
		if _, _, err := try(t, both[i%2], source, sasl.Plain, "alice", "wrong"); !errors.Is(err, sasl.ErrAuth) {
			t.Fatalf("failure %d: %v", i, err)
		}
	}
	for i, v := range both {
		if _, _, err := try(t, v, source, sasl.ScramSHA256, "alice", "wrong"); !errors.Is(err, ErrBusy) {
			t.Errorf("at %d: %v, want %v", i, err, ErrBusy)
		}
		if _, _, err := try(t, v, source, sasl.Plain, "bob", "wrong"); !errors.Is(err, sasl.ErrAuth) {
			t.Errorf("at %d, another account: %v", i, err)
		}
	}
}
