package load

import (
	"errors"
	"testing"

	"sixin4/tsp/sasl"
)

// TestScram talks to the broker's own side of the mechanism, which is another's code.
func TestScram(t *testing.T) {
	stored, err := sasl.NewScramKeys("alice", "secret", []byte("0123456789abcdef"), 4096)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		password string
		guess    bool
		ok       bool
	}{
		{"right", "secret", false, true},
		{"wrong", "Secret", false, false},
		{"a guess, of which nothing is made", "secret", true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var k keys
			for range 2 { // the second time the key is known
				err := converse(t, &scram{keys: &k, user: "alice", password: tt.password, guess: tt.guess}, stored)
				if (err == nil) != tt.ok || err != nil && !errors.Is(err, sasl.ErrAuth) {
					t.Errorf("error %v", err)
				}
			}
			if made := len(k.known); made > 1 || tt.guess != (made == 0) {
				t.Errorf("%d keys made", made)
			}
		})
	}
}

// converse returns the error of the broker.
func converse(t *testing.T, c *scram, stored sasl.ScramKeys) error {
	t.Helper()
	server, err := sasl.NewScramServer(func(string) (sasl.ScramKeys, bool) { return stored, true })
	if err != nil {
		t.Fatal(err)
	}
	var in []byte
	for {
		out, done, err := c.Next(in)
		if err != nil {
			t.Fatal(err)
		}
		if done {
			return nil
		}
		if in, _, err = server.Next(out); err != nil {
			return err
		}
	}
}

// TestScramServerUnknown: a broker that does not know the password is found out.
func TestScramServerUnknown(t *testing.T) {
	c := &scram{keys: new(keys), user: "alice", password: "secret"}
	_, _, _ = c.Next(nil)
	if _, _, err := c.Next([]byte("r=" + c.nonce + "x,s=MDEyMw==,i=4096")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Next([]byte("v=AAAA")); !errors.Is(err, sasl.ErrAuth) {
		t.Errorf("error %v", err)
	}
	for _, first := range []string{"", "r=other,s=MDEyMw==,i=4096", "r=" + c.nonce + ",s=*,i=4096", "r=" + c.nonce + ",s=MDEyMw==,i=x"} {
		if _, err := c.proof(first); !errors.Is(err, sasl.ErrProtocol) {
			t.Errorf("%q: error %v", first, err)
		}
	}
}
