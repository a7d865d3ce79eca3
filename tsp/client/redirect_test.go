package client_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/client"
	"sixin4/tsp/tsptest"
)

// brokers are the entries of a list.
func brokers(hosts ...string) []tsp.Broker {
	var all []tsp.Broker
	for _, h := range hosts {
		if a, err := netip.ParseAddr(h); err == nil {
			all = append(all, tsp.Broker{Addr: a})
		} else {
			all = append(all, tsp.Broker{Name: h})
		}
	}
	return all
}

// redirects is a broker that sends its clients elsewhere.
func redirects(at tsptest.Step, hosts ...string) tsptest.Config {
	return tsptest.Config{Redirect: map[tsptest.Step][]tsp.Broker{at: brokers(hosts...)}}
}

func addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}) }

// away is the round trip time to a broker that swallows all.
const away = -1

// redirectCase is a broker with a list, and what becomes of it.
type redirectCase struct {
	name   string
	server string // default: brokerAddr
	list   []string
	step   tsptest.Step
	names  map[string]string
	rtt    map[int]time.Duration // of brokers at addr(n); away: it swallows all
	want   []string              // the list as remembered; the lease is of its first
	took   time.Duration
	is     string // in the error
}

var redirectCases = []redirectCase{
	{name: "one", list: []string{"192.0.2.2"}, rtt: map[int]time.Duration{2: 0}, want: []string{"192.0.2.2"}},
	{name: "one at create", step: tsptest.Create, list: []string{"192.0.2.2"}, rtt: map[int]time.Duration{2: 0}, want: []string{"192.0.2.2"}},
	{name: "one at the verdict", step: tsptest.Verdict, list: []string{"192.0.2.2"}, rtt: map[int]time.Duration{2: 0}, want: []string{"192.0.2.2"}},
	{name: "one by name", list: []string{"b.example.net"}, names: map[string]string{"b.example.net": "192.0.2.2"},
		rtt: map[int]time.Duration{2: 0}, want: []string{"b.example.net"}},
	{name: "nearest first", list: []string{"192.0.2.2", "192.0.2.3", "192.0.2.4"},
		rtt:  map[int]time.Duration{2: 300 * time.Millisecond, 3: 20 * time.Millisecond, 4: 100 * time.Millisecond},
		want: []string{"192.0.2.3", "192.0.2.4", "192.0.2.2"}, took: 300 * time.Millisecond},
	{name: "the far one is not waited for", list: []string{"192.0.2.2", "192.0.2.3", "192.0.2.4"},
		rtt:  map[int]time.Duration{2: 900 * time.Millisecond, 3: 20 * time.Millisecond, 4: away},
		want: []string{"192.0.2.3", "192.0.2.2", "192.0.2.4"}, took: 520 * time.Millisecond},
	{name: "four round trips are waited for", list: []string{"192.0.2.2", "192.0.2.3", "192.0.2.4"},
		rtt:  map[int]time.Duration{2: 900 * time.Millisecond, 3: 200 * time.Millisecond, 4: 1100 * time.Millisecond},
		want: []string{"192.0.2.3", "192.0.2.2", "192.0.2.4"}, took: 1000 * time.Millisecond},
	{name: "nobody answers in time", list: []string{"192.0.2.3", "192.0.2.2"},
		rtt:  map[int]time.Duration{2: 4 * time.Second, 3: 5 * time.Second},
		want: []string{"192.0.2.3", "192.0.2.2"}, took: 3500 * time.Millisecond},
	{name: "nobody there", list: []string{"192.0.2.2", "192.0.2.3"},
		want: []string{"192.0.2.2", "192.0.2.3"}, is: "connection refused"},
	{name: "the first is away", list: []string{"192.0.2.2", "192.0.2.3"}, rtt: map[int]time.Duration{3: 0},
		want: []string{"192.0.2.3", "192.0.2.2"}},
	{name: "a name takes for ever", list: []string{"slow.example.net", "192.0.2.2"}, names: map[string]string{"slow.example.net": ""},
		rtt: map[int]time.Duration{2: 0}, want: []string{"192.0.2.2"}, took: 5 * time.Second},
	{name: "an unknown name", list: []string{"no.example.net", "192.0.2.2"},
		rtt: map[int]time.Duration{2: 0}, want: []string{"192.0.2.2"}},
	{name: "to this host", list: []string{"127.0.0.1", "192.0.2.2"}, rtt: map[int]time.Duration{2: 0}, want: []string{"192.0.2.2"}},
	{name: "to this host by name", list: []string{"l.example.net"}, names: map[string]string{"l.example.net": "127.0.0.1"}, is: "may send its clients to"},
	{name: "to everybody by name", list: []string{"l.example.net"}, names: map[string]string{"l.example.net": "255.255.255.255"}, is: "may send its clients to"},
	{name: "to many by name", list: []string{"l.example.net"}, names: map[string]string{"l.example.net": "224.0.0.1"}, is: "may send its clients to"},
	{name: "to nobody by name", list: []string{"l.example.net"}, names: map[string]string{"l.example.net": "0.0.0.0"}, is: "may send its clients to"},
	{name: "from this host to this host", server: "127.0.0.1", list: []string{"127.0.0.2"}, want: []string{"127.0.0.2"}},
	{name: "IPv6 only", list: []string{"2001:db8::2"}, is: "no IPv4 address"},
	{name: "IPv6 too", list: []string{"2001:db8::2", "192.0.2.2"}, rtt: map[int]time.Duration{2: 0}, want: []string{"192.0.2.2"}},
	{name: "to itself", list: []string{"192.0.2.1"}, is: "in a circle"},
	{name: "to itself by name", list: []string{"me.example.net"}, names: map[string]string{"me.example.net": "192.0.2.1"}, is: "in a circle"},
	{name: "to itself or another", list: []string{"192.0.2.1", "192.0.2.2"}, rtt: map[int]time.Duration{2: 0}, want: []string{"192.0.2.2"}},
}

