package client_test

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/client"
	"sixin4/tsp/tsptest"
)

// TestAddressChange: a new session within two seconds, and the tunnel has the same
// addresses in the end.
func TestAddressChange(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		b := w.broker(brokerAddr, tsptest.Config{})
		w.start(w.config())
		first := await[client.Up](w).Lease
		w.pass(time.Hour)
		b.Change(func(c *tsptest.Config) { c.Faults = tsptest.Late(100 * time.Millisecond).At(tsptest.Hello) })
		moved := time.Now()
		w.move(otherAddr)
		if e := await[client.AddressChanged](w); e.Old != selfAddr || e.New != otherAddr {
			t.Errorf("%+v", e)
		}
		synctest.Wait()
		if s := w.client.Status(); s.State != client.StateConnecting || s.Reason == "" {
			t.Errorf("%+v", s)
		}
		second := await[client.Up](w).Lease
		if took := time.Since(moved); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
		if second.Local != otherAddr || second.Tunnel.Client6 != first.Tunnel.Client6 || b.Accepts()[1].Request.Client != otherAddr {
			t.Errorf("%+v, %+v", second, second.Tunnel)
		}
		if w.open() != 1 || len(w.leases()) != 2 {
			t.Errorf("%d connections, %d leases", w.open(), len(w.leases()))
		}
		w.stop()
	})
}

// TestUnimportantChange: what does not change the way to the broker changes nothing.
func TestUnimportantChange(t *testing.T) {
	for _, tt := range []struct {
		name     string
		announce netip.Addr
		move     netip.Addr
		routed   netip.Addr
	}{
		{"another interface", netip.Addr{}, selfAddr, netip.Addr{}},
		{"the tunnel ends elsewhere", netip.MustParseAddr("198.51.100.8"), otherAddr, netip.Addr{}},
		{"routes by port", netip.Addr{}, selfAddr, netip.MustParseAddr("198.51.100.9")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				b := w.broker(brokerAddr, tsptest.Config{})
				c := w.config()
				c.Request.Client = tt.announce
				w.routed = tt.routed
				w.start(c)
				await[client.Up](w)
				for range 100 {
					w.move(tt.move)
					w.pass(300 * time.Millisecond)
				}
				if n := len(b.Sessions()); n != 1 {
					t.Errorf("%d sessions", n)
				}
			})
		})
	}
}

// TestFlapping: addresses that come and go cost few sessions, and the last one counts.
func TestFlapping(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		b := w.broker(brokerAddr, tsptest.Config{})
		w.start(w.config())
		await[client.Up](w)
		w.pass(time.Hour)
		for range 5 {
			for _, a := range []netip.Addr{otherAddr, netip.MustParseAddr("203.0.113.10")} {
				w.move(a)
				w.pass(100 * time.Millisecond)
			}
		}
		w.move(otherAddr)
		w.pass(2 * time.Second)
		if n := len(b.Sessions()); n < 2 || n > 4 {
			t.Errorf("%d sessions", n)
		}
		if l := w.client.Status().Lease; l.Local != otherAddr || w.client.Status().State != client.StateUp {
			t.Errorf("%+v", w.client.Status())
		}
		w.stop()
	})
}

// TestChangeDuringAttempt: an attempt from an address that is gone is started anew.
func TestChangeDuringAttempt(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		b := w.broker(brokerAddr, tsptest.Config{Faults: tsptest.Silence().At(tsptest.Create), Faulty: 1})
		w.start(w.config())
		await[client.Requesting](w)
		w.pass(3 * time.Second)
		moved := time.Now()
		w.move(otherAddr)
		l := await[client.Up](w).Lease
		if took := time.Since(moved); took > 2*time.Second || l.Local != otherAddr || len(b.Sessions()) != 2 {
			t.Errorf("took %v, %+v", took, l)
		}
		w.stop()
	})
}

