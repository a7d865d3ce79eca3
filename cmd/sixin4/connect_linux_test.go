package main

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"sixin4/cmd/internal/control"
	"sixin4/cmd/internal/exit"
	"sixin4/tsp"
	"sixin4/tsp/tsptest"
)

func TestConnect(t *testing.T) {
	for _, transport := range []string{"tcp", "udp", "auto"} {
		t.Run(transport, func(t *testing.T) {
			b := brokerAt(t, tsptest.Config{})
			b.broker.Change(func(c *tsptest.Config) { c.Answer = b.offer })
			before := dump(t, b.topo.A)
			b.farEnd(b.host)
			p := b.connect("--transport", transport, "--router")
			want := "ready: six0 v6v4 " + b.host + " -> " + b.far + " address " + clientInside + " mtu 1480 prefix 2001:db8:1001::/48"
			if line := p.ready(); line != want {
				t.Errorf("ready line\n%s, want\n%s", line, want)
			}
			b.talk()()
			s := b.status()
			if s.Mode != "v6v4" || s.State != "up" || s.TSP == nil || s.TSP.Server != b.far || s.TSP.Lifetime != 604800 {
				t.Errorf("status %+v, %+v", s, s.TSP)
			}
			p.stop()
			sameAs(t, b.topo.A, before)
		})
	}
}

// TestConnectMovesWithAddress: a TCP connection through the tunnel goes on when
// the host gets another IPv4 address, within a new session.
func TestConnectMovesWithAddress(t *testing.T) {
	b := brokerAt(t, tsptest.Config{Users: map[string]string{"alice": "secret"}})
	b.broker.Change(func(c *tsptest.Config) { c.Answer = b.offer })
	far := b.farEnd(b.host)
	t.Setenv("SIXIN4_PASSWORD", "secret")
	p := b.connect("--user", "alice", "--transport", "tcp")
	p.ready()
	talk := b.talk()
	talk()

	far.stop()
	moved := b.moveHost()
	session, err := b.broker.AwaitAccept(t.Context(), 2)
	if err != nil || session.Request.Client.String() != moved {
		t.Fatalf("second session %+v, %v; want one from %s", session.Request, err, moved)
	}
	b.farEnd(moved)
	talk()
	p.stop()
}

func TestConnectRefused(t *testing.T) {
	tests := []struct {
		name   string
		config tsptest.Config
		args   []string
		code   int
		want   string
	}{
		{"wrong password", tsptest.Config{Users: map[string]string{"alice": "other"}}, []string{"--user", "alice"}, exit.Permission, "authenticat"},
		{"anonymous not offered", tsptest.Config{Offers: tsp.Capability{Tunnels: []tsp.Type{tsp.V6V4}, Auths: []string{"PLAIN"}}}, nil, exit.Permission, "mechanism"},
		{"only UDP tunnels", tsptest.Config{Offers: tsp.Capability{Tunnels: []tsp.Type{tsp.V6UDPV4}, Auths: []string{"ANONYMOUS"}}}, []string{"--mode", "v6v4"}, exit.Unavailable, "v6v4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := brokerAt(t, tt.config)
			before := dump(t, b.topo.A)
			if slices.Contains(tt.args, "--user") {
				t.Setenv("SIXIN4_PASSWORD", "secret")
			}
			p := b.connect(tt.args...)
			if code := p.code(); code != tt.code || !strings.Contains(p.stderr.text(), tt.want) {
				t.Errorf("exit status %d, want %d and %q:\n%s", code, tt.code, tt.want, p.stderr.text())
			}
			sameAs(t, b.topo.A, before)
		})
	}
}

// TestConnectKilled: what outlives a SIGKILL is undone by the next start with that name,
// of whatever kind, and by no rehearsal.
func TestConnectKilled(t *testing.T) {
	b := brokerAt(t, tsptest.Config{})
	b.broker.Change(func(c *tsptest.Config) { c.Answer = b.offer })
	before := dump(t, b.topo.A)
	up := []string{"up", "--remote", b.far, "--name", "six0", "--socket", b.dir + "/six0.sock"}
	for _, again := range []func() *process{
		func() *process { return b.connect() },
		func() *process { return start(t, b.topo.A, "main", up...) },
	} {
		p := b.connect("--router", "--on-up", "ip link set lo mtu 1400", "--on-down", "ip link set lo mtu 65536")
		p.ready()
		p.signal(syscall.SIGKILL)
		p.code()
		if dump(t, b.topo.A) == before {
			t.Fatal("nothing outlived the process: this test shows nothing")
		}
		rehearsal := start(t, b.topo.A, "main", append(up, "--dry-run")...)
		if rehearsal.code(); !strings.Contains(rehearsal.stdout.text(), "left: delete the unreachable route 2001:db8:1001::/48\n") {
			t.Errorf("up --dry-run does not tell:\n%s", rehearsal.stdout.text())
		}
		p = again()
		p.ready()
		if left, _ := os.ReadFile(b.dir + "/six0.state"); len(left) > 0 {
			t.Errorf("still on record:\n%s", left)
		}
		p.stop()
		sameAs(t, b.topo.A, before)
	}
}

