package client_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/client"
	"sixin4/tsp/sasl"
	"sixin4/tsp/tsptest"
)

// hostileEach runs a test for every fault at every step over both transports.
func hostileEach(t *testing.T, faults []tsptest.Fault, f func(t *testing.T, fault tsptest.Fault, step tsptest.Step, network string)) {
	for _, fault := range faults {
		for _, network := range []string{"tcp", "udp"} {
			for _, step := range tsptest.Steps() {
				if !fault.Fits(step, network) {
					continue
				}
				t.Run(fault.Name+"/"+network+"/"+step.String(), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { f(t, fault, step, network) })
				})
			}
		}
	}
}

// hostileCost is how many bytes f allocates, kept or not: the broker's included, whose
// large answers are made beforehand.
func hostileCost(f func()) uint64 {
	synctest.Wait() // for what the broker allocates when it starts
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestHostileFaults: whatever goes wrong wherever, the client takes a good tunnel or
// says what is wrong, in its time and for less memory than a session may cost.
func TestHostileFaults(t *testing.T) {
	faults := slices.Concat(tsptest.Faults(), tsptest.OwnNetwork(hostileLAN), []tsptest.Fault{tsptest.Late(time.Hour)})
	hostileEach(t, faults, func(t *testing.T, fault tsptest.Fault, step tsptest.Step, network string) {
		n, p := new(tsptest.Net), new(hostilePath)
		b := hostileServe(t, n, hostileBroker, tsptest.Config{Faults: fault.At(step)})
		var err error
		cost := hostileCost(func() {
			_, err = hostileRun(t, hostileConfig(network, hostileHost{n}, p), p, hostileNegotiation)
		})
		switch want := fault.Expect(step, network); {
		case want == tsptest.Works && err != nil:
			t.Error(err)
		case want == tsptest.Fails && err == nil:
			t.Error("a tunnel was set up")
		case want == tsptest.Fails && step == tsptest.Create && len(b.Accepts()) != 0:
			t.Error("the offer was accepted")
		}
		if cost > hostileSession {
			t.Errorf("%d bytes", cost)
		}
	})
}

// TestHostileOnce: whatever went wrong, the next session is a good one, and comes
// without being asked for.
func TestHostileOnce(t *testing.T) {
	hostileEach(t, tsptest.Faults(), func(t *testing.T, fault tsptest.Fault, step tsptest.Step, network string) {
		n, p := new(tsptest.Net), new(hostilePath)
		b := hostileServe(t, n, hostileBroker, tsptest.Config{Faults: fault.At(step), Faulty: 1})
		c := hostileConfig(network, hostileHost{n}, p)
		c.GiveUp = client.Never
		lease, err := hostileRun(t, c, p, hostileNegotiation+2*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(b.Sessions()); got > 2 || lease.Broker.Addr() != hostileBroker {
			t.Errorf("%d sessions, broker %v", got, lease.Broker)
		}
	})
}

// TestHostileCut closes at each byte of each answer, and behind the last one, which is
// no harm after accept only. In datagrams the rest is missing, so there the end is good.
func TestHostileCut(t *testing.T) {
	longest := map[tsptest.Step]int{tsptest.Hello: 110, tsptest.Authenticate: 140, tsptest.Verdict: 20, tsptest.Create: 660, tsptest.Accept: 1}
	for _, network := range []string{"tcp", "udp"} {
		for step, length := range longest {
			t.Run(network+"/"+step.String(), func(t *testing.T) {
				taken := 0
				for at := range length {
					synctest.Test(t, func(t *testing.T) {
						n, p := new(tsptest.Net), new(hostilePath)
						hostileServe(t, n, hostileBroker, tsptest.Config{Faults: tsptest.Cut(at).At(step)})
						if _, err := hostileRun(t, hostileConfig(network, hostileHost{n}, p), p, hostileNegotiation); err == nil {
							taken++
						}
					})
				}
				if harmless := network == "udp" || step == tsptest.Accept; harmless != (taken > 0) {
					t.Errorf("%d tunnels", taken)
				}
			})
		}
	}
}

// TestHostileScram: the faults of lines, in the mechanism in which both sides prove
// who they are.
func TestHostileScram(t *testing.T) {
	faults := []tsptest.Fault{tsptest.Silence(), tsptest.Cut(0), tsptest.Cut(20), tsptest.OneSegment(), tsptest.Status("200 Success"), tsptest.Status("300 No")}
	hostileEach(t, faults, func(t *testing.T, fault tsptest.Fault, step tsptest.Step, network string) {
		if step != tsptest.Authenticate {
			return
		}
		n, p := new(tsptest.Net), new(hostilePath)
		hostileServe(t, n, hostileBroker, tsptest.Config{Faults: fault.At(step)})
		c := hostileConfig(network, hostileHost{n}, p)
		c.Method = sasl.ScramSHA256
		_, err := hostileRun(t, c, p, hostileNegotiation)
		if (err == nil) != (fault.Name == tsptest.OneSegment().Name) {
			t.Error(err)
		}
	})
}

// TestHostileHalf: a broker that is no good over one transport, and good over the
// other.
func TestHostileHalf(t *testing.T) {
	for _, fault := range []tsptest.Fault{tsptest.Silence(), tsptest.Cut(0), tsptest.Late(time.Hour), tsptest.CutDatagram(4), tsptest.Slow(time.Minute)} {
		for _, bad := range []string{"tcp", "udp"} {
			if !fault.Fits(tsptest.Hello, bad) {
				continue
			}
			t.Run(fault.Name+"/"+bad, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n, p := new(tsptest.Net), new(hostilePath)
					addr := netip.AddrPortFrom(hostileBroker, client.DefaultPort)
					l, err := n.Listen(addr)
					if err != nil {
						t.Fatal(err)
					}
					packets, err := n.ListenPacket(addr)
					if err != nil {
						t.Fatal(err)
					}
					faulty := fault
					faulty.Network = bad
					b := tsptest.New(tsptest.Config{Users: map[string]string{"alice": "secret"}, Faults: faulty.At(tsptest.Hello)})
					hostileRunBroker(t, b, l, packets)
					c := hostileConfig("", hostileHost{n}, p)
					lease, err := hostileRun(t, c, p, hostileNegotiation)
					if err != nil || lease.Transport.String() == bad {
						t.Errorf("%+v, %v", lease, err)
					}
				})
			})
		}
	}
}

