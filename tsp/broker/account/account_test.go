package account

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp/sasl"
)

const (
	testRealm      = "example.net"
	testIterations = 4096
)

var source = Source{Addr: netip.MustParseAddr("198.51.100.7")}

// accounts are in memory.
type accounts struct {
	users map[string]*User
	err   error
	names []string // looked up
}

func (a *accounts) Lookup(_ context.Context, name string) (*User, error) {
	a.names = append(a.names, name)
	if a.err != nil {
		return nil, a.err
	}
	if u := a.users[name]; u != nil {
		return u, nil
	}
	return nil, fmt.Errorf("memory: %w", ErrNoUser)
}

// keys of the password "secret".
var keys = sync.OnceValue(func() sasl.ScramKeys {
	k, err := HashPassword("alice", "secret", testIterations)
	if err != nil {
		panic(err)
	}
	return k
})

// people are users of every kind, all with the password "secret".
func people() *accounts {
	all := &accounts{users: make(map[string]*User)}
	for _, u := range []User{
		{Name: "alice"}, {Name: "disabled", Disabled: true},
		{Name: "modern", Mechanisms: []string{"scram-sha-256"}},
		{Name: "ünïcode and blanks"},
	} {
		digest := sasl.NewDigest(u.Name, testRealm, "secret")
		u.Scram, u.Digest = keys(), &digest
		all.users[u.Name] = &u
	}
	all.users["no digest"] = &User{Name: "no digest", Scram: keys()}
	all.users["no keys"] = &User{Name: "no keys"}
	return all
}

