package e2e

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"sixin4/encap"
	"sixin4/encap/packettest"
)

// TestNeighbourSolicitation is the row "neighbour solicitation unicast to our
// link-local or address": it is answered (RFC 4213, Section 3.8), through a router.
func TestNeighbourSolicitation(t *testing.T) {
	for _, name := range []string{"link-local", "address"} {
		t.Run("neighbour solicitation unicast to our "+name, func(t *testing.T) {
			top := routed(t)
			_, eb := ends(top)
			b := tunnel(t, eb)
			tap, send := listenOn(t, top.A, top.LinkA, 0x0800), raw(t, top.A)
			src, target := linkLocal(top.AddrA), linkLocal(top.AddrB)
			if name == "address" {
				target = addrB
			}
			body := append(make([]byte, 4), target.AsSlice()...)
			ns := packettest.ICMPv6(src, target, 135, 0, body)
			send(outerPacket(top.AddrA, top.AddrB, 1, ns))
			got := tap.next("advertisement", func(p []byte) bool { return p[9] == 41 && len(p) >= 84 && p[60] == 136 })
			inner := got[20:]
			if !bytes.Equal(inner[48:64], target.AsSlice()) || !bytes.Equal(inner[24:40], src.AsSlice()) || inner[7] != 255 || inner[44]&0x40 == 0 {
				t.Errorf("answer % x", inner)
			}
			b.drops(t)
		})
	}
}

// TestLinkScope has the rows "inner link-local" and "router solicitation, MLD from the
// peer": the stack answers an echo to the one and says nothing to the others.
func TestLinkScope(t *testing.T) {
	top := pair(t)
	_, eb := ends(top)
	b := tunnel(t, eb)
	must(t, b.ns.Sysctl("net/ipv6/conf/all/forwarding", "1")) // a router hears solicitations
	src, own, allNodes := linkLocal(top.AddrA), linkLocal(top.AddrB), netip.MustParseAddr("ff02::1")
	routers, listeners := netip.MustParseAddr("ff02::2"), netip.MustParseAddr("ff02::16")
	report := append([]byte{0, 0, 0, 1, 4, 0, 0, 0}, netip.MustParseAddr("ff02::99").AsSlice()...)
	for i, c := range []struct {
		name   string
		to     netip.Addr
		before []byte
	}{
		{"inner link-local: fe80:: and our IPv4 address", own, nil},
		{"inner link-local: ff02::1", allNodes, nil},
		{"router solicitation from the peer", own, packettest.ICMPv6(src, routers, 133, 0, make([]byte, 4))},
		{"MLD from the peer", own, packettest.ICMPv6(src, listeners, 143, 0, report)},
	} {
		t.Run(c.name, func(t *testing.T) {
			tap, send := listenOn(t, top.A, top.LinkA, 0x0800), raw(t, top.A)
			seen := b.eng.Stats().Rx.Packets
			if c.before != nil {
				send(outerPacket(top.AddrA, top.AddrB, 1, c.before))
				eventually(t, "it is passed to the stack", func() bool { return b.eng.Stats().Rx.Packets > seen })
			}
			ask := []byte{0x51, byte(i), 0, 1, 'w', 'o', 'r', 'd'}
			send(outerPacket(top.AddrA, top.AddrB, 2, packettest.ICMPv6(src, c.to, 128, 0, ask)))
			// Anything to the peer; what the stack itself has to say is for groups.
			got := tap.next("an answer", func(p []byte) bool { return p[9] == 41 && bytes.Equal(p[44:60], src.AsSlice()) })[20:]
			if !bytes.Equal(got[8:24], own.AsSlice()) || got[6] != 58 || got[40] != 129 || !bytes.Equal(got[44:], ask) {
				t.Errorf("answered with % x", got)
			}
		})
	}
	b.drops(t)
}

// TestNoProtocolUnreachable: while we run, the kernel tells no sender of protocol
// 41 that there is nobody, neither peers nor strangers.
func TestNoProtocolUnreachable(t *testing.T) {
	top := pair(t)
	must(t, top.A.AddAddr(top.LinkA, "192.0.2.7/24"), top.A.AddAddr(top.LinkA, "192.0.2.99/24"))
	must(t, top.B.Sysctl("net/ipv4/icmp_ratelimit", "0"))
	tap, send := listenOn(t, top.A, top.LinkA, 0x0800), raw(t, top.A)
	sources := []netip.Addr{top.AddrA, netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.99")}
	all := func() {
		for i, src := range sources {
			send(outerPacket(src, top.AddrB, uint16(i+1), packettest.UDP(netip.MustParseAddrPort("[2001:db8:1::1]:1"), netip.MustParseAddrPort("[2001:db8::2]:9"), nil)))
		}
	}
	unreachable := func(code byte) func(b []byte) bool {
		return func(b []byte) bool { return b[9] == 1 && len(b) > 28 && b[20] == 3 && b[21] == code }
	}
	all() // nobody listens: the kernel says so
	for range sources {
		tap.next("protocol unreachable while nobody runs", unreachable(2))
	}
	b := tunnel(t, end{ns: top.B, local: top.AddrB, inner: innerB + "/64", remotes: sources[:2]}) // a hub, and 192.0.2.99 is a stranger
	all()
	udp4 := packettest.Outer(top.AddrA, top.AddrB, 9, []byte{0, 9, 0, 9, 0, 8, 0, 0}, func(p []byte) { p[9] = 17 })
	send(udp4) // to a closed port, whose answer comes after any other
	got := tap.next("port unreachable", func(p []byte) bool { return unreachable(2)(p) || unreachable(3)(p) })
	if got[21] != 3 {
		t.Errorf("the kernel says protocol unreachable to %v", net.IP(got[16:20]))
	}
	eventually(t, "all are read", func() bool {
		s := b.eng.Stats()
		return s.Drops[encap.DropNotPeer] == 1 && s.Rx.Packets+s.Drops[encap.DropInnerSourceNotPeers] == 2
	})
}

// errorAt waits for an ICMPv6 error on conn about a packet to dst.
func errorAt(t testing.TB, conn *net.IPConn, kind byte, dst netip.Addr) (icmp []byte, from netip.Addr) {
	t.Helper()
	must(t, conn.SetReadDeadline(soon()))
	b := make([]byte, 1<<16)
	for {
		n, addr, err := conn.ReadFromIP(b)
		if err != nil {
			t.Fatalf("ICMPv6 type %d about %v: %v", kind, dst, err)
		}
		if n >= 48 && b[0] == kind && bytes.Equal(b[32:48], dst.AsSlice()) {
			from, _ = netip.AddrFromSlice(addr.IP)
			return b[:n], from
		}
	}
}

// option sets an integer option of a socket.
func option(t testing.TB, conn *net.UDPConn, name, value int) {
	t.Helper()
	c, err := conn.SyscallConn()
	must(t, err)
	must(t, c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, name, value) }), err)
}

