package tsp_test

import (
	"net/netip"
	"testing"
	"time"

	"sixin4/tsp"
)

func TestReplies(t *testing.T) {
	now := time.Unix(1_000_000_000, 0)
	head := func(sequence, timestamp uint32) tsp.Header {
		return tsp.Header{Word: 0xf0000000 | sequence&0x0fffffff, Timestamp: timestamp}
	}
	r := tsp.NewReplies(tsp.RepliesConfig{})
	check := func(want tsp.Verdict, answer string, h tsp.Header, text string) {
		t.Helper()
		got, b := r.Check(now, client, h, []byte(text))
		if got != want || string(b) != answer {
			t.Errorf("verdict %d with %q, want %d with %q", got, b, want, answer)
		}
	}
	check(tsp.Fresh, "", head(0xf0, 1), "a")
	check(tsp.Pending, "", head(0xf0, 2), "a")
	if got := r.Answer(client, head(0xf0, 1), []byte("A")); string(got) != "\xf0\x00\x00\xf0\x00\x00\x00\x01A" {
		t.Errorf("%q", got)
	}
	check(tsp.Duplicate, "\xf0\x00\x00\xf0\x00\x00\x00\x02A", head(0xf0, 2), "a")
	check(tsp.Fresh, "", head(0xf0, 3), "b") // a new session on the same port
	r.Answer(client, head(0xf0, 3), nil)
	check(tsp.Duplicate, "\xf0\x00\x00\xf0\x00\x00\x00\x04", head(0xf0, 4), "b")
	check(tsp.Fresh, "", head(0xf1, 5), "b")
	r.Answer(client, head(0xf0, 3), []byte("late"))
	check(tsp.Pending, "", head(0xf1, 6), "b")
	check(tsp.Stale, "", head(0xf0, 3), "b")
	check(tsp.Stale, "", head(0, 3), "b")
	check(tsp.Fresh, "", head(0x07000000, 3), "c")
	check(tsp.Fresh, "", head(0x0e000000, 3), "c")
	check(tsp.Fresh, "", head(0, 3), "c") // it came round
	now = now.Add(90 * time.Second)
	check(tsp.Fresh, "", head(0, 3), "c")
	r.Forget(client)
	r.Forget(client)
	check(tsp.Fresh, "", head(0, 3), "c")
}

// TestRepliesBounded: a flood of made-up clients costs the oldest ones their place.
func TestRepliesBounded(t *testing.T) {
	r := tsp.NewReplies(tsp.RepliesConfig{Clients: 10})
	h := tsp.Header{Word: 0xf00000f0}
	from := func(i int) netip.AddrPort { return netip.AddrPortFrom(client.Addr(), uint16(i)) }
	for i := range 100 {
		r.Check(time.Unix(1, 0), from(i), h, []byte("a"))
	}
	for i, want := range map[int]tsp.Verdict{99: tsp.Pending, 90: tsp.Pending} {
		if got, _ := r.Check(time.Unix(1, 0), from(i), h, []byte("a")); got != want {
			t.Errorf("%d: %d", i, got)
		}
	}
	if got, _ := r.Check(time.Unix(1, 0), from(89), h, []byte("a")); got != tsp.Fresh {
		t.Errorf("89: %d", got)
	}
}
