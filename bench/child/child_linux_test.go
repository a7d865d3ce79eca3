package child

import (
	"testing"
	"time"
)

func TestCPUTime(t *testing.T) {
	for _, test := range []struct {
		name, stat string
		want       time.Duration
		ok         bool
	}{
		{"plain", "7 (sixin4) S 1 7 7 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 5 0", 1750 * time.Millisecond, true},
		{"a name with spaces and brackets", "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 1 2 0 0 20", 30 * time.Millisecond, true},
		{"short", "7 (sixin4) S 1 7", 0, false},
		{"empty", "", 0, false},
		{"no number", "7 (sixin4) S 1 7 7 0 -1 4194560 100 0 0 0 x 25 0 0", 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := cpuTime([]byte(test.stat))
			if got != test.want || (err == nil) != test.ok {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
		})
	}
}

func TestPeakRSS(t *testing.T) {
	got, err := peakRSS("Name:\tsixin4\nVmPeak:\t  99 kB\nVmHWM:\t  2048 kB\nVmRSS:\t  100 kB\n")
	if err != nil || got != 2<<20 {
		t.Errorf("got %d, %v, want 2 MiB", got, err)
	}
	for _, bad := range []string{"", "VmHWM:", "VmHWM:\tmuch kB"} {
		if _, err := peakRSS(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
