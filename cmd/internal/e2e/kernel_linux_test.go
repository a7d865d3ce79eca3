package e2e

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"sixin4/encap/kernelpath"
	"sixin4/tun/nstest"
)

// shortcut lets the kernel carry what it can of an end's packets.
func shortcut(t testing.TB, top *nstest.Topology, h *host, edits ...func(*kernelpath.Flow)) *kernelpath.Path {
	t.Helper()
	if h.ns == top.B {
		return shortcutBy(t, h, top.LinkB, top.A, top.LinkA, edits...)
	}
	return shortcutBy(t, h, top.LinkA, top.B, top.LinkB, edits...)
}

// shortcutBy is shortcut by a link to another host's.
func shortcutBy(t testing.TB, h *host, link string, peer *nstest.NS, peerLink string, edits ...func(*kernelpath.Flow)) *kernelpath.Path {
	t.Helper()
	own, index := mac(t, h.ns, link)
	far, _ := mac(t, peer, peerLink)
	o := h.outer
	o.Src, o.Dst = h.local, h.remotes[0]
	flow := &kernelpath.Flow{
		Outer: o, SrcPort: h.port, DstPort: h.far(), Link: index, LinkMAC: own, HopMAC: far, MTU: h.mtu(),
		Ours: []netip.Prefix{netip.PrefixFrom(h.source(), 128)}, Here: []netip.Addr{h.source()},
	}
	for _, edit := range edits {
		edit(flow)
	}
	return carryBy(t, h, flow)
}

// carryBy opens a path, of a hub for its clients, with a flow.
func carryBy(t testing.TB, h *host, flow *kernelpath.Flow) *kernelpath.Path {
	t.Helper()
	_, tunIndex := mac(t, h.ns, device)
	var p *kernelpath.Path
	must(t, h.ns.Do(func() (err error) {
		p, err = kernelpath.Open(kernelpath.Config{Device: tunIndex, Peers: len(h.clients)})
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skipf("kernel feature: TCX: %v", err)
		}
		if err != nil {
			return err
		}
		return p.Set(flow)
	}))
	t.Cleanup(func() { must(t, p.Close()) })
	return p
}

// carried returns what a path has carried.
func carried(t testing.TB, p *kernelpath.Path) kernelpath.Stats {
	t.Helper()
	s, err := p.Stats()
	must(t, err)
	if s.TxLost+s.RxLost > 0 {
		t.Errorf("packets were lost half way: %+v", s)
	}
	return s
}

// TestKernelTransfer: 100 MB of TCP arrive whole through the kernel, whether or not the
// link cuts, merges, or computes checksums, and from and to an engine alone.
func TestKernelTransfer(t *testing.T) {
	for _, c := range []struct {
		name  string
		setUp func(t *testing.T, top *nstest.Topology)
		alone bool // B has only its engine
		size  int64
	}{
		{"plain", nil, false, large()},
		{"GRO", func(t *testing.T, top *nstest.Topology) { mergeAt(t, top.B, top.LinkB, top.A, top.LinkA) }, false, medium()},
		{"rx-udp-gro-forwarding", func(t *testing.T, top *nstest.Topology) {
			mergeAt(t, top.B, top.LinkB, top.A, top.LinkA, "rx-udp-gro-forwarding")
		}, false, medium()},
		{"rx-gro-list", func(t *testing.T, top *nstest.Topology) {
			mergeAt(t, top.B, top.LinkB, top.A, top.LinkA, "rx-gro-list")
		}, false, medium()},
		{"no offload", func(t *testing.T, top *nstest.Topology) {
			must(t, top.A.SetFeature(top.LinkA, "tso", false), top.A.SetFeature(top.LinkA, "tx", false), top.A.SetFeature(top.LinkA, "sg", false))
		}, false, medium()},
		{"engine at the far end", nil, true, medium()},
		{"no TSO", func(t *testing.T, top *nstest.Topology) {
			must(t, top.A.SetFeature(top.LinkA, "tso", false))
		}, true, medium()},
	} {
		t.Run(c.name, func(t *testing.T) {
			sa, sb := bothWays(t, c.setUp, ends, c.alone, c.size)
			if sa.Tx.Bytes < uint64(c.size) || sa.Rx.Bytes < uint64(c.size/5) || sa.Tx.Packets < uint64(c.size)/1480 {
				t.Errorf("the kernel carried only %+v", sa)
			}
			if !c.alone && (sb.Rx.Bytes < uint64(c.size) || sb.LastHeard.IsZero()) {
				t.Errorf("the kernel carried only %+v", sb)
			}
		})
	}
}