// TestChangeDuringRenewal: the renewal is given up, for it is from the wrong address.
func TestChangeDuringRenewal(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		b := w.broker(brokerAddr, lifetime(4*time.Hour, true))
		w.start(w.config())
		await[client.Up](w)
		b.Change(func(c *tsptest.Config) { c.Faults = tsptest.Silence().At(tsptest.Create) })
		await[client.Requesting](w)
		w.pass(time.Second)
		b.Change(func(c *tsptest.Config) { c.Faults = nil })
		w.move(otherAddr)
		await[client.AddressChanged](w)
		if l := await[client.Up](w).Lease; l.Local != otherAddr || w.open() != 1 {
			t.Errorf("%+v, %d connections", l, w.open())
		}
		w.stop()
	})
}

// TestNoRoute: the status says what is waited for, and the next change is used at once.
func TestNoRoute(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.broker(brokerAddr, tsptest.Config{})
		w.self = netip.Addr{}
		w.start(w.config())
		await[client.Failed](w)
		w.pass(10 * time.Second)
		if s := w.client.Status(); s.State != client.StateDown || s.Reason != "waiting for the network" {
			t.Errorf("%+v", s)
		}
		back := time.Now()
		w.move(selfAddr)
		await[client.Up](w)
		if took := time.Since(back); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// TestOffline: a tunnel whose route goes away and comes back is the same tunnel.
func TestOffline(t *testing.T) {
	for _, tt := range []struct {
		name     string
		back     netip.Addr
		sessions int
	}{{"same address", selfAddr, 1}, {"another address", otherAddr, 2}} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				b := w.broker(brokerAddr, tsptest.Config{})
				w.start(w.config())
				await[client.Up](w)
				w.pass(time.Hour)
				w.move(netip.Addr{})
				w.pass(2 * time.Second)
				if s := w.client.Status(); s.State != client.StateDown || s.Reason != "waiting for the network" {
					t.Errorf("%+v", s)
				}
				w.move(tt.back)
				w.pass(2 * time.Second)
				if s := w.client.Status(); s.State != client.StateUp || s.Reason != "" || s.Lease.Local != tt.back {
					t.Errorf("%+v", s)
				}
				if n := len(b.Sessions()); n != tt.sessions {
					t.Errorf("%d sessions", n)
				}
			})
		})
	}
}

// TestLostOffline: a tunnel that falls silent because there is no network comes back
// with it.
func TestLostOffline(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.broker(brokerAddr, tsptest.Config{})
		w.start(w.config())
		await[client.Up](w)
		w.pass(time.Hour)
		w.move(netip.Addr{})
		w.pass(15 * time.Second)
		w.dead <- errSilent
		await[client.Failed](w)
		if s := w.client.Status(); s.State != client.StateDown || s.Reason != "waiting for the network" {
			t.Errorf("%+v", s)
		}
		w.pass(10 * time.Second)
		w.move(otherAddr)
		w.pass(2 * time.Second)
		if s := w.client.Status(); s.State != client.StateUp {
			t.Errorf("%+v", s)
		}
	})
}

// TestChangeCutsBackoff: a change of the network starts the next attempt where it could
// mend what failed, and not more often than once a second.
func TestChangeCutsBackoff(t *testing.T) {
	for _, tt := range []struct {
		name   string
		broker *tsptest.Config // nil: nobody there
		cut    bool
	}{
		{"nobody there", nil, true},
		{"busy", new(refused(tsptest.Hello, tsp.Busy)), false},
		{"refused", new(refused(tsptest.Create, tsp.InProgress)), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				if tt.broker != nil {
					w.broker(brokerAddr, *tt.broker)
				}
				w.start(w.config())
				w.pass(5 * time.Second)
				if n := len(happened[client.Connecting](w)); n != 1 {
					t.Fatalf("%d attempts", n)
				}
				for range 100 { // 10 s
					w.move(selfAddr)
					w.pass(100 * time.Millisecond)
				}
				n := len(happened[client.Connecting](w))
				if cut := n > 0; cut != tt.cut || n > 10 {
					t.Errorf("%d attempts", n)
				}
			})
		})
	}
}

