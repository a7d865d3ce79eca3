package main

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"sixin4/cmd/internal/control"
	"sixin4/encap/packettest"
	"sixin4/tun/nstest"
)

const (
	pathA, pathB = "2001:db8:1::1", "2001:db8:1::2" // inside a tunnel
	outerA       = "192.0.2.1"
	outerB       = "198.51.100.2"
)

// routed makes two hosts with a router between them whose link to B carries mtu.
func routed(t *testing.T, mtu int) *nstest.Topology {
	t.Helper()
	nstest.Need(t)
	topo, err := nstest.Routed()
	must(t, err)
	t.Cleanup(func() { must(t, topo.Close()) })
	for ns, link := range map[*nstest.NS]string{topo.A: topo.LinkA, topo.B: topo.LinkB} {
		must(t, ns.Sysctl("net/ipv6/conf/"+link+"/disable_ipv6", "1"))
	}
	must(t, topo.R.SetMTU(nstest.LinkRB, mtu))
	must(t, topo.R.Sysctl("net/ipv4/icmp_ratelimit", "0"))
	return topo
}

// tunnelBetween starts both ends and returns the socket of A's.
func tunnelBetween(t *testing.T, topo *nstest.Topology, wire string, more ...string) (a, b *process, socket string) {
	t.Helper()
	socket = socketIn(t, "six0")
	args := append([]string{"up", "--remote", outerB, "--address", pathA + "/64", "--name", "six0", "--socket", socket, "--wire", wire}, more...)
	a = start(t, topo.A, "main", args...)
	b = start(t, topo.B, "main", "up", "--remote", outerA, "--address", pathB+"/64", "--name", "six1", "--socket", socketIn(t, "six1"), "--wire", "raw")
	a.ready()
	b.ready()
	return a, b, socket
}

// TestPathMTU: a router in the middle with a smaller MTU tells us, and a bulk transfer
// passes: with packets that fit, or with fragments where not even 1280 bytes do. With
// --mtu N it fragments for us.
func TestPathMTU(t *testing.T) {
	for _, tt := range []struct {
		name string
		mtu  int
		wire string
		more []string
		want int // of the tunnel, that is learnt; 0: nothing is
	}{
		{"fragmentation needed, 1400", 1400, "raw", nil, 1380},
		{"fragmentation needed, 1400, packet", 1400, "packet", nil, 1380},
		{"fragmentation needed, 1400, as usual", 1400, "auto", nil, 1380},
		{"fragmentation needed, 1400, MSS not clamped", 1400, "raw", []string{"--clamp-mss", "off"}, 1380},
		{"fragmentation needed, 1300", 1300, "raw", nil, 1280},
		{"fragmentation needed, 1200", 1200, "raw", nil, 1280},
		{"fragmentation needed, 1200, as usual", 1200, "auto", nil, 1280},
		{"fragmentation needed, 576", 576, "raw", nil, 1280},
		{"nopmtudisc: 1400, --mtu 1480", 1400, "raw", []string{"--mtu", "1480"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			topo := routed(t, tt.mtu)
			a, b, socket := tunnelBetween(t, topo, tt.wire, tt.more...)
			s := newStream(t, topo.A, topo.B, pathB)
			s.goesOn()
			s.end()
			status := ask(t, socket)
			path := tt.mtu
			if tt.want == 0 {
				path, tt.want = 0, 1480
			}
			if p := status.Peers[0]; p.PathMTU != path || p.MTU != tt.want || status.MTU != 1480 {
				t.Errorf("path %d, peer %d, tunnel %d; want %d, %d, 1480: %+v", p.PathMTU, p.MTU, status.MTU, path, tt.want, status.ICMP)
			}
			if tt.wire == "raw" {
				addsUp(t, topo.A, "six0", socket)
			}
			a.stop()
			b.stop()
		})
	}
}

