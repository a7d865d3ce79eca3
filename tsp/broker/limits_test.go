package broker_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker"
	"sixin4/tsp/broker/account"
	"sixin4/tsp/sasl"
)

func TestNew(t *testing.T) {
	tests := []struct {
		name   string
		change func(*broker.Config)
		ok     bool
	}{
		{"as it is", func(*broker.Config) {}, true},
		{"no provisioner", func(c *broker.Config) { c.Provisioner = nil }, false},
		{"for nobody", func(c *broker.Config) { c.Anonymous, c.Accounts = false, nil }, false},
		{"for strangers only", func(c *broker.Config) { c.Accounts = nil }, true},
		{"longest realm", func(c *broker.Config) { c.Realm = strings.Repeat("r", 32) }, true},
		{"realm too long", func(c *broker.Config) { c.Realm = strings.Repeat("r", 33) }, false},
		{"realm that not all can read", func(c *broker.Config) { c.Realm = "a b" }, false},
		{"v4v6", func(c *broker.Config) { c.Carries = []tsp.Type{tsp.V4V6} }, false},
		{"unknown mechanism", func(c *broker.Config) { c.Mechanisms = []string{"X"} }, false},
		{"anonymous as a mechanism", func(c *broker.Config) { c.Mechanisms = []string{sasl.Anonymous} }, false},
		{"list of brokers that cannot be written", func(c *broker.Config) { c.Redirect.Brokers = make([]tsp.Broker, 1) }, false},
		{"negative limit", func(c *broker.Config) { c.Limits.Conns = -1 }, false},
		{"no time", func(c *broker.Config) { c.Limits.Message = time.Millisecond }, false},
		{"a session shorter than a message", func(c *broker.Config) { c.Limits.Session = time.Second }, false},
		{"too few iterations", func(c *broker.Config) { c.Logins.Iterations = 1 }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := broker.Config{Provisioner: new(pool), Accounts: everybody(), Anonymous: true}
			tt.change(&c)
			if _, err := broker.New(c); (err == nil) != tt.ok {
				t.Error(err)
			}
		})
	}
}

