package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sixin4/cmd/internal/control"
	"sixin4/cmd/internal/exit"
	"sixin4/tun/nstest"
)

// TestPeerThroughAnotherTunnel is allowed, and TestPeerThroughItself is not: the
// route that comes while the tunnel runs is said in the log and in the status.
func TestPeerThroughAnotherTunnel(t *testing.T) {
	topo := pair(t)
	a := start(t, topo.A, "main", "up", "--remote", "192.0.2.2", "--name", "six0", "--socket", socketIn(t, "a"))
	a.ready()
	must(t, topo.A.AddRoute("203.0.113.0/24", "six0"))
	b := start(t, topo.A, "main", "up", "--remote", "203.0.113.1", "--local", "192.0.2.1", "--name", "six1", "--socket", socketIn(t, "b"))
	if got, want := b.ready(), "ready: six1 192.0.2.1 -> 203.0.113.1 mtu 1460"; got != want {
		t.Errorf("ready line %q, want %q", got, want)
	}
}

func TestPeerThroughItself(t *testing.T) {
	topo := pair(t)
	socket := socketIn(t, "six0")
	p := start(t, topo.A, "main", "up", "--remote", "192.0.2.2", "--name", "six0", "--socket", socket)
	p.ready()
	must(t, topo.A.AddRoute("192.0.2.2/32", "six0"))
	p.await(p.stderr, "peer cannot be reached")
	s := ask(t, socket)
	want := "peer 192.0.2.2 is routed into its own tunnel six0; it needs a route over another interface (ip route get 192.0.2.2 shows it)"
	if s.State != "down" || s.Reason != want {
		t.Errorf("status: %s, %q; want down, %q", s.State, s.Reason, want)
	}
	must(t, topo.A.DelRoute("192.0.2.2/32", "six0"))
	p.await(p.stderr, "peer can be reached again")
	if s := ask(t, socket); s.State != "up" || s.Reason != "" {
		t.Errorf("status: %s, %q; want up", s.State, s.Reason)
	}
}

// TestLinkGoesAndComes takes the IPv4 link away under a running tunnel.
func TestLinkGoesAndComes(t *testing.T) {
	topo := pair(t)
	socket := socketIn(t, "six0")
	p := start(t, topo.A, "main", "up", "--remote", "192.0.2.2", "--name", "six0", "--socket", socket)
	p.ready()
	must(t, topo.A.SetDown(topo.LinkA))
	p.await(p.stderr, "peer cannot be reached")
	if s := ask(t, socket); s.State != "down" || !strings.Contains(s.Reason, "network is unreachable") {
		t.Errorf("status: %s, %q; want down, network is unreachable", s.State, s.Reason)
	}
	must(t, topo.A.SetUp(topo.LinkA))
	p.await(p.stderr, "peer can be reached again")
	p.stop()
}

// TestLinkIsAwayAtTheStart needs --local. The tunnel is not said to be up, on standard output
// or to programs, before there is a way to the peer, by which it then goes.
func TestLinkIsAwayAtTheStart(t *testing.T) {
	topo := pair(t)
	must(t, topo.A.SetMTU(topo.LinkA, 1400))
	file, socket := filepath.Join(t.TempDir(), "told"), socketIn(t, "s")
	p := start(t, topo.A, "main", "up", "--remote", "198.51.100.1", "--local", "192.0.2.1", "--name", "six0", "--socket", socket,
		"--on-up", `sh -c 'echo up >>"`+file+`"'`, "--on-down", `sh -c 'echo down >>"`+file+`"'`)
	p.await(p.stderr, "network is unreachable")
	p.await(p.stderr, "the ready line comes when there is one")
	if s := ask(t, socket); s.State != "down" {
		t.Errorf("status: %s; want down", s.State)
	}
	told := func(want string) {
		t.Helper()
		nstest.Eventually(t, patience, "the programs have written "+want, func() bool {
			text, err := os.ReadFile(file)
			return err == nil && string(text) == want
		})
	}
	told("down\n")
	if got := p.stdout.text(); got != "" {
		t.Errorf("ready without a way to the peer: %q", got)
	}
	must(t, topo.A.AddRoute("198.51.100.1/32", "192.0.2.2"))
	if got, want := p.ready(), "ready: six0 192.0.2.1 -> 198.51.100.1 mtu 1380"; got != want {
		t.Errorf("ready line %q, want %q", got, want)
	}
	told("down\nup\n")
	p.stop()
	told("down\nup\ndown\n")
}

// TestEndsWithoutAWay: who waits for a way to the peer ends when told to.
func TestEndsWithoutAWay(t *testing.T) {
	topo := pair(t)
	before := dump(t, topo.A)
	p := start(t, topo.A, "main", "up", "--remote", "198.51.100.1", "--local", "192.0.2.1", "--name", "six0", "--socket", socketIn(t, "s"))
	p.await(p.stderr, "the ready line comes when there is one")
	p.stop()
	if got := p.stdout.text(); got != "" {
		t.Errorf("standard output %q, want nothing", got)
	}
	sameAs(t, topo.A, before)
}

