package keepalive

import (
	"context"
	"testing"
	"time"

	"sixin4/tun/nstest"
)

// TestMonitorInNamespaces: a link that really goes down and comes back.
func TestMonitorInNamespaces(t *testing.T) {
	a, b := twoLinks(t)
	changes := make(chan Change, 16)
	m, err := NewMonitor(Config{Interface: "a0", Source: near, To: far,
		Interval: 20 * time.Millisecond, Timeout: 200 * time.Millisecond, Losses: 2}, func(c Change) { changes <- c })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Do(func() error { return m.Run(ctx) }) }()
	defer func() {
		cancel()
		if err := nstest.Within(t, limit, "end", done); err != nil {
			t.Error(err)
		}
	}()
	expect := func(want State) {
		t.Helper()
		if c := nstest.Within(t, limit, want.String(), changes); c.State != want {
			t.Fatalf("%+v, want %v", c, want)
		}
	}
	expect(Up)
	if err := b.SetDown("b0"); err != nil {
		t.Fatal(err)
	}
	expect(Down)
	if err := b.SetUp("b0"); err != nil {
		t.Fatal(err)
	}
	if err := b.AddAddr("b0", "2001:db8::2/64"); err != nil {
		t.Log(err) // IPv6 addresses go with the link; where they stay, this one is there
	}
	expect(Up)
}
