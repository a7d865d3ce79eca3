package client_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/client"
	"sixin4/tsp/tsptest"
)

func TestLadder(t *testing.T) {
	tests := []struct {
		name      string
		speaks    []tsp.Version
		networks  []string
		transport client.Transport
		kind      tsp.Type
		want      []string // the sessions, each a version and a network
		stage     client.Stage
	}{
		{name: "newest", speaks: []tsp.Version{tsp.V202, tsp.V200}, want: []string{"2.0.2 udp"}},
		{name: "second", speaks: []tsp.Version{tsp.V201}, want: []string{"2.0.2 udp", "2.0.1 udp"}},
		{name: "third", speaks: []tsp.Version{tsp.V200}, want: []string{"2.0.2 udp", "2.0.1 udp", "2.0.0 udp"}},
		{name: "oldest moves to TCP", speaks: []tsp.Version{tsp.V101},
			want: []string{"2.0.2 udp", "2.0.1 udp", "2.0.0 udp", "1.0.1 tcp"}},
		{name: "any type has v6v4 in the oldest", speaks: []tsp.Version{tsp.V101}, kind: tsp.V6AnyV4,
			want: []string{"2.0.2 udp", "2.0.1 udp", "2.0.0 udp", "1.0.1 tcp"}},
		{name: "TCP all the way", speaks: []tsp.Version{tsp.V101}, transport: client.TCP,
			want: []string{"2.0.2 tcp", "2.0.1 tcp", "2.0.0 tcp", "1.0.1 tcp"}},
		{name: "UDP only has no oldest", speaks: []tsp.Version{tsp.V101}, transport: client.UDP,
			want: []string{"2.0.2 udp", "2.0.1 udp", "2.0.0 udp"}, stage: client.Hello},
		{name: "v6udpv4 has no oldest", speaks: []tsp.Version{tsp.V101}, kind: tsp.V6UDPV4,
			want: []string{"2.0.2 udp", "2.0.1 udp", "2.0.0 udp"}, stage: client.Hello},
		{name: "no TCP for the oldest", speaks: []tsp.Version{tsp.V101}, networks: []string{"udp"},
			want: []string{"2.0.2 udp", "2.0.1 udp", "2.0.0 udp"}, stage: client.Hello},
		{name: "none", speaks: []tsp.Version{"9"}, transport: client.TCP,
			want: []string{"2.0.2 tcp", "2.0.1 tcp", "2.0.0 tcp", "1.0.1 tcp"}, stage: client.Hello},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				b := w.broker(brokerAddr, tsptest.Config{Versions: tt.speaks}, tt.networks...)
				c := w.config()
				c.Transport, c.Once, c.GiveUp = tt.transport, true, client.Permanent
				if tt.kind != "" {
					c.Request.Type = tt.kind
				}
				err := w.run(c)
				var e *client.Error
				if errors.As(err, &e); (err != nil) != (tt.stage != "") || err != nil && e.Stage != tt.stage {
					t.Errorf("Run: %v", err)
				}
				var status *tsp.Error
				if tt.stage != "" && (!errors.As(err, &status) || status.Code != tsp.BadVersion) {
					t.Errorf("no refusal of the version: %v", err)
				}
				checkLadder(t, b.Sessions(), tt.want)
				if accepted := len(b.Accepts()) == 1; accepted != (tt.stage == "") {
					t.Errorf("accepted: %v", accepted)
				}
			})
		})
	}
}

// checkLadder compares sessions, each of which must have a port of its own.
func checkLadder(t *testing.T, sessions []tsptest.Session, want []string) {
	t.Helper()
	var got []string
	ports := make(map[uint16]bool)
	for _, s := range sessions {
		got = append(got, string(s.Version)+" "+s.Network)
		ports[s.From.Port()] = true
	}
	if !slices.Equal(got, want) || len(ports) != len(want) {
		t.Errorf("sessions %q from %d ports, want %q", got, len(ports), want)
	}
}

func TestTransports(t *testing.T) {
	const never = -1
	tests := []struct {
		name      string
		transport client.Transport
		kind      tsp.Type
		udp, tcp  time.Duration // until a VERSION is answered; never: it is refused
		want      client.Transport
		took      time.Duration
		noTCP     bool // was not even tried
		stage     client.Stage
	}{
		{name: "UDP answers", want: client.UDP, noTCP: true},
		{name: "UDP answers within the head start", udp: 499 * time.Millisecond, want: client.UDP, took: 499 * time.Millisecond, noTCP: true},
		{name: "UDP is refused", udp: never, want: client.TCP},
		{name: "UDP is silent", udp: long, want: client.TCP, took: 500 * time.Millisecond},
		{name: "UDP is late, but TCP is later", udp: time.Second, tcp: time.Second, want: client.UDP, took: time.Second},
		{name: "UDP is later than TCP", udp: 2 * time.Second, tcp: time.Second, want: client.TCP, took: 1500 * time.Millisecond},
		{name: "TCP is refused while UDP is late", udp: time.Second, tcp: never, want: client.UDP, took: time.Second},
		{name: "TCP is silent while UDP is late", udp: time.Second, tcp: long, want: client.UDP, took: time.Second},
		{name: "UDP is silent, TCP refused", udp: long, tcp: never, took: 6 * time.Second, stage: client.Connect},
		{name: "both are refused", udp: never, tcp: never, stage: client.Connect},
		{name: "both are silent", udp: long, tcp: long, took: 20500 * time.Millisecond, stage: client.Hello},
		{name: "UDP only", transport: client.UDP, udp: long, took: 6 * time.Second, noTCP: true, stage: client.Connect},
		{name: "TCP only", transport: client.TCP, want: client.TCP},
		{name: "TCP only, silent", transport: client.TCP, tcp: long, took: 20 * time.Second, stage: client.Hello},
		{name: "v6udpv4 is UDP only", kind: tsp.V6UDPV4, udp: long, took: 6 * time.Second, noTCP: true, stage: client.Connect},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				if tt.udp != never {
					w.broker(brokerAddr, tsptest.Config{Faults: tsptest.Late(tt.udp).At(tsptest.Hello)}, "udp")
				}
				if tt.tcp != never {
					w.broker(brokerAddr, tsptest.Config{Faults: tsptest.Late(tt.tcp).At(tsptest.Hello)}, "tcp")
				}
				c := w.config()
				c.Transport, c.Once, c.GiveUp = tt.transport, true, client.Always
				c.User, c.Password = "", ""
				if tt.kind != "" {
					c.Request.Type = tt.kind
				}
				begin := time.Now()
				err := w.run(c)
				if took := time.Since(begin); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				checkTransport(t, w, err, tt.want, tt.stage)
				if none := len(w.made("tcp")) == 0; none != tt.noTCP {
					t.Errorf("TCP not tried: %v", none)
				}
			})
		})
	}
}

