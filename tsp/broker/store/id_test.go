package store

import (
	"testing"
	"time"
)

func TestNewID(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 123_456_789, time.UTC)
	id := NewID(now)
	// 0x01a20846fe7b is that time in milliseconds, 0x74f (1871) is 0.456789 times 4096.
	if want := "01a20846-fe7b-774f-"; id[:19] != want || len(id) != 36 {
		t.Errorf("%s, want %s...", id, want)
	}
	last, seen := "", map[string]bool{}
	for range 100_000 {
		id := NewID(now)
		if id[:19] < last || id[14] != '7' || id[19] < '8' || id[19] > 'b' && id[19] != '9' || seen[id] {
			t.Fatalf("%s after %s...", id, last)
		}
		last, seen[id] = id[:19], true
		now = now.Add(100 * time.Nanosecond)
	}
}
