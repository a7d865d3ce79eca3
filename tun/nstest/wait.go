package nstest

import "time"

// Eventually polls until cond holds, and fails the test when it does not within
// limit. It must be called from the goroutine of the test.
func Eventually(tb TB, limit time.Duration, what string, cond func() bool) {
	tb.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(limit); !cond(); <-tick.C {
		if time.Now().After(until) {
			tb.Fatalf("%s: not after %v", what, limit)
		}
	}
}

// Within returns what comes out of c, and fails the test when nothing does within
// limit. It must be called from the goroutine of the test.
func Within[T any](tb TB, limit time.Duration, what string, c <-chan T) T {
	tb.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(limit):
		tb.Fatalf("%s: not after %v", what, limit)
		panic("unreachable")
	}
}
