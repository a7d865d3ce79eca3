package bench

import "testing"

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		name   string
		values []float64
		want   float64
	}{
		{"one", []float64{7}, 7},
		{"odd, out of order", []float64{9, 1, 5}, 5},
		{"even", []float64{4, 1, 3, 2}, 2.5},
		{"outlier", []float64{1, 1, 1, 1, 1000}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := median(test.values); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestFigureKeepsRounds(t *testing.T) {
	f := newFigure("Gbit/s", []float64{3, 1, 2})
	if f.Median != 2 || f.Min != 1 || f.Max != 3 || f.Rounds[0] != 3 {
		t.Errorf("got %+v, want median 2 of 1 to 3 and the rounds in order", f)
	}
}

func TestRatio(t *testing.T) {
	for _, test := range []struct {
		name string
		a, b []float64
		want float64
		ok   bool
	}{
		// The second round was slow for both; of the medians it would be 3.
		{"by round", []float64{20, 3, 30}, []float64{10, 1, 10}, 3, true},
		{"a slow round cancels out", []float64{20, 2, 2}, []float64{10, 1, 1}, 2, true},
		{"a round without a base is left out", []float64{5, 4}, []float64{0, 2}, 2, true},
		{"no base", []float64{5}, []float64{0}, 0, false},
		{"nothing", nil, []float64{1}, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok := ratio(test.a, test.b)
			if got != test.want || ok != test.ok {
				t.Errorf("got %v, %t, want %v, %t", got, ok, test.want, test.ok)
			}
		})
	}
}
