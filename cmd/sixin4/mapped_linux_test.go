package main

import (
	"fmt"
	"strings"
	"testing"

	"sixin4/cmd/internal/exit"
	"sixin4/tun/nstest"
)

// TestMappedPeers: hosts find each other by a rule, without being listed.
func TestMappedPeers(t *testing.T) {
	for _, tt := range []struct {
		name               string
		peerA, peerB       string
		insideA, insideB   string
		routes             string
		remote, wantPrefix string
	}{
		{"6to4", "6to4", "6to4", "2002:c000:201::1/48", "2002:c000:202::1/48", "2002::/16", "6to4", "2002::/16"},
		{"6to4 with a gateway", "6to4=192.0.2.2", "6to4", "2002:c000:201::1/48", "2002:c000:202::1/48", "::/0", "6to4", "::/0"},
		{"6rd", "6rd=2001:db8::/32,0,192.0.2.9", "6rd=2001:db8::/32,0,192.0.2.9", "2001:db8:c000:201::1/64", "2001:db8:c000:202::1/64", "2001:db8::/32", "6rd", "::/0"},
		{"isatap", "isatap=192.0.2.9", "isatap=192.0.2.9", "2001:db8::200:5efe:c000:201/64", "2001:db8::200:5efe:c000:202/64", "2001:db8:1::/48", "isatap", "::/0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			topo := pair(t)
			must(t, topo.A.AddRoute("0.0.0.0/0", "192.0.2.2")) // by which 6to4 finds its address
			must(t, topo.B.AddRoute("0.0.0.0/0", "192.0.2.1"))
			socket := socketIn(t, "six0")
			a := start(t, topo.A, "main", "up", "--name", "six0", "--socket", socket, "--peer", tt.peerA,
				"--address", tt.insideA, "--route", tt.routes, "--wire", "raw")
			b := start(t, topo.B, "main", "up", "--name", "six1", "--socket", socketIn(t, "six1"), "--peer", tt.peerB,
				"--address", tt.insideB, "--route", tt.routes, "--wire", "raw")
			a.ready()
			b.ready()
			to, _, _ := strings.Cut(tt.insideB, "/")
			s := newStream(t, topo.A, topo.B, to)
			s.goesOn()
			s.end()
			addsUp(t, topo.A, "six0", socket)
			peers := ask(t, socket).Peers
			if len(peers) != 1 || peers[0].Remote != tt.remote || !strings.Contains(strings.Join(peers[0].Prefixes, " "), tt.wantPrefix) || peers[0].Rx.Packets == 0 {
				t.Errorf("peers %+v", peers)
			}
			a.stop()
			b.stop()
		})
	}
}

// TestMappedWithoutDefault: what a rule finds may be near, so the tunnel waits for no way
// to anywhere.
func TestMappedWithoutDefault(t *testing.T) {
	topo := pair(t)
	var ends []*process
	for i, e := range []struct {
		ns           *nstest.NS
		local, inner string
	}{{topo.A, "192.0.2.1", "2002:c000:201::1/48"}, {topo.B, "192.0.2.2", "2002:c000:202::1/48"}} {
		name := fmt.Sprintf("six%d", i)
		p := start(t, e.ns, "main", "up", "--name", name, "--socket", socketIn(t, name), "--peer", "6to4",
			"--local", e.local, "--address", e.inner, "--route", "2002::/16", "--wire", "raw")
		p.ready()
		ends = append(ends, p)
	}
	s := newStream(t, topo.A, topo.B, "2002:c000:202::1")
	s.goesOn()
	s.end()
	for _, p := range ends {
		p.stop()
	}
}

// TestMappedRefused: rules that this host's address does not go with.
func TestMappedRefused(t *testing.T) {
	topo := pair(t)
	must(t, topo.A.AddAddr(topo.LinkA, "10.0.0.1/24"))
	for _, tt := range []struct {
		name, want string
		args       []string
	}{
		{"6to4 at a private address", "--peer 6to4: 6to4: local address 10.0.0.1 is private; 6to4 needs a public one",
			[]string{"--peer", "6to4", "--local", "10.0.0.1", "--address", "2002:a00:1::1/48"}},
		{"the relay is here", "--peer 6rd=2001:db8::/32,0,192.0.2.1: is an address of this host; the far end is another host (if both ends are to be here, give --local)",
			[]string{"--peer", "6rd=2001:db8::/32,0,192.0.2.1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := start(t, topo.A, "main", append([]string{"up", "--socket", socketIn(t, "s")}, tt.args...)...)
			if code := p.code(); code != exit.Usage || !strings.Contains(p.stderr.text(), tt.want) {
				t.Errorf("exit status %d, want %d and %q:\n%s", code, exit.Usage, tt.want, p.stderr.text())
			}
		})
	}
}