// hostileRedirects are brokers that send their clients on, each to the next.
func hostileRedirects(at tsptest.Step, to []tsp.Broker) tsptest.Config {
	return tsptest.Config{Redirect: map[tsptest.Step][]tsp.Broker{at: to}}
}

func hostileNumber(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}) }

// TestHostileRedirects: nobody is sent round for long.
func TestHostileRedirects(t *testing.T) {
	self := tsp.Broker{Addr: hostileBroker}
	var dead []tsp.Broker
	for i := range 50 {
		dead = append(dead, tsp.Broker{Addr: hostileNumber(100 + i)})
	}
	next := func(i int) []tsp.Broker { return []tsp.Broker{{Addr: hostileNumber(i)}} }
	tests := []struct {
		name   string
		to     []tsp.Broker
		others func(i int) []tsp.Broker // where broker i of 20 sends its clients
	}{
		{"to itself", []tsp.Broker{self}, nil},
		{"to itself often", slices.Repeat([]tsp.Broker{self}, 50), nil},
		{"round and round", next(0), func(int) []tsp.Broker { return []tsp.Broker{self} }},
		{"a ring of three", next(0), func(i int) []tsp.Broker { return next((i + 1) % 3) }},
		{"on and on", next(0), func(i int) []tsp.Broker { return next(i + 1) }},
		{"all to all", append(next(0), next(1)...), func(i int) []tsp.Broker { return slices.Concat(next(i+1), next(i+2), next(i+3)) }},
		{"to the dead", dead, nil},
		{"to this host", []tsp.Broker{{Addr: netip.MustParseAddr("127.0.0.1")}}, nil},
		{"to names that do not resolve", []tsp.Broker{{Name: "a.example.net"}, {Name: "b.example.net"}}, nil},
		{"to IPv6", []tsp.Broker{{Addr: netip.MustParseAddr("2001:db8::1")}}, nil},
	}
	for _, tt := range tests {
		for _, step := range []tsptest.Step{tsptest.Hello, tsptest.Authenticate, tsptest.Verdict, tsptest.Create} {
			for _, network := range []string{"tcp", "udp"} {
				t.Run(tt.name+"/"+step.String()+"/"+network, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						n, p := new(tsptest.Net), new(hostilePath)
						brokers := []*tsptest.Broker{hostileServe(t, n, hostileBroker, hostileRedirects(step, tt.to))}
						for i := range 20 {
							if tt.others != nil {
								brokers = append(brokers, hostileServe(t, n, hostileNumber(i), hostileRedirects(step, tt.others(i))))
							}
						}
						_, err := hostileRun(t, hostileConfig(network, hostileHost{n}, p), p, hostileAttempt)
						if err == nil {
							t.Error("a tunnel was set up")
						}
						sessions := 0
						for _, b := range brokers {
							sessions += len(b.Sessions())
						}
						if sessions == 0 || sessions > 60 {
							t.Errorf("%d sessions", sessions)
						}
					})
				})
			}
		}
	}
}

