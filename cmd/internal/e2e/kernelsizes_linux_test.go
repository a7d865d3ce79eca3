package e2e

import (
	"fmt"
	"testing"

	"sixin4/encap/packettest"
)

// TestKernelForwardedMerged: what the kernel has merged on the network behind B goes out
// by the kernel, whatever way it was merged, and arrives as it was.
func TestKernelForwardedMerged(t *testing.T) {
	for _, c := range merging {
		t.Run(c.name, func(t *testing.T) {
			top := pair(t)
			ea, eb := ends(top)
			a, b := tunnel(t, ea), tunnel(t, eb)
			pb := shortcut(t, top, b)
			third := behind(t, b.ns, 1400)
			mergeAt(t, b.ns, "lan0", third, "c0", c.features...)
			transfer(t, third, a.ns, innerA, medium()/2)
			if s := carried(t, pb); s.Tx.Bytes < uint64(medium()/2) || s.TxWhole == 0 {
				t.Errorf("the kernel carried out only %+v", s)
			}
			if c.udp {
				must(t, b.ns.SetGRODefer("lan0", 2_000_000, 10))
				before := carried(t, pb).TxWhole
				from, to := udp(t, third, innerC, 1000), udp(t, a.ns, innerA, 2000)
				datagrams(t, from, to, 1000, 20, 1000)
				if n := carried(t, pb).TxWhole - before; n < 10 {
					t.Errorf("%d were merged, so nothing was tested", n)
				}
			}
			a.drops(t, fullRing)
			b.drops(t, fullRing)
		})
	}
}

// TestKernelLong: what a BPF program could not put into its outer header, because the
// kernel lets none make a packet that long, is the engine's.
func TestKernelLong(t *testing.T) {
	top := pair(t)
	const linkMTU = 20000
	must(t, top.A.SetMTU(top.LinkA, linkMTU), top.B.SetMTU(top.LinkB, linkMTU))
	ea, _ := ends(top)
	ea.linkMTU = linkMTU
	a := tunnel(t, ea)
	path := shortcut(t, top, a)
	put := sender(t, a.ns, device, 0x86dd)
	out := listenOn(t, top.B, top.LinkB, 0x0800)
	for _, span := range [][2]int{{14990, 15010}, {15500, 16400}, {linkMTU - 20, linkMTU - 20}} {
		for n := span[0]; n <= span[1]; n++ {
			put(packettest.UDP(at(addrA, 1), at(addrB, 2), packettest.Pattern(n, n-48)))
			out.next(fmt.Sprintf("%d bytes", n), func(p []byte) bool { return len(p) == n+20 && p[9] == 41 })
		}
	}
	if n := carried(t, path).Tx.Packets; n != 11 { // of 14 990 to 15 000 bytes
		t.Errorf("the kernel carried %d packets, want 11", n)
	}
	a.drops(t)
}
