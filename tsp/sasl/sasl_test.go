package sasl

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	all := []string{"PASSDSS-3DES-1", Anonymous, Plain, DigestMD5, ScramSHA256}
	tests := []struct {
		name, method string
		offered      []string
		user, want   string
	}{
		{"best", "any", all, "alice", ScramSHA256},
		{"second best", "any", all[:4], "alice", DigestMD5},
		{"empty is any", "", all, "alice", ScramSHA256},
		{"any case", "ANY", []string{"digest-md5"}, "alice", DigestMD5},
		{"never plain", "any", []string{Anonymous, Plain}, "alice", ""},
		{"never anonymous", "any", []string{Anonymous}, "alice", ""},
		{"nobody", "any", all, "", Anonymous},
		{"nobody is not offered", "any", all[2:], "", ""},
		{"told plain", "plain", all, "alice", Plain},
		{"told anonymous", "anonymous", all, "alice", Anonymous},
		{"told digest", "digest-md5", all, "alice", DigestMD5},
		{"told what is not offered", "scram-sha-256", all[:4], "alice", ""},
		{"nothing offered", "any", nil, "alice", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Choose(tt.method, tt.offered, tt.user)
			if got != tt.want || errors.Is(err, ErrNoMechanism) != (tt.want == "") {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestNewClient(t *testing.T) {
	tests := []struct {
		name, mechanism, user, password string
		ok                              bool
	}{
		{"anonymous", Anonymous, "", "", true},
		{"plain", Plain, "alice", "", true},
		{"no user", Plain, "", "secret", false},
		{"zero byte", Plain, "alice\x00", "secret", false},
		{"line end", Plain, "alice", "secret\r\n", false},
		{"long user", DigestMD5, strings.Repeat("a", 254), "", false},
		{"long password", DigestMD5, "alice", strings.Repeat("a", 129), false},
		{"unassigned", ScramSHA256, "alice", "\U000e0fff", false},
		{"unknown", "PASSDSS-3DES-1", "alice", "secret", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := NewClient(tt.mechanism, Credentials{User: tt.user, Password: tt.password}); (err == nil) != tt.ok {
				t.Error(err)
			}
		})
	}
	if _, err := NewClient("X", Credentials{User: "alice"}); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

// dialogue runs both sides until one is done with the other, or the first error.
// The client's first message comes with the name, as it does on the wire.
func dialogue(c Client, s Server, change func(client bool, n int, b []byte) []byte) error {
	out, clientDone, err := c.Next(nil)
	serverDone := false
	for n := 0; err == nil && n < 4; n++ {
		if out, serverDone, err = s.Next(change(true, n, out)); err != nil {
			return err
		}
		if serverDone && out == nil {
			break
		}
		if out, clientDone, err = c.Next(change(false, n, out)); clientDone && serverDone {
			break
		}
	}
	if err == nil && !(clientDone && serverDone) {
		err = fmt.Errorf("done %v and %v", clientDone, serverDone)
	}
	return err
}

func untouched(_ bool, _ int, b []byte) []byte { return b }

const testIterations = 4096

// servers makes the broker's side of every mechanism, which knows alice.
func servers(t testing.TB) map[string]func() Server {
	keys, err := NewScramKeys("alice", "secret", []byte("sixteen byte salt"), testIterations)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]func() Server{
		Plain: func() Server {
			return NewPlainServer(func(user, password string) bool { return user == "alice" && SamePassword(password, "secret") })
		},
		DigestMD5: func() Server {
			s, err := NewDigestServer(DigestConfig{Realm: "example.net", Lookup: func(user string) (Digest, bool) {
				return NewDigest("alice", "example.net", "secret"), user == "alice"
			}})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		ScramSHA256: func() Server {
			s, err := NewScramServer(func(user string) (ScramKeys, bool) { return keys, user == "alice" })
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	}
}

func TestDialogues(t *testing.T) {
	for name, newServer := range servers(t) {
		for _, tt := range []struct {
			user, password string
			ok             bool
		}{{"alice", "secret", true}, {"alice", "Secret", false}, {"alice", "", false}, {"bob", "secret", false}} {
			t.Run(fmt.Sprintf("%s/%s-%s", name, tt.user, tt.password), func(t *testing.T) {
				c, err := NewClient(name, Credentials{User: tt.user, Password: tt.password, Server: "192.0.2.1"})
				if err != nil {
					t.Fatal(err)
				}
				s := newServer()
				err = dialogue(c, s, untouched)
				if (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrAuth) {
					t.Error(err)
				}
				if want := map[bool]string{true: tt.user}[tt.ok]; s.User() != want {
					t.Errorf("user %q", s.User())
				}
				if _, _, err := s.Next([]byte("x")); tt.ok && name != Plain && err == nil {
					t.Error("it goes on behind its end")
				}
			})
		}
	}
}

// TestTampering: one changed bit in any message of a mechanism that proves both sides
// is noticed by one of them.
func TestTampering(t *testing.T) {
	for _, name := range []string{DigestMD5, ScramSHA256} {
		newServer := servers(t)[name]
		for message := range 4 {
			t.Run(fmt.Sprintf("%s/%d", name, message), func(t *testing.T) {
				c, err := NewClient(name, Credentials{User: "alice", Password: "secret", Server: "192.0.2.1"})
				if err != nil {
					t.Fatal(err)
				}
				changed := false
				err = dialogue(c, newServer(), func(client bool, n int, b []byte) []byte {
					if client != (message%2 == 0) || n != message/2 || len(b) == 0 {
						return b
					}
					changed, b = true, bytes.Clone(b)
					b[len(b)/2] ^= 1
					return b
				})
				if changed && err == nil {
					t.Error("nobody noticed")
				}
				if !changed && err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestPlainServer(t *testing.T) {
	tests := []struct {
		name, in string
		ok       bool
	}{
		{"as seen", "\x00alice\x00secret", true},
		{"as seen on a stream", "\x00\x00alice\x00secret", true},
		{"zero byte already skipped", "alice\x00secret", true},
		{"authorization identity", "root\x00alice\x00secret", false},
		{"base64", "AGFsaWNlAHNlY3JldA==", false},
		{"no password", "alice", false},
		{"no user", "\x00\x00secret", false},
		{"zero byte behind", "alice\x00secret\x00", false},
		{"empty", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := servers(t)[Plain]()
			if out, done, err := s.Next(nil); out != nil || done || err != nil {
				t.Fatalf("%q %v %v", out, done, err)
			}
			_, done, err := s.Next([]byte(tt.in))
			if done != tt.ok || errors.Is(err, ErrAuth) == tt.ok {
				t.Errorf("%v %v", done, err)
			}
		})
	}
}

func TestAnonymous(t *testing.T) {
	c, err := NewClient(Anonymous, Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	if err := dialogue(c, NewAnonymousServer(), untouched); err != nil {
		t.Error(err)
	}
	if _, _, err := NewAnonymousServer().Next([]byte("x")); !errors.Is(err, ErrProtocol) {
		t.Error(err)
	}
}

// TestScramWork: a broker must not keep a client busy, nor make guessing cheap.
func TestScramWork(t *testing.T) {
	for _, iterations := range []string{"0", "-1", "4095", "1000001", "9223372036854775807", "many", ""} {
		c, err := NewClient(ScramSHA256, Credentials{User: "alice", Password: "secret", Nonce: fixed("abc")})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Next(nil); err != nil {
			t.Fatal(err)
		}
		first := "r=abcdef,s=c2l4dGVlbiBieXRlIHNhbHQ=,i=" + iterations
		if _, _, err := c.Next([]byte(first)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%q: %v", iterations, err)
		}
	}
	if _, err := NewScramKeys("alice", "secret", []byte("salt"), 1); err == nil {
		t.Error("keys of one iteration")
	}
}

// TestScramUnknown: whether a user exists does not show before the password does.
func TestScramUnknown(t *testing.T) {
	first := func(user string) string {
		s, err := NewScramServer(func(string) (ScramKeys, bool) { return ScramKeys{}, false })
		if err != nil {
			t.Fatal(err)
		}
		out, done, err := s.Next([]byte("n,,n=" + user + ",r=abc"))
		if done || err != nil {
			t.Fatalf("%v %v", done, err)
		}
		_, rest, _ := strings.Cut(string(out), ",") // without the nonce
		return rest
	}
	if bob := first("bob"); bob != first("bob") || bob == first("carol") {
		t.Errorf("%q is not one salt for each user", bob)
	}
	if s := servers(t)[ScramSHA256](); s != nil {
		if _, _, err := s.Next([]byte("n,a=root,n=alice,r=abc")); err == nil {
			t.Error("an authorization identity was taken")
		}
	}
}

func TestSamePassword(t *testing.T) {
	if !SamePassword("secret", "secret") || SamePassword("secret", "secret ") || SamePassword("", "secret") {
		t.Error("compares wrongly")
	}
}