// TestConnectAgain: the far end falls silent, a new session is made, and the
// interface is the same one with the same address all the time.
func TestConnectAgain(t *testing.T) {
	t.Parallel()
	b := brokerAt(t, tsptest.Config{})
	b.broker.Change(func(c *tsptest.Config) { c.Answer = b.offer })
	far := b.farEnd(b.host)
	p := b.connect("--transport", "tcp")
	p.ready()
	talk := b.talk()
	talk()
	index := b.index("six0")
	far.stop()
	if _, err := b.broker.AwaitAccept(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	b.farEnd(b.host)
	talk()
	if now := b.index("six0"); now != index {
		t.Errorf("interface index %d after the second session, want %d", now, index)
	}
	p.stop()
}

// TestConnectRoutes: which routes there are, and that a default route of somebody
// else is left alone.
func TestConnectRoutes(t *testing.T) {
	b := brokerAt(t, tsptest.Config{})
	b.broker.Change(func(c *tsptest.Config) { c.Answer = b.offer })
	must(t, b.topo.A.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		all := netlink.Route{LinkIndex: lo.Attrs().Index, Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}, Priority: 1024}
		return errors.Join(netlink.LinkSetUp(lo), netlink.RouteAdd(&all))
	}))
	before := dump(t, b.topo.A)
	p := b.connect()
	if code := p.code(); code != exit.Failure || !strings.Contains(p.stderr.text(), "--no-route") {
		t.Errorf("with a default route: exit status %d, want %d and the advice --no-route:\n%s", code, exit.Failure, p.stderr.text())
	}
	sameAs(t, b.topo.A, before)

	b.farEnd(b.host)
	p = b.connect("--no-route")
	p.ready()
	b.talk()()
	p.stop()
	sameAs(t, b.topo.A, before)
}

// TestConnectOnce: nothing is changed, and no privilege is needed.
func TestConnectOnce(t *testing.T) {
	b := brokerAt(t, tsptest.Config{})
	b.broker.Change(func(c *tsptest.Config) { c.Answer = b.offer })
	before := dump(t, b.topo.A)
	p := start(t, b.topo.A, "lose-both", "connect", "--server", b.far, "--once", "--name", "six0")
	want := "ready: six0 v6v4 " + b.host + " -> " + b.far + " address " + clientInside + " mtu 1480"
	if line := p.ready(); line != want {
		t.Errorf("line\n%s, want\n%s", line, want)
	}
	if code := p.code(); code != exit.OK {
		t.Errorf("exit status %d, want 0", code)
	}
	sameAs(t, b.topo.A, before)
	b.broker.Change(func(c *tsptest.Config) { c.Refuse = map[tsptest.Step]tsp.Code{tsptest.Create: tsp.NoTunnels} })
	p = start(t, b.topo.A, "lose-both", "connect", "--server", b.far, "--once")
	if code := p.code(); code != exit.TryAgain || !strings.Contains(p.stderr.text(), "301") {
		t.Errorf("refused: exit status %d, want %d:\n%s", code, exit.TryAgain, p.stderr.text())
	}
}