// forge sends an ICMPv4 message to A from the router, which any host could.
func forge(t *testing.T, topo *nstest.Topology, kind, code byte, mtu uint16, quote []byte) {
	t.Helper()
	msg := append([]byte{kind, code, 0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, quote...)
	binary.BigEndian.PutUint16(msg[2:], ^packettest.Sum(msg))
	must(t, topo.R.Do(func() error {
		c, err := net.DialIP("ip4:1", nil, &net.IPAddr{IP: net.ParseIP(outerA)})
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(msg)
		return err
	}))
}

// TestForgedICMP: a real kernel and we believe nothing that cannot be about a packet of
// ours, nor does the kernel hold our packets to it.
func TestForgedICMP(t *testing.T) {
	a4, b4 := netip.MustParseAddr(outerA), netip.MustParseAddr(outerB)
	quote := func(src, dst string, n int) []byte {
		inner := packettest.UDP(netip.AddrPortFrom(netip.MustParseAddr(src), 1), netip.AddrPortFrom(netip.MustParseAddr(dst), 2), make([]byte, 1400))
		return packettest.Outer(a4, b4, 1, inner)[:n]
	}
	for _, tt := range []struct {
		name   string
		mtu    uint16
		quote  []byte
		reason string
		wire   string
	}{
		{"a flow we do not carry", 1000, quote("2001:db8:9::1", pathB, 548), "inner-foreign", "raw"},
		{"MTU 68", 68, quote(pathA, pathB, 548), "implausible", "raw"},
		{"quoting 28 bytes of a packet never sent", 1000, packettest.Outer(a4, b4, 1, packettest.Pattern(0, 900))[:28], "quote-length", "raw"},
		{"MTU larger than current", 1499, quote(pathA, pathB, 548), "not-smaller", "raw"},
		{"a flow we do not carry, by the kernel", 1000, quote("2001:db8:9::1", pathB, 548), "inner-foreign", "auto"},
		{"MTU 68, by the kernel", 68, quote(pathA, pathB, 548), "implausible", "auto"},
		{"quoting 28 bytes of a packet never sent, by the kernel", 1000, packettest.Outer(a4, b4, 1, packettest.Pattern(0, 900))[:28], "quote-length", "auto"},
		{"MTU larger than current, by the kernel", 1499, quote(pathA, pathB, 548), "not-smaller", "auto"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			topo := routed(t, 1500)
			wire := "raw"
			if tt.wire == "auto" {
				wire = fastest(t, topo.A)
			}
			a, b, socket := tunnelBetween(t, topo, tt.wire)
			askUntil(t, socket, func(s control.Tunnel) bool { return s.Wire == wire })
			forge(t, topo, 3, 4, tt.mtu, tt.quote)
			askUntil(t, socket, func(s control.Tunnel) bool { return s.ICMP.Ignored[tt.reason] == 1 })
			if got := routeMTU(t, topo.A, outerB); got != 0 {
				t.Errorf("the kernel holds the way to %s to %d bytes", outerB, got)
			}
			s := newStream(t, topo.A, topo.B, pathB)
			s.goesOn()
			s.end()
			status := ask(t, socket)
			if status.MTU != 1480 || status.Peers[0].MTU != 1480 || status.Drops["too-big"]+status.Drops["send-emsgsize"] != 0 || status.Wire != wire {
				t.Errorf("MTU %d, wire %s, drops %v", status.MTU, status.Wire, status.Drops)
			}
			if wire == "raw" {
				addsUp(t, topo.A, "six0", socket)
			}
			a.stop()
			b.stop()
		})
	}
}

// routeMTU is what the kernel holds packets to dst to, 0 if it is the link's.
func routeMTU(t *testing.T, ns *nstest.NS, dst string) (mtu int) {
	t.Helper()
	must(t, ns.Do(func() error {
		found, err := netlink.RouteGet(net.ParseIP(dst))
		if err == nil {
			mtu = found[0].MTU
		}
		return err
	}))
	return mtu
}