func TestRedirect(t *testing.T) {
	for _, tt := range redirectCases {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, tt.run)
		})
	}
}

func (tt redirectCase) run(t *testing.T, w *world) {
	c, m := w.config(), new(memory)
	c.Memory, c.GiveUp, c.Once = m, client.Always, true
	if tt.server != "" {
		c.Servers[0].Host = tt.server
		w.broker(netip.MustParseAddr("127.0.0.2"), withAnswer(func(t *tsp.Tunnel) {}))
	}
	w.broker(netip.MustParseAddr(c.Servers[0].Host), redirects(tt.step, tt.list...))
	for n, rtt := range tt.rtt {
		if rtt == away {
			w.blackHole(addr(n))
		} else {
			w.brokerBehind(addr(n), rtt, tsptest.Config{})
		}
	}
	for name, a := range tt.names {
		if w.names[name] = nil; a != "" {
			w.names[name] = []netip.Addr{netip.MustParseAddr(a)}
		}
	}
	if tt.took > 0 {
		c.User = "" // no authentication, whose answers take their time
	}
	begin := time.Now()
	err := w.run(c)
	if !slices.Equal(m.list, tt.want) {
		t.Errorf("remembered %q, want %q", m.list, tt.want)
	}
	if tt.is != "" {
		checkRedirectError(t, err, tt.is, tt.want == nil)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	l := w.leases()[0]
	if l.Server.String() != tt.want[0] || m.last != tt.want[0] {
		t.Errorf("lease of %v, last %q", l.Server, m.last)
	}
	if tt.took > 0 {
		checkChosen(t, w, begin, tt.took)
	}
}

// checkRedirectError wants an Error about the redirection, or about those it led to.
func checkRedirectError(t *testing.T, err error, want string, redirect bool) {
	t.Helper()
	e, ok := err.(*client.Error)
	if !ok || redirect && e.Stage != client.Redirect || e.Permanent() || !strings.Contains(err.Error(), want) {
		t.Errorf("Run: %v", err)
	}
}

// checkChosen looks when the first message went to a broker of the list.
func checkChosen(t *testing.T, w *world, begin time.Time, want time.Duration) {
	t.Helper()
	lease := w.leases()[0]
	for _, d := range slices.Backward(w.made("")) {
		if d.to == lease.Broker && d.network == lease.Transport.String() {
			if took := d.at.Sub(begin); took != want {
				t.Errorf("chosen after %v, want %v", took, want)
			}
			return
		}
	}
	t.Error("the broker was not dialled")
}

// TestRedirectMany: the longest list there may be, all measured at a time.
func TestRedirectMany(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var list []string
		for n := 2; n < 52; n++ {
			list = append(list, addr(n).String())
			if n%2 == 0 {
				w.brokerBehind(addr(n), time.Duration(100-n)*time.Millisecond, tsptest.Config{})
			}
		}
		w.broker(brokerAddr, redirects(tsptest.Hello, list...))
		c, m := w.config(), new(memory)
		c.Memory, c.Once = m, true
		if err := w.run(c); err != nil {
			t.Fatal(err)
		}
		if got := happened[client.Redirected](w); len(got) != 1 || len(got[0].Brokers) != 50 {
			t.Errorf("%+v", got)
		}
		if len(m.list) != 50 || m.list[0] != "192.0.2.50" || m.list[1] != "192.0.2.48" || m.list[49] != "192.0.2.51" {
			t.Errorf("%q", m.list)
		}
	})
}

