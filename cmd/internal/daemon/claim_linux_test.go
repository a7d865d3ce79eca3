package daemon

import (
	"net/netip"
	"testing"

	"sixin4/tun/nstest"
)

// TestClaims: a second tunnel with the same two ends is warned of, one with others or
// after the first has moved is not.
func TestClaims(t *testing.T) {
	at := func(local string, remotes ...string) shape {
		s := shape{local: netip.MustParseAddr(local)}
		for _, r := range remotes {
			s.peers = append(s.peers, PlannedPeer{Remote: netip.MustParseAddr(r)})
		}
		return s
	}
	ns, other := nstest.Open(t), nstest.Open(t)
	one, two, elsewhere := make(claims), make(claims), make(claims)
	steps := []struct {
		name  string
		ns    *nstest.NS
		c     claims
		s     shape
		warns int
	}{
		{"the first", ns, one, at("192.0.2.1", "198.51.100.1", "198.51.100.2"), 0},
		{"the first again", ns, one, at("192.0.2.1", "198.51.100.1", "198.51.100.2"), 0},
		{"another remote", ns, two, at("192.0.2.1", "198.51.100.3"), 0},
		{"another local", ns, two, at("192.0.2.2", "198.51.100.1"), 0},
		{"one of its pairs", ns, two, at("192.0.2.1", "198.51.100.2", "198.51.100.9"), 1},
		{"another namespace", other, elsewhere, at("192.0.2.1", "198.51.100.1"), 0},
		{"the first moves", ns, one, at("192.0.2.7", "198.51.100.1"), 0},
		{"what it had", ns, two, at("192.0.2.1", "198.51.100.1"), 0},
	}
	for _, step := range steps {
		err := step.ns.Do(func() error {
			warned := 0
			step.c.become(step.s, func(string) { warned++ })
			if warned != step.warns {
				t.Errorf("%s: %d warnings, want %d", step.name, warned, step.warns)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []claims{one, two, elsewhere} {
		if err := c.close(); err != nil || len(c) != 0 {
			t.Errorf("after close: %v, %v", c, err)
		}
	}
}