func verifier(t testing.TB, a Accounts, l Limits) *Verifier {
	t.Helper()
	l.Iterations = testIterations
	if l.LookupTime == 0 {
		l.LookupTime = -1
	}
	v, err := New(Config{Accounts: a, Realm: testRealm, Limits: l})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// try runs a login to its end; said is all that the broker says.
func try(t testing.TB, v *Verifier, s Source, mechanism, user, password string) (u *User, said []string, err error) {
	t.Helper()
	c, err := sasl.NewClient(mechanism, sasl.Credentials{User: user, Password: password, Server: "x"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := v.Start(mechanism, s)
	if err != nil {
		t.Fatal(err)
	}
	if l.Mechanism() != mechanism || l.User() != nil {
		t.Errorf("%s, %v", l.Mechanism(), l.User())
	}
	in, _, err := c.Next(nil)
	if err != nil {
		t.Fatal(err)
	}
	for {
		out, done, err := l.Next(t.Context(), in)
		if out != nil {
			said = append(said, string(out))
		}
		if done || err != nil {
			return l.User(), said, err
		}
		if out == nil {
			continue // the broker only waits for the first message
		}
		if in, _, err = c.Next(out); err != nil {
			t.Fatal(err)
		}
	}
}

func mechanisms() []string { return []string{sasl.Plain, sasl.DigestMD5, sasl.ScramSHA256} }

func TestLogin(t *testing.T) {
	tests := []struct {
		user, password string
		in             string // the mechanisms that let in, by their first letter
	}{
		{"alice", "secret", "PDS"},
		{"alice", "Secret", ""},
		{"alice", "x", ""},
		{"bob", "secret", ""},
		{"disabled", "secret", ""},
		{"modern", "secret", "S"},
		{"no digest", "secret", "PS"},
		{"no keys", "secret", ""},
		{"ünïcode and blanks", "secret", "PDS"},
		{strings.Repeat("a", 253), "secret", ""},
	}
	for _, tt := range tests {
		for _, m := range mechanisms() {
			t.Run(m+"/"+tt.user[:min(len(tt.user), 20)]+"/"+tt.password, func(t *testing.T) {
				u, _, err := try(t, verifier(t, people(), Limits{}), source, m, tt.user, tt.password)
				if !strings.Contains(tt.in, m[:1]) {
					if !errors.Is(err, sasl.ErrAuth) || u != nil {
						t.Errorf("%v, %v", u, err)
					}
					return
				}
				if err != nil || u == nil || u.Name != tt.user {
					t.Errorf("%v, %v", u, err)
				}
			})
		}
	}
}

// TestNoEnumeration: nothing that is said and no work that is done tells whether there
// is an account.
func TestNoEnumeration(t *testing.T) {
	for _, m := range mechanisms() {
		t.Run(m, func(t *testing.T) {
			v := verifier(t, people(), Limits{})
			var derived []int
			v.derive = func(password string, k sasl.ScramKeys) bool {
				derived = append(derived, k.Iterations, len(k.Salt), len(k.StoredKey))
				return derive(password, k)
			}
			var want string
			for _, user := range []string{"alice", "bob", "carol", "disabled", "modern", "no digest", "no keys"} {
				derived = nil
				_, said, err := try(t, v, source, m, user, "wrong")
				got := fmt.Sprint(derived, shape(said), err)
				if want == "" {
					want = got
				}
				if got != want {
					t.Errorf("%s: %s, but alice: %s", user, got, want)
				}
			}
			if strings.Contains(want, "nil") || m == sasl.Plain && !strings.HasPrefix(want, "[4096 16 32]") {
				t.Error(want)
			}
		})
	}
}

// shape is what was said without what is random: the length of each field.
func shape(said []string) (all []string) {
	for _, s := range said {
		for field := range strings.SplitSeq(s, ",") {
			key, value, _ := strings.Cut(field, "=")
			if key == "i" {
				key += value
			}
			all = append(all, fmt.Sprint(key, len(value)))
		}
	}
	return all
}

// TestDecoy: the salt of a name without account is the same every time, on every broker
// with the same secret, and nobody's else.
func TestDecoy(t *testing.T) {
	salt := func(v *Verifier, user string) string {
		_, said, _ := try(t, v, source, sasl.ScramSHA256, user, "wrong")
		_, rest, _ := strings.Cut(said[0], ",s=")
		return rest
	}
	one, same := verifier(t, people(), Limits{}), verifier(t, people(), Limits{})
	same.config.Secret = one.config.Secret
	other := verifier(t, people(), Limits{})
	if bob := salt(one, "bob"); bob != salt(one, "bob") || bob != salt(same, "bob") || bob == salt(one, "carol") || bob == salt(other, "bob") {
		t.Error("not one salt for each name and secret")
	}
	if salt(one, "alice") != salt(other, "alice") {
		t.Error("the salt of a user changes")
	}
}

func TestLookupFails(t *testing.T) {
	broken := errors.New("disk full")
	for _, m := range mechanisms() {
		for _, tt := range []struct {
			err  error
			busy bool
		}{{broken, false}, {fmt.Errorf("db: %w", context.DeadlineExceeded), true}} {
			t.Run(fmt.Sprint(m, "/", tt.err), func(t *testing.T) {
				a := people()
				v := verifier(t, a, Limits{Failures: Rate{PerSecond: 1, Burst: 1}})
				a.err = tt.err
				for range 3 {
					_, _, err := try(t, v, source, m, "alice", "secret")
					if errors.Is(err, sasl.ErrAuth) || errors.Is(err, ErrBusy) != tt.busy || errors.Is(err, broken) == tt.busy {
						t.Error(err)
					}
				}
				a.err = nil
				if _, _, err := try(t, v, source, m, "alice", "secret"); err != nil {
					t.Errorf("what was not checked has counted: %v", err)
				}
			})
		}
	}
}

// TestNames: what cannot be a name is not looked up.
func TestNames(t *testing.T) {
	a := people()
	v := verifier(t, a, Limits{})
	for _, name := range []string{"a\x01b", "\xff\xfe", strings.Repeat("a", 254), "\u0085"} {
		l, err := v.Start(sasl.Plain, source)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.Next(t.Context(), []byte(name+"\x00secret")); !errors.Is(err, sasl.ErrAuth) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if len(a.names) != 0 {
		t.Errorf("looked up: %q", a.names)
	}
}

// TestTurns: few passwords are checked at a time, some wait, and the others are sent
// away, whoever they are.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := verifier(t, people(), Limits{Deriving: 2, Waiting: 3, WaitingPerSource: 2})
		working, most, release := 0, 0, make(chan struct{})
		var mu sync.Mutex
		v.derive = func(string, sasl.ScramKeys) bool {
			mu.Lock()
			working++
			most = max(most, working)
			mu.Unlock()
			<-release
			mu.Lock()
			working--
			mu.Unlock()
			return true
		}
		ended := make(chan error, 20)
		login := func(ctx context.Context, from byte) {
			l, _ := v.Start(sasl.Plain, Source{Addr: netip.AddrFrom4([4]byte{10, 0, 0, from})})
			go func() {
				_, _, err := l.Next(ctx, []byte("alice\x00secret"))
				ended <- err
			}()
			synctest.Wait()
		}
		expect := func(name string, want error) {
			t.Helper()
			synctest.Wait()
			if len(ended) != 1 {
				t.Fatalf("%s: %d have ended", name, len(ended))
			}
			if err := <-ended; !errors.Is(err, want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		login(t.Context(), 1)
		login(t.Context(), 1)
		login(t.Context(), 1)
		expect("third of one source", ErrBusy)
		login(t.Context(), 2)
		login(t.Context(), 3)
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		login(impatient, 4)
		login(t.Context(), 5)
		expect("sixth in all", ErrBusy)
		<-time.After(time.Second)
		expect("who waits no longer", ErrBusy)
		for range 4 {
			release <- struct{}{}
			expect("one by one", nil)
		}
		if most != 2 || v.turns.all != 0 || len(v.turns.sources) != 0 {
			t.Errorf("%d at a time, %d left", most, v.turns.all)
		}
	})
}

func TestHashPassword(t *testing.T) {
	tests := []struct {
		name, user, password string
		iterations           int
		ok                   bool
	}{
		{"good", "alice", "secret", 4096, true},
		{"no user", "", "secret", 4096, false},
		{"no password", "alice", "", 4096, false},
		{"long password", "alice", strings.Repeat("x", 129), 4096, false},
		{"line end", "alice", "a\nb", 4096, false},
		{"zero byte in user", "a\x00b", "secret", 4096, false},
		{"too few", "alice", "secret", 4095, false},
		{"too many", "alice", "secret", 1_000_001, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, err := HashPassword(tt.user, tt.password, tt.iterations)
			if (err == nil) != tt.ok {
				t.Fatal(err)
			}
			if tt.ok && (!derive(tt.password, k) || derive(tt.password+"x", k) || len(k.Salt) != 16) {
				t.Error("not the keys of the password")
			}
		})
	}
	a, _ := HashPassword("alice", "secret", 4096)
	b, _ := HashPassword("alice", "secret", 4096)
	if string(a.Salt) == string(b.Salt) || string(a.StoredKey) == string(b.StoredKey) {
		t.Error("the same salt twice")
	}
	if k, err := HashPassword("alice", "secret", 0); err != nil || k.Iterations != DefaultIterations {
		t.Errorf("%d iterations by default, %v", k.Iterations, err)
	}
}

func TestNew(t *testing.T) {
	for _, c := range []Config{{Realm: "a b"}, {Limits: Limits{Iterations: 1}}, {Limits: Limits{Iterations: 2_000_000}}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	v, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Start(sasl.Anonymous, source); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if _, _, err := try(t, v, source, sasl.DigestMD5, "alice", "secret"); !errors.Is(err, sasl.ErrAuth) {
		t.Errorf("without accounts: %v", err)
	}
}
