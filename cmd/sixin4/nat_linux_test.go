package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"time"

	"net/netip"
	"strings"
	"testing"

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

// TestNAT: a tunnel comes up behind every kind of NAT, and TCP through it survives that
// the NAT forgets all it knows.
func TestNAT(t *testing.T) {
	for _, tt := range []struct {
		name string
		nat  nstest.NAT
	}{
		{"ports are kept", nstest.NAT{}},
		{"ports are random", nstest.NAT{Random: true}},
		{"everybody gets in", nstest.NAT{Inside: netip.MustParseAddr("192.0.2.1")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := behindNAT(t, "keepalive", "3s")
			tt.nat.Link = nstest.LinkRB
			must(t, n.nat.AddNAT(tt.nat))
			p, line := n.up()
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
			if s := n.status(); s.Mode != "v6udpv4" || s.Wire != "udp" || !strings.Contains(s.ModeReason, "NAT") {
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

// echoes listens at the broker's end of the tunnels and says everything again.
func (n *natted) echoes() net.Listener {
	n.t.Helper()
	var l net.Listener
	must(n.t, n.topo.B.Do(func() (err error) {
		l, err = net.Listen("tcp6", "["+brokerInside+"]:7")
		return err
	}))
	n.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c) }() // until the other side goes
		}
	}()
	return l
}

// wordOver connects from a host, and returns what sends a word and waits for it.
func (n *natted) wordOver(from *nstest.NS, l net.Listener) func() {
	n.t.Helper()
	c := n.dial(from, l.Addr().String())
	return func() { n.passes(c, []byte("word")) }
}

func (n *natted) dial(from *nstest.NS, to string) net.Conn {
	n.t.Helper()
	var c net.Conn
	must(n.t, from.Do(func() (err error) {
		c, err = (&net.Dialer{Timeout: patience}).Dial("tcp6", to)
		return err
	}))
	n.t.Cleanup(func() { c.Close() })
	return c
}

// passes sends something and waits until it is back.
func (n *natted) passes(c net.Conn, what []byte) {
	n.t.Helper()
	must(n.t, c.SetDeadline(time.Now().Add(patience)))
	go func() { _, _ = c.Write(what) }() // what does not arrive is missed below
	back := make([]byte, len(what))
	if _, err := io.ReadFull(c, back); err != nil || !bytes.Equal(back, what) {
		n.t.Fatalf("what came back is not the %d bytes that were sent: %v", len(what), err)
	}
}

// longOver sends a megabyte there and back.
func (n *natted) longOver(from *nstest.NS) {
	n.t.Helper()
	n.passes(n.dial(from, "["+brokerInside+"]:7"), bytes.Repeat([]byte("all sizes"), 1<<17))
}