// TestHostileMany: a client that must not give up does not storm a broker that never
// does its part, and keeps nothing of a session that is over.
func TestHostileMany(t *testing.T) {
	for _, fault := range []tsptest.Fault{tsptest.Cut(0), tsptest.Status("530 Server busy"), tsptest.Status("310 Server side error")} {
		for _, step := range tsptest.Steps()[:4] {
			t.Run(fault.Name+"/"+step.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n, p := new(tsptest.Net), new(hostilePath)
					b := hostileServe(t, n, hostileBroker, tsptest.Config{Faults: fault.At(step)})
					c := hostileConfig("tcp", hostileHost{n}, p)
					c.GiveUp, c.Once = client.Never, false
					k, err := client.New(c)
					if err != nil {
						t.Fatal(err)
					}
					ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
					defer cancel()
					if err := k.Run(ctx); err != nil {
						t.Error(err)
					}
					// A day of delays that come to 300 s is 288 sessions and a few.
					if got := len(b.Sessions()); got < 250 || got > 340 || len(p.ups) != 0 {
						t.Errorf("%d sessions, %d tunnels", got, len(p.ups))
					}
					if left := hostileGoroutines(); left != "" {
						t.Errorf("left behind: %s", left)
					}
				})
			})
		}
	}
}

// hostileStuck is a host on which one thing takes for ever.
type hostileStuck struct {
	hostileHost
	resolve, dial bool
}

func (h hostileStuck) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if h.resolve {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return []netip.Addr{hostileBroker}, nil
}

func (h hostileStuck) Dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	if h.dial {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return h.hostileHost.Dial(ctx, network, to)
}

// TestHostileStuck: nothing on the way to a broker holds a client for long.
func TestHostileStuck(t *testing.T) {
	tests := []struct {
		name          string
		resolve, dial bool
		stages        []client.Stage
	}{
		{"resolve", true, false, []client.Stage{client.Resolve}},
		{"dial", false, true, []client.Stage{client.Connect}},
		{"nobody reads", false, false, []client.Stage{client.Connect, client.Hello}},
	}
	for _, tt := range tests {
		for _, network := range []string{"", "tcp", "udp"} {
			t.Run(tt.name+"/"+network, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n, p := new(tsptest.Net), new(hostilePath)
					addr := netip.AddrPortFrom(hostileBroker, client.DefaultPort)
					l, err := n.Listen(addr)
					if err != nil {
						t.Fatal(err)
					}
					defer l.Close()
					packets, err := n.ListenPacket(addr)
					if err != nil {
						t.Fatal(err)
					}
					defer packets.Close()
					c := hostileConfig(network, hostileStuck{hostileHost{n}, tt.resolve, tt.dial}, p)
					c.Servers[0].Host = "broker.example.net"
					_, err = hostileRun(t, c, p, hostileNegotiation)
					var e *client.Error
					if !errors.As(err, &e) || !slices.Contains(tt.stages, e.Stage) {
						t.Error(err)
					}
				})
			})
		}
	}
}

// TestHostileShort: a lease of a second is renewed, but not every second.
func TestHostileShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := new(tsptest.Net), new(hostilePath)
		short := tsptest.Edit("a second", tsptest.Works, `( lifetime=")[^"]*`, "1")
		b := hostileServe(t, n, hostileBroker, tsptest.Config{Faults: short.At(tsptest.Create)})
		c := hostileConfig("udp", hostileHost{n}, p)
		c.Once = false
		k, err := client.New(c)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := k.Run(ctx); err != nil {
			t.Error(err)
		}
		if got := len(b.Accepts()); got < 100 || got > 361 || got != len(p.ups) {
			t.Errorf("%d sessions, %d tunnels", got, len(p.ups))
		}
	})
}
