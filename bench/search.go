package bench

import "math"

// search finds the highest rate that a trial still passes, as RFC 2544, Section
// 26.1, asks for, in two steps: by growing strides from a first guess to a rate
// that passes and one that does not, then by halving what is between them.
type search struct {
	start    float64 // first guess
	min, max float64 // 0 < min <= start <= max
	fine     float64 // done when the failing rate is at most this times the passing one; above 1
}

// firstStride is the factor from the first guess to the next; each further
// stride is the square of the one before it.
const firstStride = 1.25

// run returns the highest rate that passed, 0 when not even min did. It ends
// with the first error of a trial.
func (s search) run(trial func(rate float64) (passed bool, err error)) (float64, error) {
	good, bad, err := s.bracket(trial)
	if err != nil || good == 0 || bad == 0 {
		return good, err
	}
	for bad > good*s.fine {
		middle := math.Sqrt(good * bad)
		passed, err := trial(middle)
		if err != nil {
			return 0, err
		}
		if passed {
			good = middle
		} else {
			bad = middle
		}
	}
	return good, nil
}

// bracket returns a rate that passes, or 0, and a higher one that does not, or 0
// when max passes.
func (s search) bracket(trial func(rate float64) (bool, error)) (good, bad float64, err error) {
	rate, stride := s.start, firstStride
	for {
		passed, err := trial(rate)
		if err != nil {
			return 0, 0, err
		}
		if passed {
			good = rate
		} else {
			bad = rate
		}
		if good != 0 && bad != 0 || passed && rate >= s.max || !passed && rate <= s.min {
			return good, bad, nil
		}
		if passed {
			rate = min(rate*stride, s.max)
		} else {
			rate = max(rate/stride, s.min)
		}
		stride *= stride
	}
}
