package tun

import (
	"os"
	"testing"
	"time"

	"sixin4/tun/nstest"
)

// childRole in the environment makes the test binary a child that a test starts.
const childRole = "TUN_TEST_CHILD"

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		os.Exit(runChild(role))
	}
	nstest.Main(m)
}

// limit is how long anything here may take that takes milliseconds.
const limit = 20 * time.Second

// eventually polls until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(limit); !cond(); <-tick.C {
		if time.Now().After(until) {
			t.Fatalf("%s: not after %v", what, limit)
		}
	}
}

// within returns what comes out of c, in time.
func within[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(limit):
		t.Fatalf("%s: not after %v", what, limit)
		panic("unreachable")
	}
}