// TestPacketTooBig is the row "packet over the MTU (forwarded)": a host behind us
// is told 1480, by the kernel when the device has that MTU, by the engine when
// somebody raised it; then its packets fit.
func TestPacketTooBig(t *testing.T) {
	for _, c := range []struct {
		name   string
		device int
		from   string
	}{{"by the kernel", 1480, lanB}, {"by the engine", 1900, innerB}} {
		t.Run("packet over the MTU (forwarded), "+c.name, func(t *testing.T) {
			top := routed(t)
			ea, eb := ends(top)
			a, b := tunnel(t, ea), tunnel(t, eb)
			third := behind(t, b.ns, 2000)
			must(t, b.ns.SetMTU(device, c.device))
			told, out := icmp(t, third, innerC), udp(t, third, innerC, 1000)
			in := udp(t, a.ns, innerA, 2000)
			option(t, out, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO)
			if _, err := out.WriteTo(datagram(1, 1800), in.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			icmp, from := errorAt(t, told, 2, netip.MustParseAddr(innerA))
			if mtu := binary.BigEndian.Uint32(icmp[4:]); mtu != 1480 || len(icmp) != 1280-40 || from.WithZone("").String() != c.from {
				t.Errorf("MTU %d from %v in %d bytes, want 1480 from %s in 1240", mtu, from, len(icmp), c.from)
			}
			eventually(t, "the sender knows", func() bool {
				_, err := out.WriteTo(datagram(1, 1800), in.LocalAddr())
				return err != nil
			})
			datagrams(t, out, in, 1, 1, 1480-48)
			transfer(t, third, a.ns, innerA, medium()/20)
			a.drops(t)
			b.drops(t, encap.DropTooBig)
			if s := b.eng.Stats(); (s.Drops[encap.DropTooBig] > 0) != (c.device > 1480) || s.ICMPErrors > s.Drops[encap.DropTooBig] {
				t.Errorf("%d too big, %d answered", s.Drops[encap.DropTooBig], s.ICMPErrors)
			}
		})
	}
}

// TestNoPeer: a host behind a hub is told that there is no route to an address
// that belongs to no peer.
func TestNoPeer(t *testing.T) {
	top := pair(t)
	hub := end{ns: top.B, local: top.AddrB, inner: innerB + "/64", remotes: []netip.Addr{top.AddrA, netip.MustParseAddr("192.0.2.7")}, via: "2001:db8:f000::/36"}
	b := tunnel(t, hub)
	third := behind(t, b.ns, 1500)
	told, out := icmp(t, third, innerC), udp(t, third, innerC, 1000)
	nobody := netip.MustParseAddr("2001:db8:ffff::1")
	if _, err := out.WriteTo(datagram(1, 9), net.UDPAddrFromAddrPort(netip.AddrPortFrom(nobody, 9))); err != nil {
		t.Fatal(err)
	}
	icmp, from := errorAt(t, told, 1, nobody)
	if icmp[1] != 0 || from.String() != innerB {
		t.Errorf("code %d from %v, want 0 from %s", icmp[1], from, innerB)
	}
	// The answer is counted when it has been written, so it may be here before.
	eventually(t, "a packet without a peer, counted as answered", func() bool {
		s := b.eng.Stats()
		return s.Drops[encap.DropNoPeer] > 0 && s.ICMPErrors > 0
	})
}

// TestTunnelDown: an interface that is down costs packets, which are counted, and
// nothing else.
func TestTunnelDown(t *testing.T) {
	top := pair(t)
	ea, eb := ends(top)
	a, b := tunnel(t, ea), tunnel(t, eb)
	from := udp(t, a.ns, innerA, 1000)
	to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("[" + innerB + "]:2000"))
	must(t, b.ns.SetDown(device))
	eventually(t, "a packet is counted", func() bool {
		_, _ = from.WriteTo(datagram(1, 9), to)
		return b.eng.Stats().Drops[encap.DropTunDown] > 0
	})
	must(t, b.ns.SetUp(device), b.ns.AddAddr(device, innerB+"/64"))
	datagrams(t, from, udp(t, b.ns, innerB, 2001), 10, 1, 100)
	b.drops(t, encap.DropTunDown)
}
