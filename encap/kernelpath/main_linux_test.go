package kernelpath

import (
	"testing"

	"sixin4/tun/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }
