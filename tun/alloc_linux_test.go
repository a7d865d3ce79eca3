//go:build !race

package tun

import (
	"slices"
	"testing"

	"sixin4/encap/packet"
)

// The race detector allocates on its own, so that this file is left out there.

// TestNoAllocations: neither way costs an allocation a packet or a batch, once
// it has begun.
func TestNoAllocations(t *testing.T) {
	k := kernel{discard: true}
	w := newTestWriter(t, &k)
	b := benchBatch()
	first := slices.Clone(b.Packets[0].Head()[:72])
	undone := batchOf(setPartial(udp6(pattern(5000, 0))))
	undone.Packets[0].Seg, undone.Packets[0].Sum = 1000, packet.SumPartial
	plain := newTestWriter(t, &k)
	plain.d.features.USO6 = false

	super := setPartial(tcp6(1, pattern(60_000, 0)))
	var s splitter
	out, heads := packet.NewBatch(BatchSize), make([]byte, BatchSize*headRoom)

	r, send := feedRaw(t)
	gso := vnetHdr{flags: 1, gsoType: gsoTCPv6, gsoSize: 1400, csumStart: 40, csumOffset: 16}
	raw := append(make([]byte, vnetLen), super...)
	gso.encode(raw)
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"join and write", func() { copy(b.Packets[0].Head(), first); w.Write(b) }},
		{"write merged", func() { w.Write(undone) }},
		{"write merged without USO", func() { plain.Write(undone) }},
		{"split", func() {
			s.begin(super, 1400, true)
			for s.more() {
				out.Reset()
				s.emit(out, heads)
			}
		}},
		{"read", func() { send(raw); r.Read(out) }},
	} {
		if n := testing.AllocsPerRun(100, c.f); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
	if s := w.d.Stats(); s.Joined < 100*44 || r.d.Stats().Split < 100 {
		t.Errorf("this was not about joined and split packets: %+v, %+v", s, r.d.Stats())
	}
}
