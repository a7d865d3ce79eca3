package daemon

import "time"

// rhythm learns how long a tunnel in UDP may be idle before the NAT on the way forgets
// it. It begins with the interval that the broker gave, and never goes beyond that.
//
// A first request that was lost after an idle time, and one behind it that was not, say
// that the time was too long. An answer to the first says that it was not. Between the two
// it goes up by halves, until little is left to gain. One lost packet may be no NAT's
// doing, so what was too long is tried again after many good ones.
type rhythm struct {
	most time.Duration // the broker's
	now  time.Duration // in use
	good time.Duration // the longest that was good; 0: none was
	bad  time.Duration // the shortest that was not; 0: none
	same int           // good ones in a row with nothing left to gain
}

const (
	// leastRhythm is the shortest interval that is tried, if the broker's is not shorter.
	leastRhythm = 5 * time.Second
	// rhythmAgain is how many good ones it takes until what was too long is tried again.
	rhythmAgain = 64
)

func newRhythm(most time.Duration) rhythm { return rhythm{most: most, now: most} }

// held notes that the first request after an idle time was answered.
func (r *rhythm) held() {
	r.good = max(r.good, r.now)
	if r.bad == 0 {
		return
	}
	if r.bad-r.good > r.bad/8 {
		r.now = r.good + (r.bad-r.good)/2
		return
	}
	r.now = r.good
	if r.same++; r.same < rhythmAgain {
		return
	}
	r.same = 0
	if r.bad += r.bad / 4; r.bad > r.most {
		r.bad, r.now = 0, r.most
	}
}

// broke notes that the first request after an idle time was lost, and the next was not.
func (r *rhythm) broke() {
	r.same, r.bad = 0, r.now
	if r.good >= r.bad {
		r.good = 0
	}
	r.now = r.good
	if r.now == 0 {
		r.now = max(r.bad/2, min(leastRhythm, r.most))
	}
}
