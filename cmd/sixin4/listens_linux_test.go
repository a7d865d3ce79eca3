package main

import (
	"errors"
	"maps"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"sixin4/tsp/broker/store/sqlite"
	"sixin4/tun/nstest"
)

// secondEnd is another address of the broker behind a NAT.
const secondEnd = "198.51.100.3"

// listens has the broker listen at another port and at another address too.
func (n *natted) listens(args ...string) {
	n.t.Helper()
	n.begin(append(args, "listen", n.far+":443", "listen", secondEnd, "keepalive", "30s")...)
}

// twoListens is a broker with three addresses to listen at behind a NAT that lets in only
// what comes from where a client sends to, and another client behind that one's NAT.
func twoListens(t *testing.T, args ...string) (n *natted, inner *nstest.NS) {
	n = behindNAT(t)
	n.process.stop()
	must(t, n.topo.B.AddAddr(n.topo.LinkB, secondEnd+"/24"))
	n.listens(args...)
	inner = nstest.Open(t)
	must(t, nstest.Link(inner, "up", n.topo.A, "down"))
	must(t, inner.AddAddr("up", "10.0.0.2/24"))
	must(t, n.topo.A.AddAddr("down", "10.0.0.1/24"))
	must(t, inner.AddRoute("0.0.0.0/0", "10.0.0.1"))
	must(t, n.topo.A.Sysctl("net/ipv4/ip_forward", "1"))
	must(t, n.topo.A.AddNAT(nstest.NAT{Link: n.topo.LinkA}))
	must(t, n.nat.AddNAT(nstest.NAT{Link: nstest.LinkRB, Random: true}))
	return n, inner
}

// at starts a client in a namespace that asks at one of the broker's addresses.
func (n *natted) at(ns *nstest.NS, server string, args ...string) *process {
	n.t.Helper()
	p := start(n.t, ns, "main", append([]string{
		"connect", "--server", server, "--name", "six0", "--socket", n.t.TempDir() + "/six0.sock",
		"--mode", "v6udpv4", "--keepalive", "30s",
	}, args...)...)
	host, _, _ := strings.Cut(server, ":")
	if line := p.ready(); !strings.Contains(line, " -> "+host+" ") {
		n.t.Errorf("line %q, want a tunnel to %s", line, host)
	}
	return p
}

// ends are the broker's ends of the tunnels that are up, by their addresses inside.
func (n *natted) ends() map[netip.Addr]string {
	n.t.Helper()
	s, err := sqlite.Open(n.t.Context(), sqlite.Config{Path: n.dir + "/tspd.db"})
	must(n.t, err)
	live, err := s.Live(n.t.Context(), "")
	must(n.t, errors.Join(err, s.Close()))
	ends := make(map[netip.Addr]string)
	for _, l := range live {
		ends[l.Client6] = l.Local.String()
	}
	return ends
}

// TestListens: a tunnel in UDP is at the address and port of the broker that its client asks
// at, when the NAT gives the client another port and when the broker is killed too.
func TestListens(t *testing.T) {
	for _, wire := range []string{"auto", "raw"} { // with the kernel's help and without
		t.Run(wire, func(t *testing.T) {
			t.Parallel()
			testListens(t, "wire", wire)
		})
	}
}

func testListens(t *testing.T, args ...string) {
	n, inner := twoListens(t, args...)
	port, addr := n.at(n.topo.A, n.far+":443"), n.at(inner, secondEnd)
	l := n.echoes()
	byPort, byAddr := n.wordOver(n.topo.A, l), n.wordOver(inner, l)
	both := func() { byPort(); byAddr() }
	both()
	want := map[netip.Addr]string{
		netip.MustParseAddr(clientInside):        n.far + ":443",
		netip.MustParseAddr(clientInside).Next(): secondEnd + ":3653",
	}
	n.endsAre(want)
	must(t, n.nat.FlushNAT())
	both()
	if moved := strings.Count(n.process.stderr.text(), "tunnel has moved with its client"); moved != 2 {
		t.Errorf("%d tunnels have moved, want both", moved)
	}
	n.process.signal(syscall.SIGKILL)
	n.process.code()
	n.listens(args...)
	both()
	n.endsAre(want)
	for _, p := range []*process{port, addr} {
		if sessions := strings.Count(p.stderr.text(), "tunnel is up"); sessions != 1 {
			t.Errorf("%d sessions, want 1:\n%s", sessions, p.stderr.text())
		}
	}
	port.stop()
	addr.stop()
	n.process.stop()
}

// endsAre wants tunnels to be up, at these ends.
func (n *natted) endsAre(want map[netip.Addr]string) {
	n.t.Helper()
	if got := n.ends(); !maps.Equal(got, want) {
		n.t.Errorf("the tunnels end at %v, want %v", got, want)
	}
}

// TestOtherListen: a user who comes by another address of the broker has the same tunnel
// there; when the broker does not listen there any more, the tunnel is ended, and says why.
func TestOtherListen(t *testing.T) {
	t.Parallel()
	n, _ := twoListens(t)
	n.addUser("alice", "secret", 0)
	secret := n.dir + "/secret"
	must(t, os.WriteFile(secret, []byte("secret"), 0o600))
	l := n.echoes()
	for _, server := range []string{n.far, n.far + ":443", secondEnd} {
		p := n.at(n.topo.A, server, "--user", "alice", "--password-file", secret)
		n.wordOver(n.topo.A, l)()
		end := server
		if !strings.Contains(end, ":") {
			end += ":3653"
		}
		n.endsAre(map[netip.Addr]string{netip.MustParseAddr(clientInside): end})
		p.stop()
	}
	n.process.signal(syscall.SIGKILL)
	n.process.code()
	n.begin("listen", n.far+":443")
	n.process.await(n.process.stderr, "its client sends to "+secondEnd+":3653, where this broker does not listen any more")
	n.endsAre(nil)
	n.process.stop()
}
