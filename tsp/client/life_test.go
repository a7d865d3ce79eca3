package client_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/client"
	"sixin4/tsp/tsptest"
)

// TestLease: what Path gets.
func TestLease(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		b := w.broker(brokerAddr, tsptest.Config{})
		begin := time.Now()
		w.start(w.config())
		up := await[client.Up](w)
		l := w.leases()[0]
		if up.Lease != l || w.client.Status().Lease != l || w.client.Status().State != client.StateUp {
			t.Errorf("told %+v, status %+v", up, w.client.Status())
		}
		if l.Server.String() != "192.0.2.1" || l.Broker.String() != "192.0.2.1:3653" || l.Local != selfAddr ||
			l.Version != tsp.V202 || l.Method != "SCRAM-SHA-256" || l.User != "alice" || l.Transport != client.UDP {
			t.Errorf("%+v", l)
		}
		if l.Tunnel.Client6 != b.Accepts()[0].Tunnel.Client6 || l.Since != begin {
			t.Errorf("%+v since %v", l.Tunnel, l.Since)
		}
		if b.Accepts()[0].Request.Client != selfAddr {
			t.Errorf("announced %v", b.Accepts()[0].Request.Client)
		}
		w.stop()
		if s := w.client.Status(); s.State != client.StateDown || s.Reason == "" {
			t.Errorf("%+v", s)
		}
	})
}

// TestEvents: all of a first session, in order.
func TestEvents(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		b := w.broker(brokerAddr, tsptest.Config{})
		c := w.config()
		c.Once, c.Request.Client = true, otherAddr
		if err := w.run(c); err != nil {
			t.Fatal(err)
		}
		l := w.leases()[0]
		want := []client.Event{
			client.Connecting{Server: c.Servers[0]},
			client.Connected{Broker: l.Broker, Local: selfAddr, Transport: client.UDP, Version: tsp.V202},
			client.Requesting{}, client.Offered{Tunnel: l.Tunnel}, client.Up{Lease: l},
		}
		if got := happened[client.Event](w); !slices.Equal(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		if got := b.Accepts()[0].Request.Client; got != otherAddr {
			t.Errorf("announced %v", got)
		}
	})
}

// lifetimes make a broker say a lifetime, and whether it wants keepalive.
func lifetime(d time.Duration, keepalive bool) tsptest.Config {
	return withAnswer(func(t *tsp.Tunnel) {
		t.Lifetime = d
		if !keepalive {
			t.Keepalive, t.KeepaliveTo = 0, netip.Addr{}
		}
	})
}

func TestRenew(t *testing.T) {
	tests := []struct {
		name      string
		user      string
		lifetime  time.Duration
		keepalive bool
		after     time.Duration // 0: never
	}{
		{"account", "alice", 4 * time.Hour, true, 3 * time.Hour},
		{"account without keepalive", "alice", 4 * time.Hour, false, 3 * time.Hour},
		{"account, short", "alice", 8 * time.Second, true, 10 * time.Second},
		{"account, for ever", "alice", 0, true, 0},
		{"anonymous", "", 4 * time.Hour, true, 0},
		{"anonymous without keepalive", "", 4 * time.Hour, false, 3 * time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				b := w.broker(brokerAddr, lifetime(tt.lifetime, tt.keepalive))
				c := w.config()
				c.Transport, c.User = client.UDP, tt.user
				w.start(c)
				first := await[client.Up](w).Lease
				if tt.after == 0 {
					w.pass(100 * time.Hour)
					if n := len(b.Sessions()); n != 1 || !first.Renew.IsZero() {
						t.Errorf("%d sessions, renewed at %v", n, first.Renew)
					}
					return
				}
				await[client.Renewing](w)
				if after := time.Since(first.Since); after != tt.after || !first.Renew.Equal(time.Now()) {
					t.Errorf("renewed after %v, planned %v", after, first.Renew)
				}
				second := await[client.Up](w).Lease
				if got := w.leases(); len(got) != 2 || got[1] != second || second.Since == first.Since {
					t.Errorf("%+v", got)
				}
				if n := w.open(); n != 1 {
					t.Errorf("%d connections", n)
				}
			})
		})
	}
}

// TestOldConnection: it is open until the new lease is up.
func TestOldConnection(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.broker(brokerAddr, lifetime(4*time.Hour, true))
		w.start(w.config())
		await[client.Up](w)
		w.path.mu.Lock()
		w.block = true
		w.path.mu.Unlock()
		await[client.Renewing](w)
		w.pass(time.Minute)
		if n := w.open(); n != 2 || len(w.leases()) != 2 {
			t.Errorf("%d connections during Up, %d leases", n, len(w.leases()))
		}
		w.stop()
	})
}