// TestInterfaceGoesAndComes takes the tunnel's own interface down, with which the
// kernel forgets its addresses and routes, and then one address alone.
func TestInterfaceGoesAndComes(t *testing.T) {
	topo := pair(t)
	socket := socketIn(t, "six0")
	p := start(t, topo.A, "main", "up", "--remote", "192.0.2.2", "--address", "2001:db8::1/64", "--route", "2001:db8:5::/48",
		"--name", "six0", "--socket", socket)
	p.ready()
	before := dump(t, topo.A)
	must(t, topo.A.SetDown("six0"))
	p.await(p.stderr, "the interface is down (ip link set six0 up)")
	if s := ask(t, socket); s.State != "down" {
		t.Errorf("status: %s, %q; want down", s.State, s.Reason)
	}
	must(t, topo.A.SetUp("six0"))
	p.await(p.stderr, "peer can be reached again")
	sameAs(t, topo.A, before)
	must(t, topo.A.DelAddr("six0", "2001:db8::1/64"))
	p.await(p.stderr, "restored what the interface had lost")
	sameAs(t, topo.A, before)
}

// TestLocalAddressGoes: a route to the peer is not enough.
func TestLocalAddressGoes(t *testing.T) {
	topo := pair(t)
	socket := socketIn(t, "six0")
	p := start(t, topo.A, "main", "up", "--local", "192.0.2.1", "--remote", "192.0.2.2", "--name", "six0", "--socket", socket)
	p.ready()
	must(t, topo.A.AddAddr(topo.LinkA, "192.0.2.9/24"))
	must(t, topo.A.DelAddr(topo.LinkA, "192.0.2.1/24"))
	p.await(p.stderr, "192.0.2.1 is no address of this host any more")
	must(t, topo.A.AddAddr(topo.LinkA, "192.0.2.1/24"))
	p.await(p.stderr, "peer can be reached again")
}

func TestMTU(t *testing.T) {
	for _, tt := range []struct {
		name string
		link int
		args []string
		want int
	}{
		{"follows the link", 1400, nil, 1380},
		{"never below 1280", 1290, nil, 1280},
		{"fixed", 1500, []string{"--mtu", "1300"}, 1300},
		{"fixed, beyond the link", 1400, []string{"--mtu", "1480"}, 1480},
	} {
		t.Run(tt.name, func(t *testing.T) {
			topo := pair(t)
			must(t, topo.A.SetMTU(topo.LinkA, tt.link))
			args := append([]string{"up", "--remote", "192.0.2.2", "--name", "six0", "--socket", socketIn(t, "s")}, tt.args...)
			p := start(t, topo.A, "main", args...)
			if got, want := p.ready(), fmt.Sprintf("ready: six0 192.0.2.1 -> 192.0.2.2 mtu %d", tt.want); got != want {
				t.Errorf("ready line %q, want %q", got, want)
			}
			if got := dump(t, topo.A); !strings.Contains(got, fmt.Sprintf("six0 tuntap mtu %d ", tt.want)) {
				t.Errorf("the interface has another MTU than %d:\n%s", tt.want, got)
			}
		})
	}
}

// TestMTUFollowsTheLink changes the link under a running tunnel.
func TestMTUFollowsTheLink(t *testing.T) {
	topo := pair(t)
	before := dump(t, topo.A)
	socket := socketIn(t, "six0")
	p := start(t, topo.A, "main", "up", "--remote", "192.0.2.2", "--name", "six0", "--socket", socket)
	p.ready()
	for _, step := range []struct{ link, want int }{{1400, 1380}, {1350, 1330}, {1500, 1480}} {
		must(t, topo.A.SetMTU(topo.LinkA, step.link))
		p.await(p.stderr, fmt.Sprintf("the MTU follows the way to the peer\" name=six0 mtu=%d", step.want))
		if got := dump(t, topo.A); !strings.Contains(got, fmt.Sprintf("six0 tuntap mtu %d ", step.want)) {
			t.Errorf("link %d: the interface has another MTU than %d:\n%s", step.link, step.want, got)
		}
		if s := ask(t, socket); s.MTU != step.want || s.Peers[0].MTU != step.want {
			t.Errorf("link %d: status says %d and %d, want %d", step.link, s.MTU, s.Peers[0].MTU, step.want)
		}
	}
	p.stop()
	sameAs(t, topo.A, before)
}

