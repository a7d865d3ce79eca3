package engine

import (
	"net/netip"
	"testing"

	"sixin4/encap"
	"sixin4/encap/packet"
)

// TestDirect: every packet of a batch gets the peer of its own destination, whoever the
// packet before was for.
func TestDirect(t *testing.T) {
	table := mustTable(t, hubTable(4))
	nobody := netip.MustParseAddr("2001:db8:ffff::1")
	b := packet.NewBatch(BatchSize)
	for _, dst := range []netip.Addr{hubHost(0), hubHost(0), hubHost(1), hubHost(0), nobody, nobody, hubHost(2), {}, hubHost(2), hubHost(3)} {
		buf := make([]byte, packet.Headroom, packet.Headroom+128)
		if dst.IsValid() { // else one that is cut short
			buf = append(buf, udp(host6, dst, 1, 100)...)
		}
		b.Next().Set(buf, packet.Headroom, nil)
	}
	table.direct(b)
	seen := map[int32]bool{}
	for i := range b.Packets {
		p, want := &b.Packets[i], none
		if len(p.Head()) > 0 {
			want = table.way(encap.IPv6(p.Head()))
		}
		if p.Mark != want {
			t.Errorf("packet %d: peer %d, want %d", i, p.Mark, want)
		}
		seen[p.Mark] = true
	}
	if len(seen) != 5 {
		t.Errorf("%d different peers, want 4 and none", len(seen))
	}
}
