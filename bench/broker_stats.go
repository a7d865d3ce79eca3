package bench

import (
	"cmp"
	"math"
	"slices"
)

// quantile is the value that a share q of them do not exceed; there is at least one.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// slope is by how much y grows with x, by least squares; 0 when x does not vary.
func slope(x, y []float64) float64 {
	mx, my := mean(x), mean(y)
	var over, under float64
	for i := range x {
		over += (x[i] - mx) * (y[i] - my)
		under += (x[i] - mx) * (x[i] - mx)
	}
	if under == 0 {
		return 0
	}
	return over / under
}

func mean(values []float64) float64 {
	sum := 0.
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// rankCorrelation is Spearman's: 1 when both are in one order, 0 when they have nothing
// to do with each other; 1 for less than two.
func rankCorrelation(a, b []float64) float64 {
	n := float64(len(a))
	if n < 2 {
		return 1
	}
	ra, rb := ranks(a), ranks(b)
	sum := 0.
	for i := range ra {
		sum += (ra[i] - rb[i]) * (ra[i] - rb[i])
	}
	return 1 - 6*sum/(n*(n*n-1))
}

// ranks is the place of each value in their order.
func ranks(values []float64) []float64 {
	order := make([]int, len(values))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(values[i], values[j]) })
	r := make([]float64, len(values))
	for place, i := range order {
		r[i] = float64(place)
	}
	return r
}

// kolmogorov is the greatest distance between the distributions of two samples, and
// what chance alone exceeds once in a hundred times.
func kolmogorov(a, b []float64) (distance, chance float64) {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	n, m := float64(len(a)), float64(len(b))
	for i, j := 0, 0; i < len(a) && j < len(b); {
		v := min(a[i], b[j])
		for i < len(a) && a[i] == v {
			i++
		}
		for j < len(b) && b[j] == v {
			j++
		}
		distance = max(distance, math.Abs(float64(i)/n-float64(j)/m))
	}
	return distance, 1.628 * math.Sqrt((n+m)/(n*m))
}