// TestRenewalFails: the tunnel runs on, and its connection stays.
func TestRenewalFails(t *testing.T) {
	for _, tt := range []struct {
		name string
		fail func(w *world, b *tsptest.Broker)
	}{
		{"refused", func(_ *world, b *tsptest.Broker) {
			b.Change(func(c *tsptest.Config) { c.Refuse = refused(tsptest.Verdict, tsp.AuthFailed).Refuse })
		}},
		{"silent", func(_ *world, b *tsptest.Broker) {
			b.Change(func(c *tsptest.Config) { c.Faults = tsptest.Silence().At(tsptest.Hello) })
		}},
		{"not set up", func(w *world, _ *tsptest.Broker) {
			w.path.mu.Lock()
			w.fail = errNoTUN
			w.path.mu.Unlock()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				b := w.broker(brokerAddr, lifetime(4*time.Hour, true))
				c := w.config()
				c.GiveUp = client.Always
				w.start(c)
				first := await[client.Up](w).Lease
				tt.fail(w, b)
				for range 20 {
					failed := await[client.Failed](w)
					if s := w.client.Status(); s.State != client.StateUp || s.Reason == "" || s.Lease != first || s.Next != time.Now().Add(failed.RetryIn) {
						t.Errorf("%+v", s)
					}
					if n := w.open(); n != 1 || w.made("")[0].closed {
						t.Errorf("%d connections", n)
					}
				}
				b.Change(func(c *tsptest.Config) { c.Refuse, c.Faults = nil, nil })
				w.path.mu.Lock()
				w.fail = nil
				w.path.mu.Unlock()
				await[client.Up](w)
				if s := w.client.Status(); s.State != client.StateUp || s.Reason != "" || s.Lease == first {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// TestExpired: nobody would notice the end of a tunnel without keepalive.
func TestExpired(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		b := w.broker(brokerAddr, lifetime(4*time.Hour, false))
		w.start(w.config())
		first := await[client.Up](w).Lease
		b.Change(func(c *tsptest.Config) { c.Refuse = refused(tsptest.Hello, tsp.Busy).Refuse })
		lost := await[client.Lost](w)
		if after := time.Since(first.Since); after < 4*time.Hour || after > 4*time.Hour+6*time.Minute {
			t.Errorf("after %v", after)
		}
		if e, ok := lost.Err.(*client.Error); !ok || e.Stage != client.Expired {
			t.Errorf("%+v", lost)
		}
		await[client.Failed](w)
		if s := w.client.Status(); s.State != client.StateDown || s.Lease != first {
			t.Errorf("%+v", s)
		}
		b.Change(func(c *tsptest.Config) { c.Refuse = nil })
		await[client.Up](w)
		w.stop()
	})
}

// TestLost: the first attempt after a loss comes at once, and the interface stays.
func TestLost(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.broker(brokerAddr, tsptest.Config{})
		w.start(w.config())
		first := await[client.Up](w).Lease
		w.pass(time.Hour)
		lost := time.Now()
		w.dead <- errSilent
		if e, ok := await[client.Lost](w).Err.(*client.Error); !ok || e.Stage != client.Keepalive {
			t.Error(e)
		}
		second := await[client.Up](w).Lease
		if took := time.Since(lost); took != 0 {
			t.Errorf("took %v", took)
		}
		if second.Tunnel.Client6 != first.Tunnel.Client6 || w.open() != 1 {
			t.Errorf("%+v, %d connections", second.Tunnel, w.open())
		}
	})
}

// TestStillborn: a broker whose tunnels never work is not stormed.
func TestStillborn(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		b := w.broker(brokerAddr, tsptest.Config{})
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for {
				select {
				case w.dead <- errSilent:
				case <-stop:
					return
				}
			}
		}()
		w.start(w.config())
		w.pass(time.Hour)
		if n := len(b.Sessions()); n < 10 || n > 30 {
			t.Errorf("%d sessions in an hour", n)
		}
		w.stop()
	})
}

// TestElsewhere: that tunnels did not work where this host was makes nobody wait for one
// where it is now.
func TestElsewhere(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.broker(brokerAddr, tsptest.Config{})
		w.start(w.config())
		await[client.Up](w)
		w.dead <- errSilent
		await[client.Up](w)
		w.move(otherAddr)
		await[client.Up](w)
		lost := time.Now()
		w.dead <- errSilent
		await[client.Up](w)
		if took := time.Since(lost); took != 0 {
			t.Errorf("took %v", took)
		}
		w.stop()
	})
}

// TestBackoff: the waits between failures, and that a success makes an end of them.
func TestBackoff(t *testing.T) {
	tests := []struct {
		name       string
		delay, max time.Duration
		want       []int // seconds
	}{
		{"default", 0, 0, []int{30, 30, 30, 60, 60, 60, 120, 120, 120, 240, 240, 240, 300, 300, 300, 300}},
		{"short", time.Millisecond, 3 * time.Second, []int{1, 1, 1, 2, 2, 2, 3, 3, 3, 3}},
		{"long", 400 * time.Second, 0, []int{400, 400, 400, 400}},
		{"equal", 7 * time.Second, 7 * time.Second, []int{7, 7, 7, 7, 7}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				b := w.broker(brokerAddr, refused(tsptest.Hello, tsp.Busy))
				c := w.config()
				c.RetryDelay, c.RetryMax = tt.delay, tt.max
				w.start(c)
				jitter := false
				for i, want := range tt.want {
					got, want := await[client.Failed](w).RetryIn, time.Duration(want)*time.Second
					if got < want*9/10 || got > want*11/10 {
						t.Errorf("delay %d: %v, want %v", i, got, want)
					}
					jitter = jitter || got != want
					begin := time.Now()
					await[client.Connecting](w)
					if took := time.Since(begin); took != got {
						t.Errorf("delay %d: %v, told %v", i, took, got)
					}
				}
				if !jitter {
					t.Error("no jitter")
				}
				b.Change(func(c *tsptest.Config) { c.Refuse = nil })
				await[client.Up](w)
				b.Change(func(c *tsptest.Config) { c.Refuse = refused(tsptest.Hello, tsp.Busy).Refuse })
				w.pass(time.Hour)
				w.dead <- errSilent
				first := time.Duration(tt.want[0]) * time.Second
				if got := await[client.Failed](w).RetryIn; got < first*9/10 || got > first*11/10 {
					t.Errorf("%v after a success", got)
				}
			})
		})
	}
}

func TestOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.broker(brokerAddr, lifetime(time.Minute, true))
		c := w.config()
		c.Once = true
		if err := w.run(c); err != nil {
			t.Fatal(err)
		}
		if n := len(w.leases()); n != 1 || w.open() != 0 {
			t.Errorf("%d leases, %d connections", n, w.open())
		}
	})
}
