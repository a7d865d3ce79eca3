package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sixin4/tun/nstest"
)

// natted is a host behind a NAT, and a real broker on the other side.
type natted struct {
	*realBroker
	nat *nstest.NS // the outer one where there are two
}

// behindNAT makes a host, a router that is going to be a NAT, and a broker behind it.
func behindNAT(t *testing.T, args ...string) *natted {
	t.Helper()
	nstest.Need(t)
	topo, err := nstest.Routed()
	must(t, err)
	t.Cleanup(func() { must(t, topo.Close()) })
	must(t, topo.A.Sysctl("net/ipv6/conf/"+topo.LinkA+"/disable_ipv6", "1"))
	must(t, topo.B.Sysctl("net/ipv6/conf/"+topo.LinkB+"/disable_ipv6", "1"))
	n := &natted{nat: topo.R, realBroker: &realBroker{brokered: &brokered{
		t: t, topo: topo, dir: t.TempDir(), host: topo.AddrA.String(), far: topo.AddrB.String(),
	}}}
	n.begin(args...)
	return n
}

// up returns a tunnel that is up, and its line.
func (n *natted) up(args ...string) (*process, string) {
	p := n.connect(args...)
	return p, p.ready()
}

// upWithin is how long a tunnel may take to come up behind a NAT.
const upWithin = 5 * time.Second

// TestNAT: a tunnel comes up behind every kind of NAT, and TCP through it survives that
// the NAT forgets all it knows.
func TestNAT(t *testing.T) {
	for _, tt := range []struct {
		name string
		nat  nstest.NAT
	}{
		{"port-restricted cone: ports are kept", nstest.NAT{}},
		{"symmetric: ports are random", nstest.NAT{Random: true}},
		{"address-restricted cone", nstest.NAT{Inside: netip.MustParseAddr("192.0.2.1"), Only: netip.MustParseAddr("198.51.100.2")}},
		{"full cone: everybody gets in", nstest.NAT{Inside: netip.MustParseAddr("192.0.2.1")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := behindNAT(t, "keepalive", "3s")
			fast := fastest(t, n.topo.A)
			tt.nat.Link = nstest.LinkRB
			must(t, n.nat.AddNAT(tt.nat))
			begun := time.Now()
			p, line := n.up()
			if took := time.Since(begun); took > upWithin {
				t.Errorf("up after %v, want at most %v", took, upWithin)
			}
			want := fmt.Sprintf("ready: six0 v6udpv4 %s -> %s address %s mtu 1472", n.host, n.far, clientInside)
			if line != want {
				t.Errorf("line\n%s, want\n%s", line, want)
			}
			talk := n.talk()
			talk()
			for range 3 {
				must(t, n.nat.FlushNAT())
				talk()
			}
			if s := n.status(); s.Mode != "v6udpv4" || s.Wire != "udp" && s.Wire != fast || !strings.Contains(s.ModeReason, "NAT") {
				t.Errorf("status: mode %s because %q, wire %s", s.Mode, s.ModeReason, s.Wire)
			}
			if sessions := strings.Count(p.stderr.text(), "tunnel is up"); sessions != 1 {
				t.Errorf("%d sessions, want 1:\n%s", sessions, p.stderr.text())
			}
			moved := strings.Contains(n.process.stderr.text(), "tunnel has moved with its client")
			if moved != tt.nat.Random {
				t.Errorf("the tunnel has moved: %t, want %t", moved, tt.nat.Random)
			}
			p.stop()
			n.process.stop()
		})
	}
}

// TestUDPMode: IPv6 in UDP where nothing asks for it, between two hosts on one link.
func TestUDPMode(t *testing.T) {
	t.Parallel()
	b := newRealBroker(t)
	before, beforeB := dump(t, b.topo.A), dump(t, b.topo.B)
	b.begin()
	p := b.connect("--mode", "v6udpv4")
	want := "ready: six0 v6udpv4 " + b.host + " -> " + b.far + " address " + clientInside + " mtu 1472"
	if line := p.ready(); line != want {
		t.Errorf("line\n%s, want\n%s", line, want)
	}
	talk := b.talk()
	talk()
	p.stop()
	b.process.stop()
	sameAs(t, b.topo.A, before)
	sameAs(t, b.topo.B, beforeB)
}

// longOver sends a megabyte there and back.
func (n *natted) longOver(from *nstest.NS) {
	n.t.Helper()
	n.passes(n.brokered.dial(from, "["+brokerInside+"]:7"), bytes.Repeat([]byte("all sizes"), 1<<17))
}
