package broker_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"sixin4/tsp"
	"sixin4/tsp/broker"
	"sixin4/tsp/sasl"
)

// brokers is a list of n.
func brokers(n int) (all []tsp.Broker) {
	for i := range n {
		all = append(all, tsp.Broker{Addr: netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)})})
	}
	return all
}

// TestRedirect: over TCP at once; over UDP where it fits, and as much of it as fits, for
// users who may not be where they say.
func TestRedirect(t *testing.T) {
	tests := []struct {
		name    string
		network string
		list    int
		login   login
		version tsp.Version
		stage   string
		want    int // brokers; 0: a tunnel
	}{
		{"short", "tcp", 1, byScram, tsp.V202, "hello", 1},
		{"long", "tcp", 50, byScram, tsp.V201, "hello", 50},
		{"version that cannot", "tcp", 2, byScram, tsp.V200, "", 0},
		{"oldest version", "tcp", 2, byScram, tsp.V101, "", 0},
		{"short", "udp", 1, byScram, tsp.V202, "create", 1},
		{"long, user", "udp", 50, byScram, tsp.V202, "create", 50},
		{"long, stranger", "udp", 50, anonymous, tsp.V202, "create", 23},
		{"long, password could be anybody's", "udp", 50, login{sasl.Plain, "alice", "secret"}, tsp.V202, "create", 23},
		{"version that cannot", "udp", 2, byScram, tsp.V200, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.network+"/"+tt.name, func(t *testing.T) {
			inWorld(t, func(c *broker.Config) { c.Redirect.Brokers = brokers(tt.list) }, func(t *testing.T, w *world) {
				k, stage := w.talk(tt.network, alice4), "hello"
				err := k.in(t.Context(), tt.version, tt.login)
				if err == nil {
					stage = "create"
					_, err = k.Create(t.Context(), request(tsp.V6V4, alice4))
				}
				if tt.want == 0 {
					if err != nil {
						t.Error(err)
					}
					return
				}
				var status *tsp.Error
				if !errors.As(err, &status) || status.Code != tsp.Redirection || stage != tt.stage {
					t.Fatalf("at %s: %v", stage, err)
				}
				if len(status.Brokers) != tt.want || len(w.pool.asks) != 0 {
					t.Errorf("%d brokers", len(status.Brokers))
				}
			})
		})
	}
}

// TestRedirectByLoad: only whom the operator wants to, who is known by then.
func TestRedirectByLoad(t *testing.T) {
	loaded, asked := false, ""
	inWorld(t, func(c *broker.Config) {
		c.Redirect = broker.Redirect{Brokers: brokers(2), When: func(u *broker.User, from netip.AddrPort) bool {
			asked = fmt.Sprint(u.Name, " ", from.Addr())
			return loaded
		}}
	}, func(t *testing.T, w *world) {
		if _, err := w.talk("tcp", alice4).run(t.Context(), byScram, request(tsp.V6V4, alice4)); err != nil {
			t.Error(err)
		}
		loaded = true
		k := w.talk("tcp", alice4)
		if err := k.in(t.Context(), tsp.V202, byScram); err != nil {
			t.Fatalf("sent on before it is known who it is: %v", err)
		}
		if _, err := k.Create(t.Context(), request(tsp.V6V4, alice4)); code(err) != tsp.Redirection {
			t.Error(err)
		}
		if want := fmt.Sprint("alice ", alice4); asked != want {
			t.Errorf("asked about %q, want %q", asked, want)
		}
	})
}

// TestDrain: no new tunnels, and those that are up go on.
func TestDrain(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		for _, list := range []int{0, 2} {
			t.Run(fmt.Sprintf("%s/%d", network, list), func(t *testing.T) {
				inWorld(t, func(c *broker.Config) {
					c.Redirect = broker.Redirect{Brokers: brokers(list), When: func(*broker.User, netip.AddrPort) bool { return false }}
				}, func(t *testing.T, w *world) {
					want := tsp.Busy
					if list > 0 {
						want = tsp.Redirection
					}
					old, half := w.talk(network, alice4), w.talk(network, alice4)
					if _, err := old.run(t.Context(), byScram, request(tsp.V6V4, alice4)); err != nil {
						t.Fatal(err)
					}
					if err := half.in(t.Context(), tsp.V202, byScram); err != nil {
						t.Fatal(err)
					}
					w.SetDraining(true)
					if _, err := half.Create(t.Context(), request(tsp.V6V4, alice4)); code(err) != want {
						t.Error(err)
					}
					if _, err := w.talk(network, alice4).run(t.Context(), byScram, request(tsp.V6V4, alice4)); code(err) != want && list == 0 {
						t.Error(err)
					}
					if got := w.pool.counts(); got != [4]int{1, 1, 0, 0} {
						t.Errorf("asked, accepted, freed, kept: %v", got)
					}
					w.SetDraining(false)
					if _, err := w.talk(network, alice4).run(t.Context(), byScram, request(tsp.V6V4, alice4)); err != nil || w.Draining() {
						t.Error(err)
					}
				})
			})
		}
	}
}
