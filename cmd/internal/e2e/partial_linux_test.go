package e2e

import "testing"

// TestPartialChecksums: a peer that leaves all checksums undone, in packets that
// nobody merges, talks to a socket here and to a third host.
func TestPartialChecksums(t *testing.T) {
	for _, c := range []struct {
		name  string
		ports bool
		size  int64
	}{{"fast", false, medium()}, {"portable", true, medium() / 5}} {
		t.Run(c.name, func(t *testing.T) {
			top := pair(t)
			must(t, top.B.SetFeature(top.LinkB, "gro", false))
			s := newSloppy(t, top)
			_, eb := ends(top)
			eb.ports = c.ports
			b := tunnel(t, eb)
			third := behind(t, b.ns, 1500)
			// A link that computes no checksums itself: the third host sees real ones.
			must(t, b.ns.SetFeature("lan0", "tx", false))

			transfer(t, s.ns, b.ns, innerB, c.size)
			transfer(t, s.ns, third, innerC, medium()/5)
			n := 300
			for _, size := range []int{4, 7, 8, 1400} {
				datagrams(t, udp(t, s.ns, innerA, uint16(1000+size)), udp(t, b.ns, innerB, uint16(1000+size)), n, 10, size)
				datagrams(t, udp(t, s.ns, innerA, uint16(3000+size)), udp(t, third, innerC, uint16(3000+size)), n, 10, size)
			}
			transfer(t, third, s.ns, innerA, medium()/20)
			if got := s.partial.Load(); got < c.size/1480 {
				t.Errorf("only %d packets had their checksum undone", got)
			}
			if w := b.wire.Stats(); w.Merged != 0 || w.LongerMTU != 0 {
				t.Errorf("%+v: this was not to be about merged packets", w)
			}
			b.drops(t)
		})
	}
}