// TestRefusedOverTCP: a first datagram that was lost makes TCP win. Behind a NAT the broker
// then has no tunnel for whom either kind will do, but it has one over UDP.
func TestRefusedOverTCP(t *testing.T) {
	for _, tt := range []struct {
		name      string
		kind      tsp.Type
		transport client.Transport
		noUDP     bool
		code      tsp.Code
		stage     client.Stage // of the failure; none: there is a tunnel in UDP
	}{
		{name: "either kind", kind: tsp.V6AnyV4, code: tsp.BadType},
		{name: "protocol 41 only", kind: tsp.V6V4, code: tsp.BadType, stage: client.Create},
		{name: "TCP only", kind: tsp.V6AnyV4, transport: client.TCP, code: tsp.BadType, stage: client.Create},
		{name: "another refusal", kind: tsp.V6AnyV4, code: tsp.NoTunnels, stage: client.Create},
		{name: "no UDP", kind: tsp.V6AnyV4, noUDP: true, code: tsp.BadType, stage: client.Connect},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.broker(brokerAddr, refused(tsptest.Create, tt.code), "tcp")
				networks := []string{"udp"}
				if tt.noUDP {
					networks = []string{"none"}
				}
				b := w.broker(brokerAddr, tsptest.Config{Faults: tsptest.Late(2 * time.Second).At(tsptest.Hello), Faulty: 1}, networks...)
				c := w.config()
				c.Request.Type, c.Transport, c.Once, c.GiveUp = tt.kind, tt.transport, true, client.Always
				err := w.run(c)
				var e *client.Error
				if errors.As(err, &e); (err == nil) != (tt.stage == "") || err != nil && e.Stage != tt.stage {
					t.Errorf("Run: %v, want stage %q", err, tt.stage)
				}
				if hint := err != nil && strings.Contains(err.Error(), "NAT"); hint != (tt.kind == tsp.V6V4) {
					t.Errorf("advice about a NAT: %v", err)
				}
				if a := b.Accepts(); (len(a) == 1) != (tt.stage == "") || len(a) > 0 && a[0].Request.Type != tsp.V6UDPV4 {
					t.Errorf("%d tunnels over UDP", len(a))
				}
			})
		})
	}
}

func checkTransport(t *testing.T, w *world, err error, want client.Transport, stage client.Stage) {
	t.Helper()
	var e *client.Error
	if stage != "" {
		if !errors.As(err, &e) || e.Stage != stage {
			t.Errorf("Run: %v, want stage %s", err, stage)
		}
		return
	}
	if err != nil || w.leases()[0].Transport != want {
		t.Fatalf("Run: %v, over %v", err, w.leases())
	}
	if got := happened[client.Connected](w); len(got) != 1 || got[0].Transport != want || got[0].Local != selfAddr {
		t.Errorf("%+v", got)
	}
}

// TestDialHangs: a connection that is neither made nor refused.
func TestDialHangs(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.blackHole(brokerAddr)
		c := w.config()
		c.GiveUp = client.Always
		begin := time.Now()
		w.start(c)
		if e := w.failure(); e.Stage != client.Connect || !errors.Is(e, tsp.ErrNoAnswer) {
			t.Error(e)
		}
		if took := time.Since(begin); took != 10500*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

// TestDrawnOut: a broker that is never quite silent cannot hold a client for ever.
func TestDrawnOut(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault tsptest.Fault
		steps []tsptest.Step
		took  time.Duration
		stage client.Stage
	}{
		{"a byte in 10 s", tsptest.Slow(10 * time.Second), []tsptest.Step{tsptest.Hello}, 20 * time.Second, client.Hello},
		{"a byte in a minute", tsptest.Slow(time.Minute), []tsptest.Step{tsptest.Create}, 20 * time.Second, client.Create},
		{"all answers late", tsptest.Late(19 * time.Second), tsptest.Steps(), time.Minute, client.Authenticate},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.broker(brokerAddr, tsptest.Config{Faults: tt.fault.At(tt.steps...)})
				c := w.config()
				c.GiveUp, c.Transport, c.Method = client.Always, client.TCP, "digest-md5"
				begin := time.Now()
				w.start(c)
				if e := w.failure(); e.Stage != tt.stage || !errors.Is(e, tsp.ErrNoAnswer) {
					t.Error(e)
				}
				if took := time.Since(begin).Truncate(time.Second); took != tt.took {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}
