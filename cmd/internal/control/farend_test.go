package control

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestFarEndText(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		name   string
		tunnel Tunnel
		want   string
	}{
		{"not asked", Tunnel{Name: "six0", State: "up"}, ""},
		{"up", Tunnel{FarEnd: &FarEnd{Address: "2001:db8::1", State: "up", Since: now.Add(-90 * time.Second), Sent: 12, Answered: 10, RTT: 0.0123}},
			"  far end   2001:db8::1 up for 1m30s, 10 of 12 requests answered, the last in 12.3 ms\n"},
		{"never answered", Tunnel{FarEnd: &FarEnd{Address: "2001:db8::1", State: "down", Sent: 3}},
			"  far end   2001:db8::1 down, 0 of 3 requests answered\n"},
		{"searching", Tunnel{PathMTU: &PathMTU{Address: "2001:db8::1", Phase: "searching", MTU: 1380}},
			"  path      1380 bytes so far, asking 2001:db8::1 for more\n"},
		{"found", Tunnel{PathMTU: &PathMTU{Address: "2001:db8::1", Phase: "complete", MTU: 1380}},
			"  path      carries 1380 bytes, as 2001:db8::1 answers\n"},
		{"silent", Tunnel{PathMTU: &PathMTU{Address: "2001:db8::1", Phase: "silent", MTU: 1280}},
			"  path      1280 bytes, because 2001:db8::1 does not answer\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := (Status{Tunnels: []Tunnel{tt.tunnel}}).WriteText(&b, now); err != nil {
				t.Fatal(err)
			}
			var got string
			for line := range strings.Lines(b.String()) {
				if strings.Contains(line, "  far end") || strings.Contains(line, "  path") {
					got += line
				}
			}
			if got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}
