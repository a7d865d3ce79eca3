package bench

import (
	"errors"
	"testing"
)

func TestSearch(t *testing.T) {
	for _, test := range []struct {
		name      string
		search    search
		capacity  float64 // trials up to it pass
		low, high float64 // where the result must lie
	}{
		{"above the guess", search{1000, 10, 1e6, 1.05}, 50_000, 50_000 / 1.05, 50_000},
		{"far above the guess", search{10, 10, 1e7, 1.05}, 3e6, 3e6 / 1.05, 3e6},
		{"below the guess", search{100_000, 10, 1e6, 1.05}, 700, 700 / 1.05, 700},
		{"the guess itself", search{500, 10, 1e6, 1.05}, 500, 500, 500},
		{"coarse", search{1000, 10, 1e6, 2}, 5000, 2500, 5000},
		{"all pass", search{1000, 10, 4000, 1.05}, 1e9, 4000, 4000},
		{"none passes", search{1000, 10, 4000, 1.05}, 1, 0, 0},
		{"only the least passes", search{1000, 10, 4000, 1.05}, 10, 10, 10},
		{"guess is the greatest", search{4000, 10, 4000, 1.05}, 1e9, 4000, 4000},
	} {
		t.Run(test.name, func(t *testing.T) {
			trials := 0
			got, err := test.search.run(func(rate float64) (bool, error) {
				trials++
				if rate < test.search.min || rate > test.search.max {
					t.Errorf("tried %v, outside %v to %v", rate, test.search.min, test.search.max)
				}
				return rate <= test.capacity, nil
			})
			if err != nil || got < test.low || got > test.high {
				t.Errorf("got %v, %v, want %v to %v", got, err, test.low, test.high)
			}
			if trials > 20 {
				t.Errorf("%d trials", trials)
			}
		})
	}
}

func TestSearchEndsWithError(t *testing.T) {
	boom := errors.New("boom")
	for _, failing := range []int{1, 2, 5} { // while striding, while halving
		trials := 0
		_, err := search{1000, 10, 1e6, 1.01}.run(func(rate float64) (bool, error) {
			trials++
			if trials == failing {
				return false, boom
			}
			return rate <= 1100, nil
		})
		if !errors.Is(err, boom) || trials != failing {
			t.Errorf("trial %d: error %v after %d", failing, err, trials)
		}
	}
}
