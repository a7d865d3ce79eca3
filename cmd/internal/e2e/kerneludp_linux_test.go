package e2e

import (
	"testing"

	"sixin4/tun/nstest"
)

func inUDP(top *nstest.Topology) (a, b end) {
	a, b = ends(top)
	a.port, b.port = 4000, 3653
	a.farPort, b.farPort = b.port, a.port
	return a, b
}

// TestKernelUDPTransfer is TestKernelTransfer for tunnels in UDP.
func TestKernelUDPTransfer(t *testing.T) {
	for _, c := range []struct {
		name  string
		setUp func(t *testing.T, top *nstest.Topology)
		alone bool // B has only its engine
	}{
		{"plain", nil, false},
		{"GRO", func(t *testing.T, top *nstest.Topology) { mergeAt(t, top.B, top.LinkB, top.A, top.LinkA) }, false},
		{"rx-udp-gro-forwarding", func(t *testing.T, top *nstest.Topology) {
			mergeAt(t, top.B, top.LinkB, top.A, top.LinkA, "rx-udp-gro-forwarding")
		}, false},
		{"rx-gro-list", func(t *testing.T, top *nstest.Topology) {
			mergeAt(t, top.B, top.LinkB, top.A, top.LinkA, "rx-gro-list")
		}, false},
		{"no TSO", func(t *testing.T, top *nstest.Topology) { off(t, top, "tso") }, false},
		{"no segmentation of tunnels", func(t *testing.T, top *nstest.Topology) { off(t, top, "tx-udp_tnl-segmentation") }, false},
		{"no offload", func(t *testing.T, top *nstest.Topology) {
			off(t, top, "tx-udp_tnl-segmentation", "tso", "tx", "sg")
		}, false},
		{"engine at the far end", nil, true},
		{"engine at the far end, no offload", func(t *testing.T, top *nstest.Topology) { off(t, top, "tso", "tx", "sg") }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			size := uint64(medium() / 5)
			sa, sb := bothWays(t, c.setUp, inUDP, c.alone, int64(size))
			if sa.Tx.Bytes < size || sa.Tx.Packets < size/1472 {
				t.Errorf("the kernel carried only %+v", sa)
			}
			if !c.alone && (sb.Rx.Bytes < size || sb.Tx.Bytes < size/5 || sa.Rx.Bytes < size/5 || sb.LastHeard.IsZero()) {
				t.Errorf("the kernel carried only %+v and %+v", sa, sb)
			}
		})
	}
}

// off takes what the links' ends can do for a sender from both of them.
func off(t testing.TB, top *nstest.Topology, features ...string) {
	t.Helper()
	for _, f := range features {
		must(t, top.A.SetFeature(top.LinkA, f, false), top.B.SetFeature(top.LinkB, f, false))
	}
}
