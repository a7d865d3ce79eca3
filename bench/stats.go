package bench

import (
	"math"
	"slices"
)

// Figure is one quantity, measured in several rounds.
type Figure struct {
	Unit   string    `json:"unit"`
	Rounds []float64 `json:"rounds"` // in the order they were measured
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
}

func newFigure(unit string, rounds []float64) Figure {
	return Figure{
		Unit: unit, Rounds: rounds,
		Median: median(rounds), Min: slices.Min(rounds), Max: slices.Max(rounds),
	}
}

// median of at least one value; of an even number, the mean of the middle two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// ratio is the median of a/b taken round by round, so that what disturbed both
// in one round cancels out. ok is false when no round allows it.
func ratio(a, b []float64) (r float64, ok bool) {
	var each []float64
	for i := range min(len(a), len(b)) {
		if q := a[i] / b[i]; b[i] != 0 && !math.IsNaN(q) {
			each = append(each, q)
		}
	}
	if len(each) == 0 {
		return 0, false
	}
	return median(each), true
}