// TestKernelPathMTU: what the kernel itself was made to believe about the way to the peer,
// by a message about a ping, is not what the tunnel believes.
func TestKernelPathMTU(t *testing.T) {
	topo := routed(t, 1500)
	a, b, socket := tunnelBetween(t, topo, "raw", "--verbose")
	echo := packettest.Outer(netip.MustParseAddr(outerA), netip.MustParseAddr(outerB), 1, append([]byte{8, 0, 0, 0, 0, 1, 0, 1}, make([]byte, 1300)...),
		func(p []byte) { p[9] = 1 })
	forge(t, topo, 3, 4, 1000, echo[:548])
	nstest.Eventually(t, patience, "the kernel believes it", func() bool { return routeMTU(t, topo.A, outerB) == 1000 })
	for _, own := range []string{"2001:db8:77::1/64", "2001:db8:78::1/64"} { // the first look is over when the second is told
		must(t, topo.A.AddAddr("lo", own))
		a.await(a.stderr, "ingress filter renewed")
	}
	s := newStream(t, topo.A, topo.B, pathB)
	s.goesOn()
	s.end()
	if status := ask(t, socket); status.MTU != 1480 || status.Drops["too-big"]+status.Drops["send-emsgsize"] != 0 {
		t.Errorf("MTU %d, drops %v", status.MTU, status.Drops)
	}
	addsUp(t, topo.A, "six0", socket)
	a.stop()
	b.stop()
}

// TestICMPState: a far end without protocol 41 is a state, said once, until it is heard, and
// the programs of --on-down and --on-up hear of it; and the inner sender hears of each.
func TestICMPState(t *testing.T) {
	topo := routed(t, 1500)
	socket := socketIn(t, "six0")
	file := filepath.Join(t.TempDir(), "told")
	a := start(t, topo.A, "main", "up", "--remote", outerB, "--address", pathA+"/64", "--name", "six0", "--socket", socket, "--wire", "raw",
		"--on-up", `sh -c 'echo up >>"`+file+`"'`, "--on-down", `sh -c 'echo down >>"`+file+`"'`)
	a.ready()
	heard := func(want string) {
		t.Helper()
		nstest.Eventually(t, patience, "the programs are told "+want, func() bool {
			text, err := os.ReadFile(file)
			return err == nil && strings.HasSuffix(strings.Join(strings.Fields(string(text)), " "), want)
		})
	}
	refused := func() error {
		return topo.A.Do(func() error {
			c, err := net.Dial("udp6", net.JoinHostPort(pathB, strconv.Itoa(9)))
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("anybody?"))
			return err
		})
	}
	must(t, refused())
	s := askUntil(t, socket, func(s control.Tunnel) bool { return s.State == "down" && s.ICMP.Relayed["protocol-unreachable"] > 0 })
	if !strings.Contains(s.Reason, "does not take protocol 41") || s.Peers[0].Reason != s.Reason {
		t.Errorf("%q, %q", s.Reason, s.Peers[0].Reason)
	}
	heard("down") // after up, unless what the kernel sends by itself was refused before that was told
	must(t, refused())
	askUntil(t, socket, func(s control.Tunnel) bool { return s.ICMP.Relayed["protocol-unreachable"] > 1 })
	b := start(t, topo.B, "main", "up", "--remote", outerA, "--address", pathB+"/64", "--name", "six1", "--socket", socketIn(t, "six1"), "--wire", "raw")
	b.ready()
	transfer := newStream(t, topo.A, topo.B, pathB)
	transfer.goesOn()
	transfer.end()
	heard("down up")
	if s := ask(t, socket); s.State != "up" || s.Reason != "" {
		t.Errorf("%s, %q", s.State, s.Reason)
	}
	addsUp(t, topo.A, "six0", socket)
	if n := strings.Count(a.stderr.text(), "does not take protocol 41"); n != 1 {
		t.Errorf("said %d times", n)
	}
	a.stop()
	b.stop()
}
