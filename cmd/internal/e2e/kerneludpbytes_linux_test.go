package e2e

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"sixin4/encap"
	"sixin4/encap/kernelpath"
	"sixin4/encap/packettest"
)

// TestKernelUDPBytes: what the kernel sends is what the engine sends, but for the
// identification and the checksum of UDP, which is 0.
func TestKernelUDPBytes(t *testing.T) {
	for _, c := range []struct {
		name  string
		outer encap.Outer
	}{
		{"default", encap.Outer{}},
		{"tos inherit", encap.Outer{InheritDSCP: true}},
		{"tos fixed", encap.Outer{DSCP: 0x20}},
		{"ttl inherit", encap.Outer{InheritTTL: true}},
		{"ttl fixed", encap.Outer{TTL: 200}},
		{"static MTU: DF clear", encap.Outer{ClearDF: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			top := pair(t)
			ea, _ := inUDP(top)
			ea.outer = c.outer
			a := tunnel(t, ea)
			sink(t, top.B, netip.AddrPortFrom(top.AddrB, a.farPort))
			put := sender(t, a.ns, device, 0x86dd)
			out := listenOn(t, top.B, top.LinkB, 0x0800)
			path := shortcut(t, top, a)
			var packets [][]byte
			for class := range 8 { // every ECN field, with and without a DSCP
				p := packettest.UDP(at(addrA, 1), at(addrB, uint16(class)), packettest.Pattern(class, 90+class))
				p[0], p[1], p[7] = 0x60|byte(class>>2)*0x0b, byte(class)<<4|5, byte(7+class)
				packets = append(packets, p)
			}
			packets = append(packets, tcpFlagged(addrA, addrB, 0x10))
			send := func(byKernel bool) (all [][]byte) {
				before, last := carried(t, path).Tx.Packets, uint16(0)
				for _, in := range packets {
					put(in)
					p := out.next("datagram", func(p []byte) bool { return p[9] == 17 && bytes.Equal(p[28:], in) })
					if packettest.Sum(p[:20]) != 0xffff {
						t.Errorf("outer checksum wrong: % x", p[:20])
					}
					id := binary.BigEndian.Uint16(p[4:])
					if byKernel && (id == 0 || id <= last || [2]byte(p[26:]) != [2]byte{}) {
						t.Errorf("identification %d after %d, UDP checksum % x", id, last, p[26:28])
					}
					last = id
					p[4], p[5], p[10], p[11], p[26], p[27] = 0, 0, 0, 0, 0, 0
					all = append(all, p)
				}
				if n := carried(t, path).Tx.Packets - before; byKernel != (n == uint64(len(packets))) || !byKernel && n != 0 {
					t.Errorf("the kernel carried %d packets", n)
				}
				return all
			}
			kernel := send(true)
			must(t, a.ns.Do(func() error { return path.Set(nil) }))
			for i, p := range send(false) {
				if !bytes.Equal(p, kernel[i]) {
					t.Errorf("the engine sends % x, the kernel % x", p[:76], kernel[i][:76])
				}
			}
		})
	}
}

// TestKernelUDPCut: the datagrams that a super-packet is cut into are whole ones each.
func TestKernelUDPCut(t *testing.T) {
	top := pair(t)
	off(t, top, "tx-udp_tnl-segmentation", "tso", "tx", "sg")
	ea, eb := inUDP(top)
	a, b := tunnel(t, ea), tunnel(t, eb)
	path := shortcut(t, top, a)
	out := listenOn(t, top.B, top.LinkB, 0x0800)
	transfer(t, a.ns, b.ns, innerB, 1<<20)
	seen := make(map[uint16]bool)
	for range 50 {
		p := out.next("a datagram of a transfer", func(p []byte) bool { return p[9] == 17 && len(p) == 1500 && p[27]|p[26] == 0 })
		u, in := p[20:28], p[28:]
		id := binary.BigEndian.Uint16(p[4:])
		if seen[id] || packettest.Sum(p[:20]) != 0xffff || p[6] != 0x40 || binary.BigEndian.Uint16(p[2:]) != 1500 || binary.BigEndian.Uint16(u[4:]) != 1480 {
			t.Errorf("outer headers % x, identification seen: %t", p[:28], seen[id])
		}
		seen[id] = true
		if binary.BigEndian.Uint16(in[4:]) != 1432 || packettest.Sum(append(packettest.PseudoHeader(in, 6), in[40:]...)) != 0xffff {
			t.Errorf("inner headers % x", in[:60])
		}
	}
	if s := carried(t, path); s.TxWhole == 0 {
		t.Errorf("%+v: nothing was cut", s)
	}
}