// TestLinkBecomesTooSmall: packets of 1280 bytes then go in fragments, and whole
// again when the link has grown.
func TestLinkBecomesTooSmall(t *testing.T) {
	topo := pair(t)
	a := start(t, topo.A, "main", "up", "--remote", "192.0.2.2", "--address", "2001:db8::1/64", "--socket", socketIn(t, "a"))
	b := start(t, topo.B, "main", "up", "--remote", "192.0.2.1", "--address", "2001:db8::2/64", "--socket", socketIn(t, "b"))
	a.ready()
	b.ready()
	for _, step := range []struct{ link, mtu, payload int }{{1290, 1280, 1232}, {1500, 1480, 1432}} {
		must(t, topo.A.SetMTU(topo.LinkA, step.link))
		must(t, topo.B.SetMTU(topo.LinkB, step.link))
		for _, p := range []*process{a, b} {
			p.await(p.stderr, fmt.Sprintf("mtu=%d link-mtu=%d", step.mtu, step.link))
		}
		echo(t, topo, step.payload)
	}
}

// TestDeviceTakenAway: somebody deletes the interface of a running tunnel.
func TestDeviceTakenAway(t *testing.T) {
	topo := pair(t)
	before := dump(t, topo.A)
	p := start(t, topo.A, "main", "up", "--remote", "192.0.2.2", "--address", "2001:db8::2/64", "--name", "six0", "--socket", socketIn(t, "s"))
	p.ready()
	must(t, topo.A.DelLink("six0"))
	if code := p.code(); code != exit.Failure {
		t.Errorf("exit status %d, want %d", code, exit.Failure)
	}
	if got := p.stderr.text(); !strings.Contains(got, "\nsixin4: engine: ") {
		t.Errorf("standard error %q, want a line of the engine", got)
	}
	sameAs(t, topo.A, before)
}

// TestTraffic sends datagrams there and back, and finds them in the counters.
func TestTraffic(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		size int
	}{
		{"host", nil, 1000},
		{"two queues", []string{"--queues", "2", "--wire", "packet"}, 1000},
		{"packet wire", []string{"--wire", "packet"}, 1000},
		{"raw wire", []string{"--wire", "raw"}, 1000},
		{"inherited", []string{"--ttl", "inherit", "--tos", "inherit", "--wire", "packet"}, 1000},
		{"inherited, by the kernel", []string{"--ttl", "inherit", "--tos", "inherit"}, 1000},
		{"outer fragments", []string{"--mtu", "1480"}, 1432},
	} {
		t.Run(tt.name, func(t *testing.T) {
			topo := pair(t)
			if tt.name == "outer fragments" {
				must(t, topo.A.SetMTU(topo.LinkA, 1400))
				must(t, topo.B.SetMTU(topo.LinkB, 1400))
			}
			socket := socketIn(t, "a")
			a := start(t, topo.A, "main", append([]string{"up"}, append(tt.args, "--remote", "192.0.2.2", "--address", "2001:db8::1/64", "--socket", socket)...)...)
			b := start(t, topo.B, "main", append([]string{"up"}, append(tt.args, "--remote", "192.0.2.1", "--address", "2001:db8::2/64", "--socket", socketIn(t, "b"))...)...)
			a.ready()
			b.ready()
			echo(t, topo, tt.size)
			s := askUntil(t, socket, func(s control.Tunnel) bool {
				least := uint64(tt.size + 48)
				return s.Tx.Bytes >= least && s.Rx.Bytes >= least && s.Peers[0].Tx == s.Tx && s.Peers[0].Rx == s.Rx
			})
			if time.Since(s.Peers[0].LastHeard) > patience {
				t.Errorf("peer last heard %v, want now", s.Peers[0].LastHeard)
			}
			a.stop()
			b.stop()
		})
	}
}

// askUntil asks until good is true: packets arrive before they are counted.
func askUntil(t *testing.T, socket string, good func(control.Tunnel) bool) control.Tunnel {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		s := ask(t, socket)
		if good(s) {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("counters stay at %+v", s)
		}
	}
}

// echo sends size bytes from A to 2001:db8::2 in B, and back.
func echo(t *testing.T, topo *nstest.Topology, size int) {
	t.Helper()
	var server *net.UDPConn
	var client net.Conn
	must(t, topo.B.Do(func() (err error) {
		server, err = net.ListenUDP("udp6", &net.UDPAddr{IP: net.ParseIP("2001:db8::2"), Port: 7})
		return err
	}))
	defer server.Close()
	must(t, topo.A.Do(func() (err error) {
		client, err = net.Dial("udp6", "[2001:db8::2]:7")
		return err
	}))
	defer client.Close()
	for _, c := range []net.Conn{server, client} {
		must(t, c.SetDeadline(time.Now().Add(patience)))
	}
	if _, err := client.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2000)
	n, from, err := server.ReadFrom(buf)
	must(t, err)
	if _, err := server.WriteTo(buf[:n], from); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(buf); n != size || err != nil {
		t.Fatalf("read %d bytes, %v; want %d", n, err, size)
	}
}