// TestConnectHooks: commands get the values of the tunnel, and what a broker says
// is nothing to a shell.
func TestConnectHooks(t *testing.T) {
	b := brokerAt(t, tsptest.Config{})
	b.broker.Change(func(c *tsptest.Config) {
		c.Answer = func(r *tsp.Request, from netip.Addr) (*tsp.Tunnel, error) {
			o, err := b.offer(r, from)
			o.ClientName = "alice.example.net"
			return o, err
		}
	})
	out := b.dir + "/out"
	p := b.connect("--router", "--on-up", "env | grep ^TSP_ | sort >"+out,
		"--on-down", "echo $TSP_OPERATION >>"+out+"; grep six0 /proc/net/dev >>"+out)
	p.ready()
	p.stop()
	text, err := os.ReadFile(out)
	must(t, err)
	for _, want := range []string{
		"TSP_OPERATION=TSP_TUNNEL_CREATION\n", "TSP_TUNNEL_INTERFACE=six0\n", "TSP_HOST_TYPE=router\n",
		"TSP_CLIENT_ADDRESS_IPV6=2001:0db8:1000:0000:0000:0000:0000:0002\n", "TSP_PREFIX=2001:0db8:1001\n",
		"TSP_CLIENT_DNS_NAME=alice.example.net\n", "TSP_TUNNEL_TEARDOWN\n",
		"six0: ", // the interface is there still when it is taken down
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

// TestConnectProxy: the tunnel ends at another host, which a command sets up. Here
// nothing is carried, and no privilege is needed.
func TestConnectProxy(t *testing.T) {
	b := brokerAt(t, tsptest.Config{})
	b.broker.Change(func(c *tsptest.Config) {
		c.Answer = func(r *tsp.Request, from netip.Addr) (*tsp.Tunnel, error) { return b.offer(r, r.Client) }
	})
	before := dump(t, b.topo.A)
	out := b.dir + "/out"
	p := start(t, b.topo.A, "lose-both", "connect", "--server", b.far, "--name", "six0", "--socket", b.dir+"/six0.sock",
		"--proxy", "--local", "192.0.2.77", "--on-up", "echo $TSP_CLIENT_ADDRESS_IPV4 >"+out)
	want := "ready: six0 v6v4 192.0.2.77 -> " + b.far + " address " + clientInside + " mtu 1480"
	if line := p.ready(); line != want {
		t.Errorf("line\n%s, want\n%s", line, want)
	}
	if text, err := os.ReadFile(out); err != nil || string(text) != "192.0.2.77\n" {
		t.Errorf("the command was told %q, %v", text, err)
	}
	if r := b.broker.Sessions()[0].Request; !r.Proxy || r.Client.String() != "192.0.2.77" || r.Keepalive != 0 {
		t.Errorf("request %+v", r)
	}
	if s := b.status(); s.State != "up" || s.Local != "192.0.2.77" {
		t.Errorf("status %+v", s)
	}
	p.stop()
	sameAs(t, b.topo.A, before)
}

// TestConnectDownFails: a command that cannot take down is told of, and is run again
// by the next start, once.
func TestConnectDownFails(t *testing.T) {
	b := brokerAt(t, tsptest.Config{})
	b.broker.Change(func(c *tsptest.Config) { c.Answer = b.offer })
	out := b.dir + "/out"
	p := b.connect("--on-down", "echo down >>"+out+"; exit 3")
	p.ready()
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != exit.Failure || !strings.Contains(p.stderr.text(), "exit status 3") {
		t.Errorf("exit status %d, want %d and the reason:\n%s", code, exit.Failure, p.stderr.text())
	}
	for range 2 {
		p = b.connect()
		p.ready()
		p.stop()
	}
	if text, err := os.ReadFile(out); err != nil || string(text) != "down\ndown\n" {
		t.Errorf("%q, %v; want it run twice", text, err)
	}
}

// TestConnectSetupFailsLater: a second lease with another address cannot be set up;
// the first one is set up again, and nothing of the second is left.
func TestConnectSetupFailsLater(t *testing.T) {
	b := brokerAt(t, tsptest.Config{Users: map[string]string{"alice": "secret"}})
	second := netip.MustParseAddr("2001:db8:1000::3")
	b.broker.Change(func(c *tsptest.Config) { c.Answer = b.offer })
	t.Setenv("SIXIN4_PASSWORD", "secret")
	out := b.dir + "/out"
	p := b.connect("--user", "alice", "--mode", "v6v4", "--on-down", "echo down $TSP_CLIENT_ADDRESS_IPV6 >>"+out,
		"--on-up", "echo up $TSP_CLIENT_ADDRESS_IPV6 >>"+out+"; case $TSP_CLIENT_ADDRESS_IPV6 in *3) exit 1;; esac")
	p.ready()
	before := dump(t, b.topo.A)
	b.broker.Change(func(c *tsptest.Config) {
		c.Answer = func(r *tsp.Request, from netip.Addr) (*tsp.Tunnel, error) {
			o, err := b.offer(r, from)
			o.Client6 = second
			return o, err
		}
	})
	// The far end is silent, so there will be another session.
	p.await(p.stderr, "no tunnel, will try again")
	sameAs(t, b.topo.A, before)
	p.stop()
	const full = "2001:0db8:1000:0000:0000:0000:0000:000"
	want := "up " + full + "2\ndown " + full + "2\nup " + full + "3\ndown " + full + "3\nup " + full + "2\ndown " + full + "2\n"
	if text, err := os.ReadFile(out); err != nil || string(text) != want {
		t.Errorf("the commands saw\n%s, %v, want\n%s", text, err, want)
	}
}

// TestOwnOutage: nothing comes through a new tunnel while this host's link is down. Protocol 41
// is not blamed for that, though the broker has UDP as well, and it is what is used afterwards.
func TestOwnOutage(t *testing.T) {
	t.Parallel()
	b := brokerAt(t, tsptest.Config{})
	b.broker.Change(func(c *tsptest.Config) { c.Answer = b.offer })
	p := b.connect() // there is nobody at the far end yet
	p.await(p.stderr, "tunnel is up")
	must(t, b.topo.A.SetDown(b.topo.LinkA))
	p.await(p.stderr, "not known yet")
	b.farEnd(b.host)
	must(t, b.topo.A.SetUp(b.topo.LinkA))
	b.talk()()
	s := askUntil(t, b.dir+"/six0.sock", func(s control.Tunnel) bool { return s.State == "up" })
	if s.Mode != "v6v4" {
		t.Errorf("status: %s because %q", s.Mode, s.ModeReason)
	}
	p.stop()
	if sessions := len(b.broker.Sessions()); sessions != 1 {
		t.Errorf("%d sessions, want 1", sessions)
	}
}