// bothWays moves size bytes of TCP from A to B and a fifth of them back, by the kernel of A
// and, unless alone is true, of B, and returns what these have carried. Nothing is lost but
// where a queue is full.
func bothWays(t *testing.T, setUp func(*testing.T, *nstest.Topology), ends func(*nstest.Topology) (a, b end), alone bool, size int64) (sa, sb kernelpath.Stats) {
	t.Helper()
	top := pair(t)
	if setUp != nil {
		setUp(t, top)
	}
	ea, eb := ends(top)
	a, b := tunnel(t, ea), tunnel(t, eb)
	pa := shortcut(t, top, a)
	var pb *kernelpath.Path
	if !alone {
		pb = shortcut(t, top, b)
	}
	transfer(t, a.ns, b.ns, innerB, size)
	transfer(t, b.ns, a.ns, innerA, size/5)
	if sa = carried(t, pa); pb != nil {
		sb = carried(t, pb)
	}
	a.drops(t, fullRing)
	b.drops(t, fullRing)
	return sa, sb
}

// TestKernelForwarded: what is forwarded arrives, over links of any size, though the
// engine carries it in.
func TestKernelForwarded(t *testing.T) {
	for _, c := range []struct {
		name string
		mtu  int
		gro  bool
		size int64
	}{{"MTU 1280", 1280, false, medium() / 2}, {"MTU 1400, GRO", 1400, true, medium() / 2}, {"MTU 1500", 1500, false, medium() / 5}} {
		t.Run(c.name, func(t *testing.T) {
			top := pair(t)
			if c.gro {
				mergeAt(t, top.B, top.LinkB, top.A, top.LinkA)
			}
			ea, eb := ends(top)
			a, b := tunnel(t, ea), tunnel(t, eb)
			pa, pb := shortcut(t, top, a), shortcut(t, top, b)
			third := behind(t, b.ns, c.mtu)
			transfer(t, a.ns, third, innerC, c.size)
			transfer(t, third, a.ns, innerA, c.size/2)
			sa, sb := carried(t, pa), carried(t, pb)
			if sa.Tx.Bytes < uint64(c.size) || sb.Tx.Bytes < uint64(c.size/2) {
				t.Errorf("the kernel carried out only %+v and %+v", sa, sb)
			}
			if sb.Rx.Packets != 0 {
				t.Errorf("the kernel carried in %d packets to be forwarded", sb.Rx.Packets)
			}
			a.drops(t, fullRing)
			b.drops(t)
		})
	}
}

// TestKernelDatagrams: UDP of all sizes, and super-packets of UDP. The kernel merges no
// UDP that it has put into a tunnel itself, so these come from an engine.
func TestKernelDatagrams(t *testing.T) {
	for _, c := range []struct {
		name  string
		setUp func(t *testing.T, top *nstest.Topology)
	}{
		{"plain", nil},
		{"rx-udp-gro-forwarding", func(t *testing.T, top *nstest.Topology) {
			mergeAt(t, top.B, top.LinkB, top.A, top.LinkA, "rx-udp-gro-forwarding")
			must(t, top.B.SetGRODefer(top.LinkB, 2_000_000, 10))
		}},
		{"rx-gro-list", func(t *testing.T, top *nstest.Topology) {
			mergeAt(t, top.B, top.LinkB, top.A, top.LinkA, "rx-gro-list")
			must(t, top.B.SetGRODefer(top.LinkB, 2_000_000, 10))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			top := pair(t)
			if c.setUp != nil {
				c.setUp(t, top)
			}
			ea, eb := ends(top)
			a, b := tunnel(t, ea), tunnel(t, eb)
			pb := shortcut(t, top, b)
			if c.setUp == nil {
				shortcut(t, top, a)
			}
			from, to := udp(t, a.ns, innerA, 1000), udp(t, b.ns, innerB, 2000)
			const count = 1000
			for _, n := range []int{1000, 1432, 33} {
				datagrams(t, from, to, count, 20, n)
			}
			s := carried(t, pb)
			if s.Rx.Packets != 3*count || s.Rx.Bytes != count*(3*48+1000+1432+33) {
				t.Errorf("the kernel carried %+v", s)
			}
			if c.setUp != nil && s.RxWhole < count/20 {
				t.Errorf("%d were merged, so nothing was tested", s.RxWhole)
			}
			a.drops(t)
			b.drops(t)
		})
	}
}

// TestKernelPing: echo goes by the kernel, what is longer than a packet by the engine.
func TestKernelPing(t *testing.T) {
	top := pair(t)
	ea, eb := ends(top)
	a, b := tunnel(t, ea), tunnel(t, eb)
	pa, pb := shortcut(t, top, a), shortcut(t, top, b)
	there := icmp(t, a.ns, innerA)
	for i, n := range []int{4, 1000, 1432, 1433, 5000} {
		if err := echo(there, &net.IPAddr{IP: net.ParseIP(innerB)}, uint16(i), n); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, p := range []*kernelpath.Path{pa, pb} {
		if s := carried(t, p); s.Tx.Packets != 3 || s.Rx.Packets != 3 || s.Tx.Bytes != 3*48+4+1000+1432 {
			t.Errorf("%+v, want 3 packets each way", s)
		}
	}
	a.drops(t)
	b.drops(t)
}
