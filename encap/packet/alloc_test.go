//go:build !race

package packet_test

import (
	"testing"

	"sixin4/encap/packet"
)

// The race detector allocates on its own, so that this file is left out there.

func TestNoAllocations(t *testing.T) {
	var sum uint64
	batch, buf, dst := packet.NewBatch(4), make([]byte, 1500), make([]byte, 0, 2000)
	if n := testing.AllocsPerRun(100, func() {
		batch.Reset()
		for p := batch.Next(); p != nil; p = batch.Next() {
			p.Set(buf, packet.Headroom, buf[:100])
			p.Push(20)
			p.Trim(1000)
			p.Pull(20)
			sum = packet.AddBytes(packet.PseudoHeader(p.Head(), 6, p.Len()), p.Head())
			dst = p.AppendTo(dst[:0])
		}
	}); n != 0 || packet.Fold(sum) == 1 {
		t.Errorf("%v allocations", n)
	}
}