// TestConnsPerSource: one source has so many connections, and its tunnels do not count.
func TestConnsPerSource(t *testing.T) {
	inWorld(t, func(c *broker.Config) { c.Limits.ConnsPerSource = 3 }, func(t *testing.T, w *world) {
		for range 5 { // tunnels that are up
			if _, err := w.talk("tcp", mob4).run(t.Context(), byScram, request(tsp.V6V4, mob4)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		for i := range 5 { // and connections that are not
			if closed := w.closed(w.dial("tcp", mob4)); closed != (i >= 3) {
				t.Errorf("connection %d is closed: %v", i, closed)
			}
		}
		if w.closed(w.dial("tcp", alice4)) {
			t.Error("another source has none")
		}
		if s := w.Stats(); s.Conns != 4 || s.Idle != 5 || s.Drops[broker.DropConns] != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// closed reports whether the broker has closed a connection.
func (w *world) closed(c net.Conn) bool {
	synctest.Wait()
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	var timeout net.Error
	return !errors.As(err, &timeout) || !timeout.Timeout()
}

// TestConnsInAll: the oldest go when there are too many, which does no tunnel any harm.
func TestConnsInAll(t *testing.T) {
	inWorld(t, func(c *broker.Config) { c.Limits.Conns, c.Limits.Idle = 3, 2 }, func(t *testing.T, w *world) {
		var silent, up []net.Conn
		for range 4 {
			silent = append(silent, w.dial("tcp", mob4))
			pass(time.Second)
		}
		for i, c := range silent {
			if closed := w.closed(c); closed != (i == 0) {
				t.Errorf("silent connection %d is closed: %v", i, closed)
			}
		}
		for range 3 {
			k := w.talk("tcp", alice4)
			if _, err := k.run(t.Context(), byScram, request(tsp.V6V4, alice4)); err != nil {
				t.Fatal(err)
			}
			up = append(up, k.Conn)
			pass(time.Second)
		}
		for i, c := range up {
			if closed := w.closed(c); closed != (i == 0) {
				t.Errorf("tunnel %d is closed: %v", i, closed)
			}
		}
		if got := w.pool.counts(); got != [4]int{3, 3, 0, 0} {
			t.Errorf("asked, accepted, freed, kept: %v", got)
		}
	})
}

// TestSessionsOverUDP: the oldest goes when there are too many, and what it was
// offered is free.
func TestSessionsOverUDP(t *testing.T) {
	inWorld(t, func(c *broker.Config) { c.Limits.Sessions, c.Limits.SessionsPerSource = 3, 2 }, func(t *testing.T, w *world) {
		half := w.talk("udp", alice4)
		if err := half.in(t.Context(), tsp.V202, byScram); err != nil {
			t.Fatal(err)
		}
		if _, err := half.Create(t.Context(), request(tsp.V6V4, alice4)); err != nil {
			t.Fatal(err)
		}
		first, last := w.talk("udp", mob4), w.talk("udp", mob4)
		for _, k := range []talk{first, w.talk("udp", mob4), last} {
			if _, err := k.Hello(t.Context(), tsp.V202); err != nil {
				t.Error(err)
			}
		}
		anybody := sasl.NewAnonymousServer().(tsp.Mechanism)
		if err := first.Authenticate(t.Context(), anybody); code(err) != tsp.BadRequest {
			t.Errorf("one session of a source too many: %v", err)
		}
		if err := last.Authenticate(t.Context(), anybody); err != nil {
			t.Error(err)
		}
		if got := w.pool.counts(); got[2] != 0 {
			t.Error("it was one of another source")
		}
		if _, err := w.talk("udp", inside).Hello(t.Context(), tsp.V202); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := w.pool.counts(); got != [4]int{1, 0, 1, 0} {
			t.Errorf("asked, accepted, freed, kept: %v", got)
		}
	})
}

// TestStarts: a source begins so many sessions, over TCP and UDP each by itself.
func TestStarts(t *testing.T) {
	inWorld(t, func(c *broker.Config) { c.Limits.Starts = broker.Rate{PerSecond: 1, Burst: 2} }, func(t *testing.T, w *world) {
		hello := func(network string, from netip.Addr) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			_, err := w.talk(network, from).Hello(ctx, tsp.V202)
			return err
		}
		for i, want := range []bool{true, true, false} {
			if err := hello("udp", mob4); (err == nil) != want {
				t.Errorf("UDP %d: %v", i, err)
			}
		}
		for i, want := range []bool{true, true, false} {
			if err := hello("tcp", mob4); (err == nil) != want {
				t.Errorf("TCP %d: %v", i, err)
			}
		}
		for _, network := range []string{"udp", "tcp"} {
			if err := hello(network, alice4); err != nil {
				t.Error(err)
			}
		}
		pass(time.Second)
		if err := hello("udp", mob4); err != nil {
			t.Error(err)
		}
	})
}

// TestDatagramRate: what of one source is too much is not looked at.
func TestDatagramRate(t *testing.T) {
	inWorld(t, func(c *broker.Config) { c.Limits.Datagrams = broker.Rate{PerSecond: 1, Burst: 10} }, func(t *testing.T, w *world) {
		conn := w.dial("udp", mob4)
		for i := range uint32(30) {
			_, _ = conn.Write(tsp.Header{Word: 0xf0000000 + i}.Datagram([]byte("ECHO REQUEST")))
		}
		synctest.Wait()
		if s := w.Stats(); s.Echoes != 10 || s.Drops[broker.DropRate] != 20 {
			t.Errorf("%+v", s)
		}
		if _, err := w.talk("udp", alice4).Hello(t.Context(), tsp.V202); err != nil {
			t.Error(err)
		}
	})
}

// TestEcho needs no session.
func TestEcho(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		if _, err := tsp.NewDatagrams(w.dial("udp", alice4).(tsp.DatagramConn), tsp.DatagramConfig{}).Echo(t.Context()); err != nil {
			t.Error(err)
		}
		if s := w.Stats(); s.Echoes != 1 || s.Sessions["udp"] != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestPrefixLen(t *testing.T) {
	user, without := &broker.User{PrefixLen: 56}, &broker.User{}
	tests := []struct {
		name   string
		user   *broker.User
		router *tsp.Router
		want   int
		code   tsp.Code
	}{
		{"host", nil, nil, 0, 0},
		{"anonymous", nil, &tsp.Router{PrefixLen: 64}, 0, tsp.PrefixAnonymous},
		{"account without", without, &tsp.Router{PrefixLen: 64}, 0, tsp.PrefixUnavailable},
		{"its own", user, &tsp.Router{PrefixLen: 56}, 56, 0},
		{"none named", user, &tsp.Router{}, 56, 0},
		{"smaller network", user, &tsp.Router{PrefixLen: 64}, 64, 0},
		{"larger network", user, &tsp.Router{PrefixLen: 48}, 0, tsp.PrefixUnavailable},
		{"too small for a network", user, &tsp.Router{PrefixLen: 65}, 0, tsp.BadPrefixLength},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := broker.Ask{User: tt.user, Request: &tsp.Request{Router: tt.router}}.PrefixLen()
			if got != tt.want || code(err) != tt.code {
				t.Errorf("%d, %v", got, err)
			}
		})
	}
}

// TestSourceOf: clients are counted by what one site has.
func TestSourceOf(t *testing.T) {
	tests := []struct{ in, want string }{
		{"192.0.2.7", "192.0.2.7"},
		{"::ffff:192.0.2.7", "192.0.2.7"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"},
		{"fe80::1%eth0", "fe80::"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			if got := account.SourceOf(netip.MustParseAddr(tt.in)); got.String() != tt.want {
				t.Errorf("%v", got)
			}
		})
	}
}
