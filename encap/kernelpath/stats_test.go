package kernelpath

import (
	"testing"
	"time"
)

// TestStatsPlus sums every counter, and takes the later time, whichever comes first.
func TestStatsPlus(t *testing.T) {
	a := Stats{Tx: Count{1, 2}, Rx: Count{3, 4}, LastHeard: time.Unix(5, 0), TxLost: 6, RxLost: 7, TxWhole: 8, RxWhole: 9}
	b := Stats{Tx: Count{10, 20}, Rx: Count{30, 40}, LastHeard: time.Unix(50, 0), TxLost: 60, RxLost: 70, TxWhole: 80, RxWhole: 90}
	want := Stats{Tx: Count{11, 22}, Rx: Count{33, 44}, LastHeard: time.Unix(50, 0), TxLost: 66, RxLost: 77, TxWhole: 88, RxWhole: 99}
	for _, got := range []Stats{a.Plus(b), b.Plus(a)} {
		if got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}
