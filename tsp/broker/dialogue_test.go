package broker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker"
	"sixin4/tsp/client"
	"sixin4/tsp/sasl"
	"sixin4/tsp/tsptest"
)

// logins are all ways in.
func logins() []login {
	return []login{
		anonymous, {sasl.Plain, "alice", "secret"}, {sasl.DigestMD5, "alice", "secret"}, byScram,
	}
}

func TestSession(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		for _, l := range logins() {
			t.Run(network+"/"+l.method, func(t *testing.T) {
				inWorld(t, nil, func(t *testing.T, w *world) {
					k, begin := w.talk(network, alice4), time.Now()
					tunnel, err := k.run(t.Context(), l, request(tsp.V6V4, alice4))
					if err != nil {
						t.Fatal(err)
					}
					if took := time.Since(begin); took > tsp.AnswerPause {
						t.Errorf("took %v", took)
					}
					if tunnel.Client4 != alice4 || len(tunnel.DNS) == 0 {
						t.Errorf("%+v", tunnel)
					}
					synctest.Wait()
					ask := w.pool.asks[0]
					if got := w.pool.counts(); got != [4]int{1, 1, 0, 0} {
						t.Errorf("asked, accepted, freed, kept: %v", got)
					}
					if (ask.User == nil) != (l.user == "") || ask.User != nil && ask.User.Name != l.user {
						t.Errorf("user %+v", ask.User)
					}
					if (ask.Conn != nil) != (network == "udp") || ask.From.Addr() != alice4 {
						t.Errorf("from %v, conn %v", ask.From, ask.Conn)
					}
				})
			})
		}
	}
}

