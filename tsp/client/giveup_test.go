package client_test

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/client"
	"sixin4/tsp/sasl"
	"sixin4/tsp/tsptest"
)

// failure is a way in which the first attempt ends without a lease.
type failure struct {
	name      string
	broker    tsptest.Config
	change    func(w *world, c *client.Config)
	stage     client.Stage
	permanent bool
	is        error // that the error wraps; may be nil
}

func refused(step tsptest.Step, code tsp.Code) tsptest.Config {
	return tsptest.Config{Refuse: map[tsptest.Step]tsp.Code{step: code}}
}

func offers(auths ...string) tsptest.Config {
	return tsptest.Config{Offers: tsp.Capability{Tunnels: []tsp.Type{tsp.V6V4}, Auths: auths}}
}

func withAnswer(change func(*tsp.Tunnel)) tsptest.Config {
	return tsptest.Config{Answer: func(r *tsp.Request, from netip.Addr) (*tsp.Tunnel, error) {
		t := tsptest.Offer(r, from)
		change(t)
		return t, nil
	}}
}

var failures = []failure{
	{name: "name without address", stage: client.Resolve,
		change: func(_ *world, c *client.Config) { c.Servers[0].Host = "broker.example.net" }},
	{name: "name that takes for ever", stage: client.Resolve, is: tsp.ErrNoAnswer,
		change: func(w *world, c *client.Config) {
			c.Servers[0].Host, w.names["slow.example.net"] = "slow.example.net", nil
		}},
	{name: "name with IPv6 only", stage: client.Resolve,
		change: func(w *world, c *client.Config) {
			c.Servers[0].Host = "six.example.net"
			w.names["six.example.net"] = []netip.Addr{netip.MustParseAddr("2001:db8::1")}
		}},
	{name: "no route", stage: client.Connect,
		change: func(w *world, _ *client.Config) { w.self = netip.Addr{} }},
	{name: "nobody there", stage: client.Connect,
		change: func(_ *world, c *client.Config) { c.Servers[0].Host = "192.0.2.99" }},
	{name: "busy", broker: refused(tsptest.Hello, tsp.Busy), stage: client.Hello},
	{name: "no version in common", broker: tsptest.Config{Versions: []tsp.Version{"9"}}, stage: client.Hello, permanent: true},
	{name: "no broker", broker: tsptest.Config{Faults: tsptest.Cut(0).At(tsptest.Hello)}, stage: client.Hello},
	{name: "wrong password", stage: client.Authenticate, permanent: true,
		change: func(_ *world, c *client.Config) { c.Password = "guess" }},
	{name: "wrong password, digest", stage: client.Authenticate, permanent: true,
		change: func(_ *world, c *client.Config) { c.Method, c.Password = "Digest-MD5", "guess" }},
	{name: "wrong password, plain", stage: client.Authenticate, permanent: true,
		change: func(_ *world, c *client.Config) { c.Method, c.Password = "plain", "guess" }},
	{name: "nothing but plain", broker: offers("PLAIN", "ANONYMOUS"), stage: client.Authenticate, permanent: true, is: sasl.ErrNoMechanism},
	{name: "mechanism not offered", broker: offers("PLAIN"), stage: client.Authenticate, permanent: true, is: sasl.ErrNoMechanism,
		change: func(_ *world, c *client.Config) { c.Method = "scram-sha-256" }},
	{name: "user that SCRAM does not take", stage: client.Authenticate, permanent: true,
		change: func(_ *world, c *client.Config) { c.User = "\u0007" }},
	{name: "type not offered", stage: client.Offer, permanent: true,
		broker: tsptest.Config{Offers: tsp.Capability{Tunnels: []tsp.Type{tsp.V6UDPV4}}}},
	{name: "no tunnels left", broker: refused(tsptest.Create, tsp.NoTunnels), stage: client.Create},
	{name: "type refused", broker: refused(tsptest.Create, tsp.BadType), stage: client.Create, permanent: true},
	{name: "server error", broker: refused(tsptest.Create, tsp.ServerError), stage: client.Create},
	{name: "bad request", broker: refused(tsptest.Create, tsp.BadRequest), stage: client.Create, permanent: true},
	{name: "bad IPv4 address", broker: refused(tsptest.Create, tsp.BadIPv4), stage: client.Create, permanent: true},
	{name: "bad IPv6 address", broker: refused(tsptest.Create, tsp.BadIPv6), stage: client.Create, permanent: true},
	{name: "address in use", broker: refused(tsptest.Create, tsp.IPv4InUse), stage: client.Create},
	{name: "no such prefix", broker: refused(tsptest.Create, tsp.PrefixUnavailable), stage: client.Create, permanent: true},
	{name: "bad delegation", broker: refused(tsptest.Create, tsp.BadDelegation), stage: client.Create, permanent: true},
	{name: "bad prefix length", broker: refused(tsptest.Create, tsp.BadPrefixLength), stage: client.Create, permanent: true},
	{name: "no prefix length", broker: refused(tsptest.Create, tsp.NoPrefixLength), stage: client.Create, permanent: true},
	{name: "in progress", broker: refused(tsptest.Create, tsp.InProgress), stage: client.Create},
	{name: "no prefix for anonymous users", broker: refused(tsptest.Create, tsp.PrefixAnonymous), stage: client.Create, permanent: true},
	{name: "busy at create", broker: refused(tsptest.Create, tsp.Busy), stage: client.Create},
	{name: "unknown status", broker: refused(tsptest.Create, 999), stage: client.Create},
	{name: "closed at create", broker: tsptest.Config{Faults: tsptest.Cut(20).At(tsptest.Create)}, stage: client.Create},
	{name: "our own address", stage: client.Create, is: tsp.ErrBadTunnel,
		change: func(w *world, _ *client.Config) { w.own = []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")} }},
	{name: "v6udpv4 over TCP", stage: client.Create, is: tsp.ErrBadTunnel,
		broker: withAnswer(func(t *tsp.Tunnel) { t.Type = tsp.V6UDPV4 }),
		change: func(_ *world, c *client.Config) { c.Request.Type = tsp.V6AnyV4 }},
	{name: "redirected to nowhere", stage: client.Redirect,
		broker: tsptest.Config{Faults: tsptest.Status("1200 Redirection").At(tsptest.Create)}},
	{name: "redirected with a reason", stage: client.Redirect,
		broker: tsptest.Config{Faults: tsptest.Status("1301 No more tunnels").At(tsptest.Hello)},
		change: func(_ *world, c *client.Config) { c.Transport = client.UDP }},
	{name: "networks unknown", stage: client.Setup, permanent: true, is: errNoTUN,
		change: func(w *world, _ *client.Config) { w.ownErr = errNoTUN }},
	{name: "this host cannot", stage: client.Setup, permanent: true, is: errNoTUN,
		change: func(w *world, _ *client.Config) { w.fail = errNoTUN }},
	{name: "this host cannot yet", stage: client.Setup, is: syscall.EADDRNOTAVAIL,
		change: func(w *world, _ *client.Config) { w.fail = syscall.EADDRNOTAVAIL }},
}

var errNoTUN = errors.New("no TUN")

// TestGiveUp: each failure under each policy. It is over TCP, so that each answer is
// given once.
func TestGiveUp(t *testing.T) {
	for _, f := range failures {
		for mode, ends := range map[client.GiveUp]bool{client.Never: false, client.Permanent: f.permanent, client.Always: true} {
			t.Run(f.name+map[client.GiveUp]string{client.Never: "/never", client.Permanent: "/permanent", client.Always: "/always"}[mode],
				func(t *testing.T) {
					inWorld(t, func(t *testing.T, w *world) {
						w.broker(brokerAddr, f.broker)
						c := w.config()
						c.Transport, c.GiveUp = client.TCP, mode
						if f.change != nil {
							f.change(w, &c)
						}
						w.start(c)
						checkFailure(t, w, f, ends)
					})
				})
		}
	}
}

func checkFailure(t *testing.T, w *world, f failure, ends bool) {
	t.Helper()
	var e *client.Error
	if ends {
		e = w.failure()
		if got := happened[client.Failed](w); len(got) != 0 {
			t.Errorf("%+v before the end", got)
		}
	} else {
		failed := await[client.Failed](w)
		if !errors.As(failed.Err, &e) {
			t.Fatalf("%+v", failed)
		}
		if s := w.client.Status(); s.State != client.StateDown || s.Reason == "" || s.Next != time.Now().Add(failed.RetryIn) {
			t.Errorf("%+v", s)
		}
		if d := failed.RetryIn; d < 27*time.Second || d > 33*time.Second {
			t.Errorf("retry in %v", d)
		}
		await[client.Connecting](w)
	}
	if e.Stage != f.stage || e.Permanent() != f.permanent || f.is != nil && !errors.Is(e, f.is) {
		t.Errorf("stage %s, permanent %v: %v", e.Stage, e.Permanent(), e)
	}
	if !ends {
		w.stop()
	}
}

// TestPermanentLater: what is permanent at first may be temporary for somebody who had
// a tunnel before.
func TestPermanentLater(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		b := w.broker(brokerAddr, tsptest.Config{})
		c := w.config()
		c.GiveUp = client.Permanent
		w.start(c)
		await[client.Up](w)
		b.Change(func(c *tsptest.Config) { c.Refuse = map[tsptest.Step]tsp.Code{tsptest.Create: tsp.AuthFailed} })
		w.dead <- errSilent
		if failed := await[client.Failed](w); failed.RetryIn == 0 {
			t.Errorf("%+v", failed)
		}
		b.Change(func(c *tsptest.Config) { c.Refuse = nil })
		await[client.Up](w)
		w.stop()
	})
}

