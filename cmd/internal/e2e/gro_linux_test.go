package e2e

import (
	"testing"

	"sixin4/encap"
	"sixin4/tun/nstest"
)

// mergeAt makes the kernel of one end merge what it receives before any socket
// sees it, as every real network card does, and the kernel of the other end send
// every segment by itself.
func mergeAt(t testing.TB, receiver *nstest.NS, link string, sender *nstest.NS, peer string, features ...string) {
	t.Helper()
	nstest.NeedMachine(t)
	must(t, sender.SetFeature(peer, "tso", false), receiver.SetFeature(link, "gro", true))
	for _, f := range features {
		must(t, receiver.SetFeature(link, f, true))
	}
	must(t, receiver.SetGRODefer(link, 100_000, 10))
}

// fullRing is what a sender may see that is faster than the far end of the veth:
// with GRO on, that end has a ring of 256 packets, which is drained when its
// processor gets round to it. TCP sends them again.
const fullRing = encap.DropSendNoBufs

// merging are the ways in which a kernel merges, and which inner protocols.
var merging = []struct {
	name     string
	features []string
	udp      bool
}{
	{"GRO", nil, false},
	{"rx-udp-gro-forwarding", []string{"rx-udp-gro-forwarding"}, true},
	{"rx-gro-list", []string{"rx-gro-list"}, true},
}

// TestGROTransfer: 100 MB of TCP arrive whole when the kernel merges packets, and
// they were merged.
func TestGROTransfer(t *testing.T) {
	for _, c := range merging {
		t.Run(c.name, func(t *testing.T) {
			top := pair(t)
			mergeAt(t, top.B, top.LinkB, top.A, top.LinkA, c.features...)
			ea, eb := ends(top)
			a, b := tunnel(t, ea), tunnel(t, eb)
			size := medium()
			if c.features == nil {
				size = large()
			}
			transfer(t, a.ns, b.ns, innerB, size)
			s := b.wire.Stats()
			if s.LongerMTU == 0 || s.Merged == 0 {
				t.Errorf("%+v: nothing was merged, so nothing was tested", s)
			}
			t.Logf("%+v", s)
			a.drops(t, fullRing)
			b.drops(t)
		})
	}
}

// TestGROOff: the same without.
func TestGROOff(t *testing.T) {
	top := pair(t)
	must(t, top.B.SetFeature(top.LinkB, "gro", false), top.A.SetFeature(top.LinkA, "tso", false))
	ea, eb := ends(top)
	a, b := tunnel(t, ea), tunnel(t, eb)
	transfer(t, a.ns, b.ns, innerB, large())
	if s := b.wire.Stats(); s.Merged != 0 || s.LongerMTU != 0 {
		t.Errorf("%+v", s)
	}
	if s := b.dev.Stats(); s.Joined == 0 {
		t.Errorf("%+v: our own joining did nothing", s)
	}
	a.drops(t)
	b.drops(t)
}

// TestGRODatagrams: merged UDP is cut where its sender had cut it. The kernel is
// asked from the first merged packet on, which is lost, and counted.
func TestGRODatagrams(t *testing.T) {
	for _, c := range merging {
		if !c.udp {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			top := pair(t)
			mergeAt(t, top.B, top.LinkB, top.A, top.LinkA, c.features...)
			must(t, top.B.SetGRODefer(top.LinkB, 2_000_000, 10)) // a burst together
			ea, eb := ends(top)
			a, b := tunnel(t, ea), tunnel(t, eb)
			from, to := udp(t, a.ns, innerA, 1000), udp(t, b.ns, innerB, 2000)
			merged := func() uint64 { return b.wire.Stats().Merged }
			eventually(t, "a burst is merged", func() bool {
				for i := range 16 {
					_, _ = from.WriteTo(datagram(i, 1000), to.LocalAddr())
				}
				return merged() > 0
			})
			settled(t, to)
			lost, before := b.eng.Stats().Drops[encap.DropMergedUDP], merged()
			const count = 1000
			for _, n := range []int{1000, 1432, 33} {
				datagrams(t, from, to, count, 20, n)
			}
			if now := merged(); now-before < uint64(count)/20 {
				t.Errorf("%d merged reads", now-before)
			}
			if now := b.eng.Stats().Drops[encap.DropMergedUDP]; now != lost {
				t.Errorf("%d merged packets could not be cut after the kernel had been asked", now-lost)
			}
			t.Logf("%d lost before the kernel was asked, %d merged reads", lost, merged())
			a.drops(t)
			b.drops(t, encap.DropMergedUDP)
		})
	}
}

// TestGROForwarded: merged packets go on to a third host over a link with a
// smaller MTU; its connections have segments that fit.
func TestGROForwarded(t *testing.T) {
	for _, c := range []struct {
		name string
		mtu  int
		size int64
	}{{"MTU 1400", 1400, large()}, {"MTU 1280", 1280, medium()}, {"MTU 1500", 1500, large() / 10}} {
		t.Run(c.name, func(t *testing.T) {
			top := pair(t)
			mergeAt(t, top.B, top.LinkB, top.A, top.LinkA)
			ea, eb := ends(top)
			a, b := tunnel(t, ea), tunnel(t, eb)
			third := behind(t, b.ns, c.mtu)
			transfer(t, a.ns, third, innerC, c.size)
			if s := b.wire.Stats(); s.LongerMTU == 0 || s.Merged == 0 {
				t.Errorf("%+v: nothing was merged, so nothing was tested", s)
			}
			transfer(t, third, a.ns, innerA, c.size/10)
			a.drops(t, fullRing)
			b.drops(t)
		})
	}
}