// TestGoodbye: only a client that closes its connection says goodbye.
func TestGoodbye(t *testing.T) {
	tests := []struct {
		name    string
		network string
		accept  bool
		end     func(w *world, k talk)
		want    [4]int
	}{
		{"client closes", "tcp", true, func(_ *world, k talk) { k.Close() }, [4]int{1, 1, 0, 1}},
		{"client closes before accept", "tcp", false, func(_ *world, k talk) { k.Close() }, [4]int{1, 0, 1, 0}},
		{"broker ends", "tcp", true, func(w *world, _ talk) { w.stop() }, [4]int{1, 1, 0, 0}},
		{"broker ends before accept", "tcp", false, func(w *world, _ talk) { w.stop() }, [4]int{1, 0, 1, 0}},
		{"client stays", "tcp", true, func(*world, talk) { pass(24 * time.Hour) }, [4]int{1, 1, 0, 0}},
		{"client does not go on", "tcp", false, func(*world, talk) { pass(time.Minute) }, [4]int{1, 0, 1, 0}},
		{"client stays", "udp", true, func(*world, talk) { pass(24 * time.Hour) }, [4]int{1, 1, 0, 0}},
		{"client does not go on", "udp", false, func(*world, talk) { pass(5 * time.Minute) }, [4]int{1, 0, 1, 0}},
		{"broker ends before accept", "udp", false, func(w *world, _ talk) { w.stop() }, [4]int{1, 0, 1, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.network+"/"+tt.name, func(t *testing.T) {
			inWorld(t, nil, func(t *testing.T, w *world) {
				k := w.talk(tt.network, alice4)
				if err := k.in(t.Context(), tsp.V202, byScram); err != nil {
					t.Fatal(err)
				}
				if _, err := k.Create(t.Context(), request(tsp.V6V4, alice4)); err != nil {
					t.Fatal(err)
				}
				if tt.accept {
					if err := k.Accept(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				tt.end(w, k)
				synctest.Wait()
				if got := w.pool.counts(); got != tt.want {
					t.Errorf("asked, accepted, freed, kept: %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestVersions(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		for _, v := range append(tsp.Versions(), "1.0.0", "2.0.3", "3.0") {
			t.Run(network+"/"+string(v), func(t *testing.T) {
				inWorld(t, nil, func(t *testing.T, w *world) {
					k := w.talk(network, alice4)
					err := k.in(t.Context(), v, anonymous)
					if _, known := v.Older(); !known && v != tsp.V101 {
						if code(err) != tsp.BadVersion {
							t.Errorf("%v", err)
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					if _, err := k.Create(t.Context(), request(tsp.V6V4, alice4)); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					if up := w.pool.counts()[1] == 1; up == v.Accepts() {
						t.Errorf("up after create: %v", up)
					}
					if err := k.Accept(t.Context()); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					if got := w.pool.counts(); got != [4]int{1, 1, 0, 0} {
						t.Errorf("asked, accepted, freed, kept: %v", got)
					}
				})
			})
		}
	}
}

// code is the status of an error, 0 for another one.
func code(err error) tsp.Code {
	var status *tsp.Error
	if errors.As(err, &status) {
		return status.Code
	}
	return 0
}

func TestTypes(t *testing.T) {
	v4, udp := []tsp.Type{tsp.V6V4}, []tsp.Type{tsp.V6UDPV4}
	both := []tsp.Type{tsp.V6V4, tsp.V6UDPV4}
	tests := []struct {
		name    string
		carries []tsp.Type
		network string
		asks    tsp.Type
		client  netip.Addr
		version tsp.Version
		proxy   bool
		want    tsp.Type // empty: 303
	}{
		{"v6v4", both, "tcp", tsp.V6V4, alice4, tsp.V202, false, tsp.V6V4},
		{"v6v4", both, "udp", tsp.V6V4, alice4, tsp.V202, false, tsp.V6V4},
		{"v6v4 behind NAT", both, "udp", tsp.V6V4, inside, tsp.V202, false, ""},
		{"v6v4 not carried", udp, "udp", tsp.V6V4, alice4, tsp.V202, false, ""},
		{"any", both, "tcp", tsp.V6AnyV4, alice4, tsp.V202, false, tsp.V6V4},
		{"any", both, "udp", tsp.V6AnyV4, alice4, tsp.V202, false, tsp.V6V4},
		{"any behind NAT", both, "udp", tsp.V6AnyV4, inside, tsp.V202, false, tsp.V6UDPV4},
		{"any behind NAT", both, "tcp", tsp.V6AnyV4, inside, tsp.V202, false, ""},
		{"any behind NAT, not carried", v4, "udp", tsp.V6AnyV4, inside, tsp.V202, false, ""},
		{"any without v6v4", udp, "udp", tsp.V6AnyV4, alice4, tsp.V202, false, tsp.V6UDPV4},
		{"any, old version", both, "udp", tsp.V6AnyV4, inside, tsp.V101, false, ""},
		{"v6udpv4", both, "udp", tsp.V6UDPV4, alice4, tsp.V202, false, tsp.V6UDPV4},
		{"v6udpv4", both, "tcp", tsp.V6UDPV4, alice4, tsp.V202, false, ""},
		{"v6udpv4 not carried", v4, "udp", tsp.V6UDPV4, alice4, tsp.V202, false, ""},
		{"v4v6", both, "tcp", tsp.V4V6, netip.MustParseAddr("2001:db8::7"), tsp.V202, false, ""},
		{"proxy", both, "tcp", tsp.V6V4, mob4, tsp.V202, true, tsp.V6V4},
		{"proxy any", both, "udp", tsp.V6AnyV4, mob4, tsp.V202, true, tsp.V6V4},
		{"proxy v6udpv4", both, "udp", tsp.V6UDPV4, mob4, tsp.V202, true, ""},
		{"proxy to where it may not", both, "tcp", tsp.V6V4, inside, tsp.V202, true, ""},
	}
	for _, tt := range tests {
		t.Run(tt.network+"/"+tt.name, func(t *testing.T) {
			inWorld(t, func(c *broker.Config) {
				c.Carries = tt.carries
				c.Proxy = func(u *broker.User, _ netip.AddrPort, end netip.Addr) bool { return u != nil && end == mob4 }
			}, func(t *testing.T, w *world) {
				k := w.talk(tt.network, alice4)
				if err := k.in(t.Context(), tt.version, byScram); err != nil {
					t.Fatal(err)
				}
				r := request(tt.asks, tt.client)
				r.Proxy = tt.proxy
				got, err := k.Create(t.Context(), r)
				if tt.want == "" {
					if code(err) != tsp.BadType || len(w.pool.asks) != 0 {
						t.Errorf("%v, %d asked for", err, len(w.pool.asks))
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				end := alice4
				if tt.proxy {
					end = mob4
				}
				if got.Type != tt.want || got.Client4 != end {
					t.Errorf("%s to %v", got.Type, got.Client4)
				}
			})
		})
	}
}

// TestProxyRefused: by default nobody may have a tunnel end elsewhere.
func TestProxyRefused(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		r := request(tsp.V6V4, mob4)
		r.Proxy = true
		if _, err := w.talk("tcp", alice4).run(t.Context(), byScram, r); code(err) != tsp.BadType {
			t.Error(err)
		}
	})
}

// TestBadPath: on a path that loses, copies, delays and reorders, a session ends with
// a tunnel or with ErrNoAnswer, and nothing is asked for or accepted twice.
func TestBadPath(t *testing.T) {
	tunnels, seeds := 0, uint64(25)
	for _, l := range logins() {
		for seed := range seeds {
			inWorld(t, nil, func(t *testing.T, w *world) {
				w.net.Path = &tsptest.Path{
					Random: rand.New(rand.NewPCG(seed, 4)), Loss: 0.2, Copy: 0.25, Delay: 2 * time.Second,
				}
				_, err := w.talk("udp", alice4).run(t.Context(), l, request(tsp.V6V4, alice4))
				pass(5 * time.Minute)
				got := w.pool.counts()
				switch {
				case got[0] > 1 || got[1] > 1 || got[3] > 0 || got[0] != got[1]+got[2]:
					t.Errorf("%s seed %d: asked, accepted, freed, kept: %v", l.method, seed, got)
				case err == nil && got[1] == 1:
					tunnels++
				case !errors.Is(err, tsp.ErrNoAnswer):
					t.Errorf("%s seed %d: %v", l.method, seed, err)
				}
			})
		}
	}
	if tunnels < len(logins())*int(seeds)*8/10 {
		t.Errorf("%d tunnels", tunnels)
	}
}

// host is the network of a real client.
type host struct{ *world }

func (h host) Resolve(_ context.Context, name string) ([]netip.Addr, error) {
	a, err := netip.ParseAddr(name)
	return []netip.Addr{a}, err
}

func (h host) Dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	return h.net.Dial(ctx, network, alice4, to)
}

func (h host) Source(netip.Addr) (netip.Addr, error) { return alice4, nil }
func (h host) Own() ([]netip.Prefix, error)          { return nil, nil }

func (h host) Watch(ctx context.Context, changed func()) error {
	changed()
	<-ctx.Done()
	return nil
}

// road is a client.Path over which nothing travels.
type road struct{ up []*client.Lease }

func (r *road) Up(_ context.Context, l *client.Lease) error {
	r.up = append(r.up, l)
	return nil
}

func (r *road) Watch(ctx context.Context, _ *client.Lease) error {
	<-ctx.Done()
	return nil
}

// TestClient: the real client, with all that it does by itself, and its renewals.
func TestClient(t *testing.T) {
	for _, transport := range []client.Transport{client.Auto, client.UDP, client.TCP} {
		for _, l := range logins() {
			t.Run(fmt.Sprint(transport, "/", l.method), func(t *testing.T) {
				inWorld(t, nil, func(t *testing.T, w *world) {
					path := new(road)
					k, err := client.New(client.Config{
						Servers: []client.Server{{Host: here.Addr().String()}},
						Method:  l.method, User: l.user, Password: l.password,
						Request:   tsp.Request{Type: tsp.V6AnyV4, Keepalive: 30 * time.Second},
						Transport: transport, GiveUp: client.Always,
						Network: host{w}, Path: path,
					})
					if err != nil {
						t.Fatal(err)
					}
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Hour)
					defer cancel()
					if err := k.Run(ctx); err != nil {
						t.Fatal(err)
					}
					want := 2 // one renewal
					if l == anonymous {
						want = 1
					}
					if len(path.up) != want || w.pool.counts()[1] != want {
						t.Errorf("%d leases, %v", len(path.up), w.pool.counts())
					}
				})
			})
		}
	}
}