var errSilent = errors.New("the far end does not answer")

// TestAlwaysLoss: with Always, the loss of the tunnel is a failure as well.
func TestAlwaysLoss(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.broker(brokerAddr, tsptest.Config{})
		c := w.config()
		c.GiveUp = client.Always
		w.start(c)
		await[client.Up](w)
		w.dead <- errSilent
		if e := w.failure(); e.Stage != client.Keepalive || !errors.Is(e, errSilent) {
			t.Error(e)
		}
	})
}

// TestRepeatedRefusal: a status behind a datagram that had to be repeated may answer
// something else.
func TestRepeatedRefusal(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		b := w.broker(brokerAddr, tsptest.Config{
			Faults: tsptest.Late(3 * time.Second).At(tsptest.Hello), Refuse: refused(tsptest.Verdict, tsp.AuthFailed).Refuse, Faulty: 1,
		}, "udp")
		c := w.config()
		c.GiveUp, c.Transport = client.Permanent, client.UDP
		w.start(c)
		var e *client.Error
		if failed := await[client.Failed](w); !errors.As(failed.Err, &e) || e.Stage != client.Authenticate || e.Permanent() {
			t.Errorf("%+v", failed)
		}
		await[client.Up](w)
		if n := len(b.Sessions()); n != 2 {
			t.Errorf("%d sessions", n)
		}
		w.stop()
	})
}

