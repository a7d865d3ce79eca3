package bench

import "testing"

// TestDropLines: the files of the kernel are read as it writes them.
func TestDropLines(t *testing.T) {
	for _, tt := range []struct {
		line string
		of   func(string) float64
		want float64
	}{
		{" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed", deviceDrops, 0},
		{" tspd0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16", deviceDrops, 12},
		{"  veth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16", deviceDrops, 0},
		{" tspd0: 1 2", deviceDrops, 0},
		{"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops", lastNumber, 0},
		{"  41: 00000000:0029 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 5 2 0000000000000000 17", lastNumber, 17},
		{"", lastNumber, 0},
	} {
		if got := tt.of(tt.line); got != tt.want {
			t.Errorf("%q: %v, want %v", tt.line, got, tt.want)
		}
	}
}
