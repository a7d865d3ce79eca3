//go:build !race

package wire

import (
	"testing"

	"sixin4/encap/packet"
)

// The race detector allocates on its own, so that this file is left out there.

// TestNoAllocations: neither way costs an allocation a packet, single or with a
// partial checksum.
func TestNoAllocations(t *testing.T) {
	top := pair(t)
	a := listen(t, top.A, Config{Local: top.AddrA})
	w := newWriter(t, top.B, listen(t, top.B, Config{Local: top.AddrB}))
	for name, inner := range map[string][]byte{"TCP": tcp(1000), "TCP, undone": partial(tcp(1000)), "UDP": udp(1)} {
		var packets [][]byte
		for i := range 32 {
			packets = append(packets, fromB(uint16(i+1), inner))
		}
		out, in := batchOf(packets...), packet.NewBatch(BatchSize)
		n := testing.AllocsPerRun(50, func() {
			if n, err := w.Write(out); n != 32 {
				t.Fatal(err)
			}
			for got := 0; got < 32; got += in.Len() {
				if err := a.Reader().Read(in); err != nil {
					t.Fatal(err)
				}
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations for 32 packets", name, n)
		}
	}
}