// TestServers: each configured server has its turn, and what can be mended outweighs
// what cannot.
func TestServers(t *testing.T) {
	second := netip.MustParseAddr("192.0.2.2")
	tests := []struct {
		name          string
		first, second *tsptest.Config // nil: nobody there
		stage         client.Stage    // of the end; empty when there is a lease from the second
		retries       bool
	}{
		{name: "first is away", second: &tsptest.Config{}},
		{name: "first is busy", first: new(refused(tsptest.Hello, tsp.Busy)), second: &tsptest.Config{}},
		{name: "first refuses", first: new(refused(tsptest.Verdict, tsp.AuthFailed)), second: &tsptest.Config{}},
		{name: "both refuse", first: new(refused(tsptest.Verdict, tsp.AuthFailed)), second: new(refused(tsptest.Create, tsp.BadType)), stage: client.Authenticate},
		{name: "one of them may come back", first: new(refused(tsptest.Verdict, tsp.AuthFailed)), stage: client.Connect, retries: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				for addr, config := range map[netip.Addr]*tsptest.Config{brokerAddr: tt.first, second: tt.second} {
					if config != nil {
						w.broker(addr, *config)
					}
				}
				c := w.config()
				c.Servers = append(c.Servers, client.Server{Host: second.String()})
				c.GiveUp = client.Permanent
				w.start(c)
				var e *client.Error
				switch {
				case tt.retries:
					if failed := await[client.Failed](w); !errors.As(failed.Err, &e) || e.Stage != tt.stage {
						t.Errorf("%+v", failed)
					}
				case tt.stage != "":
					if e := w.failure(); e.Stage != tt.stage {
						t.Error(e)
					}
				default:
					if up := await[client.Up](w); up.Lease.Server.Host != second.String() || up.Lease.Broker.Addr() != second {
						t.Errorf("%+v", up.Lease)
					}
				}
			})
		})
	}
}
