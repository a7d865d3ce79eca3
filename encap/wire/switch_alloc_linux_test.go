//go:build !race

package wire

import (
	"testing"

	"sixin4/encap/packet"
)

// TestSwitchNoAllocations: nor does a switch in between cost one, with a link and
// without.
func TestSwitchNoAllocations(t *testing.T) {
	top := pair(t)
	a := switchOn(t, listen(t, top.A, Config{Local: top.AddrA}))
	b := switchOn(t, listen(t, top.B, Config{Local: top.AddrB}))
	var w Writer
	if err := top.B.Do(func() (err error) { w, err = b.NewWriter(); return err }); err != nil {
		t.Fatal(err)
	}
	var packets [][]byte
	for i := range 32 {
		packets = append(packets, fromB(uint16(i+1), tcp(1000)))
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
		t.Errorf("%v allocations for 32 packets", n)
	}
	set(t, b, nil)
	n = testing.AllocsPerRun(50, func() {
		if n, err := w.Write(out); n != 0 || err == nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for 32 packets without a link", n)
	}
}
