package e2e

import (
	"fmt"
	"net/netip"
	"testing"

	"sixin4/encap/kernelpath"
	"sixin4/encap/packettest"
	"sixin4/tun/nstest"
)

// TestKernelForwardedMerged: what the kernel has merged on the network behind B goes out
// by the kernel, whatever way it was merged, and arrives as it was.
func TestKernelForwardedMerged(t *testing.T) {
	for _, c := range merging {
		t.Run(c.name, func(t *testing.T) {
			top := pair(t)
			a, b := ends(top)
			forwardMerged(t, top, a, b, c.udp, c.features...)
		})
		t.Run(c.name+", in UDP", func(t *testing.T) {
			top := pair(t)
			a, b := inUDP(top)
			forwardMerged(t, top, a, b, c.udp, c.features...)
		})
	}
}

// forwardMerged sends from behind B to A, also merged UDP. In a datagram that is left to
// the engine.
func forwardMerged(t *testing.T, top *nstest.Topology, ea, eb end, mergedUDP bool, features ...string) {
	a, b := tunnel(t, ea), tunnel(t, eb)
	pb := shortcut(t, top, b)
	third := behind(t, b.ns, 1400)
	mergeAt(t, b.ns, "lan0", third, "c0", features...)
	transfer(t, third, a.ns, innerA, medium()/2)
	if s := carried(t, pb); s.Tx.Bytes < uint64(medium()/2) || s.TxWhole == 0 {
		t.Errorf("the kernel carried out only %+v", s)
	}
	if mergedUDP {
		must(t, b.ns.SetGRODefer("lan0", 2_000_000, 10))
		before, engine := carried(t, pb).TxWhole, b.eng.Stats().Tx.Packets
		from, to := udp(t, third, innerC, 1000), udp(t, a.ns, innerA, 2000)
		datagrams(t, from, to, 1000, 20, 1000)
		n, sent := carried(t, pb).TxWhole-before, b.eng.Stats().Tx.Packets-engine
		if b.port == 0 && n < 10 || b.port != 0 && (n != 0 || sent < 100) {
			t.Errorf("%d were merged and carried by the kernel, %d packets sent by the engine", n, sent)
		}
	}
	a.drops(t, fullRing)
	b.drops(t, fullRing)
}

// TestKernelLong: what a BPF program could not put into its outer header, because the
// kernel lets none make a packet that long, is the engine's.
func TestKernelLong(t *testing.T) {
	for _, kind := range []func(*nstest.Topology) (a, b end){ends, inUDP} {
		top := pair(t)
		const linkMTU = 20000
		must(t, top.A.SetMTU(top.LinkA, linkMTU), top.B.SetMTU(top.LinkB, linkMTU))
		ea, _ := kind(top)
		ea.linkMTU = linkMTU
		a := tunnel(t, ea)
		if a.port != 0 {
			sink(t, top.B, netip.AddrPortFrom(top.AddrB, a.far()))
		}
		path := shortcut(t, top, a)
		put := sender(t, a.ns, device, 0x86dd)
		out := listenOn(t, top.B, top.LinkB, 0x0800)
		for _, span := range [][2]int{{14990, 15010}, {15500, 16400}, {linkMTU - a.headers(), linkMTU - a.headers()}} {
			for n := span[0]; n <= span[1]; n++ {
				put(packettest.UDP(at(addrA, 1), at(addrB, 2), packettest.Pattern(n, n-48)))
				out.next(fmt.Sprintf("%d bytes", n), func(p []byte) bool { return len(p) == n+a.headers() && p[9] == a.protocol() })
			}
		}
		if n := carried(t, path).Tx.Packets; n != 11 { // of 14 990 to 15 000 bytes
			t.Errorf("the kernel carried %d packets, want 11", n)
		}
		a.drops(t)
	}
}

// TestKernelCutTooLong: a super-packet whose parts are longer than the MTU that the kernel
// was told is the engine's.
func TestKernelCutTooLong(t *testing.T) {
	top := pair(t)
	ea, eb := inUDP(top)
	a, b := tunnel(t, ea), tunnel(t, eb)
	path := shortcut(t, top, a, func(f *kernelpath.Flow) { f.MTU = 1400 })
	size := medium() / 10
	transfer(t, a.ns, b.ns, innerB, size)
	if s := carried(t, path); s.Tx.Bytes > uint64(size)/10 {
		t.Errorf("the kernel carried %+v", s)
	}
	a.drops(t, fullRing)
	b.drops(t)
}
