//go:build !race

package pathmtu

import "testing"

// The race detector allocates on its own, so that this file is left out there.

func TestNoAllocations(t *testing.T) {
	var s State
	now, sum := int64(0), 0
	if n := testing.AllocsPerRun(100, func() {
		now += second
		s.Learn(now, 1400, 1500, 1500)
		s.Limit(1450)
		sum += int(s.Get(now, 1500))
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkGet(b *testing.B) {
	var s State
	s.Learn(0, 1400, 1500, 1500)
	b.ReportAllocs()
	for b.Loop() {
		s.Get(second, 1500)
	}
}
