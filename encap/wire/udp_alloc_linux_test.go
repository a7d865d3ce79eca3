//go:build !race

package wire

import (
	"testing"

	"sixin4/encap/packet"
)

// The race detector allocates on its own, so that this file is left out there.

// TestUDPNoAllocations: neither way costs an allocation a packet, in one piece or not,
// nor does control that nobody takes.
func TestUDPNoAllocations(t *testing.T) {
	for name, cfg := range map[string]UDPConfig{"in one piece": {}, "one by one": {Unsegmented: true}} {
		p := newUDPPair(t, cfg, cfg)
		for way, c := range map[string]struct {
			from, to *UDP
			make     func(byte, []byte) []byte
		}{"up": {p.client, p.server, p.up}, "down": {p.server, p.client, p.down}} {
			w, err := c.from.NewWriter()
			if err != nil {
				t.Fatal(err)
			}
			const n = 100
			var packets [][]byte
			for i := range n {
				packets = append(packets, c.make(byte(i/50), numbered(i, 1400)))
			}
			out, in := batchOf(append(packets, c.make(0, hello(1, 60)))...), packet.NewBatch(128)
			allocs := testing.AllocsPerRun(200, func() {
				if sent, err := w.Write(out); sent != n+1 {
					t.Fatal(err)
				}
				for got := 0; got < n; got += in.Len() {
					if err := c.to.Reader().Read(in); err != nil {
						t.Fatal(err)
					}
				}
			})
			if allocs != 0 {
				t.Errorf("%s %s: %v allocations for %d packets", name, way, allocs, n)
			}
		}
	}
}

// TestUDPInspectNoAllocations: nor does a checksum that was left undone, of which the
// kernel is asked, nor TCP in one piece.
func TestUDPInspectNoAllocations(t *testing.T) {
	p := newUDPPair(t, UDPConfig{Unsegmented: true}, UDPConfig{})
	w, err := p.client.NewWriter()
	if err != nil {
		t.Fatal(err)
	}
	var packets [][]byte
	for i := range 32 {
		packets = append(packets, p.up(0, partial(tcp(1000+i))))
	}
	out, in := batchOf(packets...), packet.NewBatch(BatchSize)
	allocs := testing.AllocsPerRun(50, func() {
		if _, err := w.Write(out); err != nil {
			t.Fatal(err)
		}
		for got := 0; got < len(packets); got += in.Len() {
			if err := p.server.Reader().Read(in); err != nil {
				t.Fatal(err)
			}
		}
	})
	if allocs != 0 || !p.server.reader.hints.bound || in.Packets[0].Sum != packet.SumPartial {
		t.Errorf("%v allocations for %d undone checksums", allocs, len(packets))
	}

	merged := partial(tcp(60_000))
	_, r := scripted(t, UDPConfig{}, merged)
	r.know(t, merged, hint{kind: gsoTCP6, size: 1400})
	known := r.hints.ring[0]
	allocs = testing.AllocsPerRun(50, func() {
		r.hints.ring[0] = known
		if err := r.Read(in); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 || in.Packets[0].Seg != 1400 {
		t.Errorf("%v allocations for TCP in one piece", allocs)
	}
}