// TestKernelUDPDatagrams: inner UDP of all sizes by the kernel, what its sender has not cut yet
// by the engine.
func TestKernelUDPDatagrams(t *testing.T) {
	for _, merged := range []bool{false, true} {
		top := pair(t)
		if merged {
			mergeAt(t, top.B, top.LinkB, top.A, top.LinkA, "rx-udp-gro-forwarding")
			must(t, top.B.SetGRODefer(top.LinkB, 2_000_000, 10))
		}
		ea, eb := inUDP(top)
		a, b := tunnel(t, ea), tunnel(t, eb)
		pa, pb := shortcut(t, top, a), shortcut(t, top, b)
		from, to := udp(t, a.ns, innerA, 1000), udp(t, b.ns, innerB, 2000)
		const count = 200
		for _, n := range []int{4, 33, 1000, 1424} {
			datagrams(t, from, to, count, 20, n)
		}
		if s := carried(t, pa); s.Tx.Packets != 4*count || s.Tx.Bytes != count*(4*48+4+33+1000+1424) {
			t.Errorf("the kernel carried out %+v", s.Tx)
		}
		if s := carried(t, pb); s.Rx.Packets != 4*count || s.Rx.Bytes != count*(4*48+4+33+1000+1424) {
			t.Errorf("the kernel carried in %+v", s.Rx)
		}
		datagrams(t, from, to, 3, 1, 1425) // a byte too long: two fragments
		if s := carried(t, pa); s.Tx.Packets != 4*count {
			t.Errorf("with fragments the kernel carried %d packets", s.Tx.Packets)
		}
		cutLate(t, from, 500)
		const long = 5 * 500
		if _, err := from.WriteTo(make([]byte, long), to.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		_ = to.SetReadDeadline(soon())
		for range 5 {
			if n, _, err := to.ReadFrom(make([]byte, long)); n != 500 || err != nil {
				t.Fatalf("%d bytes, %v; want 500", n, err)
			}
		}
		if s := carried(t, pa); s.Tx.Packets != 4*count {
			t.Errorf("of what was not cut the kernel carried %d packets", s.Tx.Packets-4*count)
		}
		a.drops(t)
		b.drops(t)
	}
}

// cutLate has a socket's datagrams cut into those of n bytes (UDP_SEGMENT), as late as can be.
func cutLate(t testing.TB, conn *net.UDPConn, n int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, n) }))
	must(t, err)
}

// TestKernelUDPMerged: from an engine, which sends checksums, datagrams that a link has merged
// are the engine's again, in the order they came.
func TestKernelUDPMerged(t *testing.T) {
	top := pair(t)
	mergeAt(t, top.B, top.LinkB, top.A, top.LinkA, "rx-udp-gro-forwarding")
	must(t, top.B.SetGRODefer(top.LinkB, 2_000_000, 10))
	ea, eb := inUDP(top)
	a, b := tunnel(t, ea), tunnel(t, eb)
	path := shortcut(t, top, b)
	datagrams(t, udp(t, a.ns, innerA, 1000), udp(t, b.ns, innerB, 2000), 200, 20, 1000)
	transfer(t, a.ns, b.ns, innerB, medium()/10)
	if s := carried(t, path); s.Rx.Packets != 0 {
		t.Errorf("the kernel carried in %+v", s.Rx)
	}
	a.drops(t, fullRing)
	b.drops(t)
}

// TestKernelUDPPing: echo is the engine's, both ways, and so is a SYN.
func TestKernelUDPPing(t *testing.T) {
	top := pair(t)
	ea, eb := inUDP(top)
	a, b := tunnel(t, ea), tunnel(t, eb)
	paths := []*kernelpath.Path{shortcut(t, top, a, asking), shortcut(t, top, b, func(f *kernelpath.Flow) { f.Asks = ^uint16(ownEcho) })}
	there := icmp(t, a.ns, innerA)
	for i, n := range []int{4, 1424, 1425, 5000} {
		if err := echo(there, &net.IPAddr{IP: net.ParseIP(innerB)}, uint16(i), n); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	sa, sb := carried(t, paths[0]), carried(t, paths[1])
	if sa.Tx.Packets != 2 || sa.Rx.Packets+sb.Rx.Packets+sb.Tx.Packets != 0 {
		t.Errorf("%+v and %+v, want two requests out", sa, sb)
	}
	a.drops(t)
	b.drops(t)
}
