package daemon

import (
	"log/slog"
	"testing"

	"sixin4/tun/nstest"
)

var discard = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) { nstest.Main(m) }
