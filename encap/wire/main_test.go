package wire

import (
	"testing"
	"time"

	"sixin4/tun/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// limit is how long anything here may take that takes milliseconds.
const limit = 20 * time.Second

// within returns what comes out of c, in time.
func within[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	return nstest.Within(t, limit, what, c)
}
