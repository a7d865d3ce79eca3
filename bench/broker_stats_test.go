package bench

import (
	"math"
	"testing"
)

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestQuantile(t *testing.T) {
	for _, tt := range []struct{ q, want float64 }{{0, 1}, {0.5, 3}, {0.99, 5}, {1, 5}} {
		if got := quantile([]float64{5, 1, 4, 2, 3}, tt.q); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.q, got, tt.want)
		}
	}
}

func TestSlope(t *testing.T) {
	for _, tt := range []struct {
		name string
		x, y []float64
		want float64
	}{
		{"a line", []float64{1, 2, 3}, []float64{10, 12, 14}, 2},
		{"flat", []float64{1, 2, 3}, []float64{7, 7, 7}, 0},
		{"around a line", []float64{0, 1, 2, 3}, []float64{1, 0, 3, 2}, 0.6},
		{"one point", []float64{1}, []float64{10}, 0},
	} {
		if got := slope(tt.x, tt.y); !near(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestRankCorrelation(t *testing.T) {
	for _, tt := range []struct {
		name string
		a, b []float64
		want float64
	}{
		{"one order", []float64{1, 5, 9}, []float64{20, 30, 31}, 1},
		{"the other way round", []float64{1, 5, 9}, []float64{3, 2, 1}, -1},
		{"two changed places", []float64{1, 2, 3, 4}, []float64{1, 3, 2, 4}, 0.8},
		{"one", []float64{1}, []float64{1}, 1},
	} {
		if got := rankCorrelation(tt.a, tt.b); !near(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestKolmogorov(t *testing.T) {
	for _, tt := range []struct {
		name string
		a, b []float64
		want float64
	}{
		{"the same", []float64{1, 2, 2, 3}, []float64{3, 2, 1, 2}, 0},
		{"nothing in common", []float64{1, 2}, []float64{3, 4, 5}, 1},
		{"one behind the other", []float64{1, 2, 3, 4}, []float64{2, 3, 4, 5}, 0.25},
		{"half", []float64{1, 1, 9, 9}, []float64{1, 1, 1, 1}, 0.5},
	} {
		got, chance := kolmogorov(tt.a, tt.b)
		if !near(got, tt.want) || chance <= 0 {
			t.Errorf("%s: %v, want %v (%v)", tt.name, got, tt.want, chance)
		}
	}
	if _, chance := kolmogorov(make([]float64, 2000), make([]float64, 2000)); math.Abs(chance-0.0515) > 0.0001 {
		t.Errorf("chance %v", chance) // 1.628 sqrt(2/2000)
	}
}