// TestRedirectLoop: brokers that send their clients round.
func TestRedirectLoop(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		sessions := []*tsptest.Broker{
			w.broker(addr(1), redirects(tsptest.Hello, "192.0.2.2")),
			w.broker(addr(2), redirects(tsptest.Hello, "192.0.2.3")),
			w.broker(addr(3), redirects(tsptest.Hello, "192.0.2.1", "192.0.2.2")),
		}
		c := w.config()
		c.GiveUp = client.Always
		checkRedirectError(t, w.run(c), "in a circle", true)
		for i, b := range sessions {
			if n := len(b.Sessions()); n != 1 {
				t.Errorf("broker %d had %d sessions", i, n)
			}
		}
	})
}

func TestRedirectDepth(t *testing.T) {
	for _, tt := range []struct {
		hops int
		ok   bool
	}{{5, true}, {6, false}} {
		t.Run(fmt.Sprint(tt.hops), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				for n := 1; n <= tt.hops; n++ {
					w.broker(addr(n), redirects(tsptest.Hello, addr(n+1).String()))
				}
				w.broker(addr(tt.hops+1), tsptest.Config{})
				c := w.config()
				c.GiveUp, c.Once = client.Always, true
				err := w.run(c)
				if tt.ok && err != nil {
					t.Error(err)
				}
				if !tt.ok {
					checkRedirectError(t, err, "more than 5 times", true)
				}
			})
		})
	}
}

// TestRedirectStatus: a broker of the list that refuses is an answer; the next is for
// those that cannot be reached.
func TestRedirectStatus(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.broker(addr(1), redirects(tsptest.Hello, "192.0.2.2", "192.0.2.3"))
		w.broker(addr(2), refused(tsptest.Verdict, tsp.AuthFailed))
		third := w.brokerBehind(addr(3), 100*time.Millisecond, tsptest.Config{})
		c := w.config()
		c.GiveUp = client.Permanent
		w.start(c)
		if e := w.failure(); e.Stage != client.Authenticate || e.Server != "192.0.2.2" {
			t.Error(e)
		}
		if n := len(third.Sessions()); n != 0 {
			t.Errorf("%d sessions", n)
		}
	})
}

