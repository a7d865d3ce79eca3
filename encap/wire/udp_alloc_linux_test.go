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
