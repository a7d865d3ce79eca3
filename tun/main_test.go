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
	nstest.Eventually(t, limit, what, cond)
}

// within returns what comes out of c, in time.
func within[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	return nstest.Within(t, limit, what, c)
}
