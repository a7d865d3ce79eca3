package daemon

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/encap"
)

// TestUDPPath: what the kernel says is followed as far as it is true.
func TestUDPPath(t *testing.T) {
	for _, tt := range []struct {
		name                 string
		held, kernel, passes encap.WireMTU
		want                 encap.WireMTU
	}{
		{"nothing new", 1500, 1500, 1500, 1500},
		{"a smaller path", 1500, 1400, 1400, 1400},
		{"forged", 1500, 1400, 1500, 1500},
		{"forged to less than IPv6 needs", 1500, 552, 1500, 1500},
		{"forged where the path is smaller", 1400, 600, 1400, 1400},
		{"smaller again", 1400, 1350, 1350, 1350},
		{"as it was at first, and wrong", 1400, 1400, 1500, 1500},
		{"too small for 1280 bytes", 1500, 1000, 1000, 1000},
		{"just enough for 1280 bytes", 1500, 552, 1308, 1308},
		{"fragments already", 1000, 1000, 1500, 1000},
		{"fragments no more", 1000, 1500, 1500, 1500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := udpPath{held: tt.held, log: slog.New(slog.DiscardHandler)}
			got := p.follow(t.Context(), tt.kernel, 1500, func(_ context.Context, path encap.WireMTU) bool { return path <= tt.passes })
			if got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}

// TestUDPPathAsks: each length is asked for once, and none that the tunnel has no use for.
func TestUDPPathAsks(t *testing.T) {
	for _, tt := range []struct {
		name              string
		mtu               int // of the tunnel, by the broker
		kernel, held, end encap.WireMTU
		asked             []encap.WireMTU
	}{
		{"a smaller path", 0, 1400, 1500, 1400, []encap.WireMTU{1500}},
		{"smaller than the tunnel once was", 0, 1320, 1400, 1320, []encap.WireMTU{1500, 1400}},
		{"enough for the tunnel", 1400, 1450, 1500, 1450, nil},
		{"less than the tunnel has", 1400, 1350, 1500, 1350, []encap.WireMTU{1428}},
		{"less than IPv6 needs", 1280, 600, 1500, 600, []encap.WireMTU{1308}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked []encap.WireMTU
			p := udpPath{held: tt.held, log: slog.New(slog.DiscardHandler)}
			got := p.follow(t.Context(), tt.kernel, forTunnel(1500, tt.mtu), func(_ context.Context, path encap.WireMTU) bool {
				asked = append(asked, path)
				return false
			})
			if got != tt.end || !slices.Equal(asked, tt.asked) {
				t.Errorf("%d after asking for %d, want %d after %d", got, asked, tt.end, tt.asked)
			}
		})
	}
}

// TestUDPPathSeldom: a hint that stays the same has the far end asked now and then.
func TestUDPPathSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, asked := udpPath{held: 1500, log: slog.New(slog.DiscardHandler)}, 0
		for range 30 {
			p.follow(t.Context(), 1400, 1500, func(context.Context, encap.WireMTU) bool { asked++; return true })
			time.Sleep(pathInterval)
		}
		if asked != 3 {
			t.Errorf("asked %d times in 30 s, want 3", asked)
		}
	})
}

// TestQuestions: only the reply to a question answers it.
func TestQuestions(t *testing.T) {
	here, there := netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8::1")
	for _, tt := range []struct {
		name  string
		reply func(b []byte) []byte
		want  bool
	}{
		{"the reply", func(b []byte) []byte { return b }, true},
		{"none", func([]byte) []byte { return nil }, false},
		{"another nonce", func(b []byte) []byte { b[50]++; return b }, false},
		{"from elsewhere", func(b []byte) []byte { b[20]++; return b }, false},
		{"to another", func(b []byte) []byte { b[36]++; return b }, false},
		{"shorter", func(b []byte) []byte { return b[:len(b)-1] }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQuestions()
				send := func(b []byte) error {
					if len(b) != 100 || !encap.EchoRequest(encap.IPv6(b)) {
						t.Errorf("asked with % x", b)
					}
					if b = tt.reply(replyTo(b)); b != nil {
						q.replied(encap.IPv6(b), len(b))
					}
					return nil
				}
				if _, ok := q.ask(t.Context(), send, here, there, 100, time.Second); ok != tt.want {
					t.Errorf("answered: %t", ok)
				}
				if len(q.waiting) != 0 {
					t.Error("the question waits on")
				}
			})
		})
	}
}