// TestMemory: what is done with the servers of an earlier run.
func TestMemory(t *testing.T) {
	tests := []struct {
		name      string
		last      string
		list      []string
		same      bool
		brokers   map[int]tsptest.Config
		want      string // whose lease; empty for none
		connected int
		stage     client.Stage
	}{
		{name: "configured before last", last: "192.0.2.2", brokers: map[int]tsptest.Config{1: {}, 2: {}}, want: "192.0.2.1"},
		{name: "only the last", last: "192.0.2.2", same: true, brokers: map[int]tsptest.Config{1: {}, 2: {}}, want: "192.0.2.2"},
		{name: "only the last, which is away", last: "192.0.2.2", same: true, list: []string{"192.0.2.3"},
			brokers: map[int]tsptest.Config{1: {}, 3: {}}, stage: client.Connect},
		{name: "only the last, which redirects", last: "192.0.2.2", same: true,
			brokers: map[int]tsptest.Config{1: {}, 2: redirects(tsptest.Hello, "192.0.2.3"), 3: {}}, stage: client.Redirect},
		{name: "only the same, but there is none yet", same: true, brokers: map[int]tsptest.Config{1: redirects(tsptest.Hello, "192.0.2.3"), 3: {}}, want: "192.0.2.3"},
		{name: "last makes no sense", last: "a b", same: true, brokers: map[int]tsptest.Config{1: {}}, want: "192.0.2.1"},
		{name: "list when nobody is there", list: []string{"//", "192.0.2.2", "192.0.2.3"}, brokers: map[int]tsptest.Config{3: {}}, want: "192.0.2.3"},
		{name: "no list when somebody is", list: []string{"192.0.2.3"}, brokers: map[int]tsptest.Config{1: refused(tsptest.Hello, tsp.Busy), 3: {}}, stage: client.Hello},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				for n, config := range tt.brokers {
					w.broker(addr(n), config)
				}
				m := &memory{last: tt.last, list: tt.list}
				c := w.config()
				c.Memory, c.AlwaysSame, c.GiveUp, c.Once = m, tt.same, client.Always, true
				err := w.run(c)
				if tt.want == "" {
					if e, ok := err.(*client.Error); !ok || e.Stage != tt.stage {
						t.Errorf("Run: %v", err)
					}
					if m.last != tt.last {
						t.Errorf("last is %q", m.last)
					}
					return
				}
				if err != nil || w.leases()[0].Server.String() != tt.want || m.last != tt.want {
					t.Errorf("Run: %v, last is %q", err, m.last)
				}
			})
		})
	}
}

// TestMemoryFails: a lease is worth more than remembering where it is from.
func TestMemoryFails(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.broker(addr(1), redirects(tsptest.Hello, "192.0.2.2"))
		w.broker(addr(2), tsptest.Config{})
		var log bytes.Buffer
		c := w.config()
		c.Memory, c.Once = &memory{err: errors.New("read-only")}, true
		c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		if err := w.run(c); err != nil || strings.Count(log.String(), "read-only") != 2 {
			t.Errorf("Run: %v\n%s", err, &log)
		}
	})
}

// TestRenewalStays: a lease is renewed where it is, wherever the configured server
// would send us now; a new one is not.
func TestRenewalStays(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		first := w.broker(addr(1), redirects(tsptest.Hello, "192.0.2.2"))
		w.broker(addr(2), lifetime(4*time.Hour, true))
		w.broker(addr(3), tsptest.Config{})
		w.start(w.config())
		await[client.Up](w)
		first.Change(func(c *tsptest.Config) { c.Redirect = redirects(tsptest.Hello, "192.0.2.3").Redirect })
		if l := await[client.Up](w).Lease; l.Broker.Addr() != addr(2) {
			t.Errorf("renewed at %v", l.Broker)
		}
		w.move(otherAddr)
		if l := await[client.Up](w).Lease; l.Broker.Addr() != addr(2) {
			t.Errorf("moved to %v", l.Broker)
		}
		w.dead <- errSilent
		if l := await[client.Up](w).Lease; l.Broker.Addr() != addr(3) {
			t.Errorf("connected anew to %v", l.Broker)
		}
		w.stop()
	})
}