// brokenWatch is a network that cannot be watched at first.
type brokenWatch struct {
	*host
	calls atomic.Int32
}

func (b *brokenWatch) Watch(ctx context.Context, changed func()) error {
	if b.calls.Add(1) < 3 {
		return errors.New("no netlink")
	}
	return b.host.Watch(ctx, changed)
}

func TestWatchFails(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.broker(brokerAddr, tsptest.Config{})
		c := w.config()
		b := &brokenWatch{host: w.host}
		c.Network = b
		w.start(c)
		await[client.Up](w)
		w.pass(5 * time.Minute)
		if n := b.calls.Load(); n != 3 {
			t.Errorf("watched %d times", n)
		}
		w.move(otherAddr)
		await[client.AddressChanged](w)
		w.stop()
	})
}

// TestCancel: whatever the client is doing, it ends at once, with nothing left behind.
func TestCancel(t *testing.T) {
	silent := func(s tsptest.Step) tsptest.Config {
		return tsptest.Config{Faults: tsptest.Silence().At(s)}
	}
	tests := []struct {
		name  string
		setup func(w *world, c *client.Config)
	}{
		{"resolving", func(w *world, c *client.Config) {
			c.Servers[0].Host, w.names["slow.example.net"] = "slow.example.net", nil
		}},
		{"dialling", func(w *world, c *client.Config) { w.blackHole(brokerAddr); c.Transport = client.TCP }},
		{"racing", func(w *world, _ *client.Config) { w.blackHole(brokerAddr) }},
		{"hello", func(w *world, _ *client.Config) { w.broker(brokerAddr, silent(tsptest.Hello)) }},
		{"hello over UDP", func(w *world, c *client.Config) {
			c.Transport = client.UDP
			w.broker(brokerAddr, silent(tsptest.Hello))
		}},
		{"authenticating", func(w *world, _ *client.Config) { w.broker(brokerAddr, silent(tsptest.Authenticate)) }},
		{"verdict", func(w *world, c *client.Config) {
			c.Transport = client.TCP
			w.broker(brokerAddr, silent(tsptest.Verdict))
		}},
		{"create", func(w *world, _ *client.Config) { w.broker(brokerAddr, silent(tsptest.Create)) }},
		{"accept", func(w *world, _ *client.Config) { w.broker(brokerAddr, silent(tsptest.Accept)) }},
		{"set up", func(w *world, _ *client.Config) { w.block = true; w.broker(brokerAddr, tsptest.Config{}) }},
		{"running", func(w *world, _ *client.Config) { w.broker(brokerAddr, tsptest.Config{}) }},
		{"waiting", func(w *world, _ *client.Config) { w.broker(brokerAddr, refused(tsptest.Hello, tsp.Busy)) }},
		{"looking up a list", func(w *world, _ *client.Config) {
			w.names["slow.example.net"] = nil
			w.broker(brokerAddr, redirects(tsptest.Hello, "192.0.2.2", "slow.example.net"))
		}},
		{"measuring a list", func(w *world, _ *client.Config) {
			w.blackHole(netip.MustParseAddr("192.0.2.2"))
			w.blackHole(netip.MustParseAddr("192.0.2.3"))
			w.broker(brokerAddr, redirects(tsptest.Hello, "192.0.2.2", "192.0.2.3"))
		}},
	}
	for _, tt := range tests {
		for _, after := range []time.Duration{0, 700 * time.Millisecond, 1800 * time.Millisecond} {
			t.Run(tt.name+"/"+after.String(), func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) {
					c := w.config()
					tt.setup(w, &c)
					w.start(c)
					w.pass(after)
					w.stop()
					synctest.Wait()
					if n := w.open(); n != 0 {
						t.Errorf("%d connections", n)
					}
				})
			})
		}
	}
}

// TestCancelledBefore: a context that is over is no error either.
func TestCancelledBefore(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		k, err := client.New(w.config())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := k.Run(ctx); err != nil {
			t.Error(err)
		}
	})
}
