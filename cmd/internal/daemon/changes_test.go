package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// heard notes what is told, each of which takes a second.
type heard struct {
	lines []string
	now   int // how many are told at this moment
}

func (h *heard) run(ctx context.Context, up bool) {
	if h.now++; h.now > 1 {
		h.lines = append(h.lines, "two at once")
	}
	h.lines = append(h.lines, fmt.Sprint(up))
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		h.lines = append(h.lines, "stopped")
	}
	h.now--
}

// TestChanges: each change is told, one at a time and in order, and the end of one that is
// up as well.
func TestChanges(t *testing.T) {
	up, down := true, false
	many := slices.Repeat([]bool{down, up}, 20)
	for _, tt := range []struct {
		name  string
		notes []bool
		want  string
	}{
		{"nothing", nil, ""},
		{"up", []bool{up}, "true false"},
		{"never up", []bool{down}, "false"},
		{"no change", []bool{up, up, up}, "true false"},
		{"to and fro", []bool{up, down, up, down}, "true false true false"},
		{"too many to remember", append([]bool{up}, many...), "true" + strings.Repeat(" false true", 8) + " false"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &heard{}
				c := &changes{run: h.run}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() { defer close(ended); c.follow(ctx) }()
				for i, n := range tt.notes {
					c.note(n)
					if i == 0 {
						synctest.Wait() // it has begun with that
					}
				}
				time.Sleep(time.Minute)
				cancel()
				<-ended
				if got := strings.Join(h.lines, " "); got != tt.want {
					t.Errorf("told %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// TestChangesEnd: who was about to be told that it is up is stopped.
func TestChangesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heard{}
		c := &changes{run: h.run}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); c.follow(ctx) }()
		c.note(true)
		synctest.Wait()
		cancel()
		<-ended
		if got := strings.Join(h.lines, " "); got != "true stopped false" {
			t.Errorf("told %q", got)
		}
	})
}

func TestBell(t *testing.T) {
	var b bell
	b.ring() // nobody waits
	first, second := b.wait(), b.wait()
	select {
	case <-first:
		t.Fatal("woken by what was before")
	default:
	}
	b.ring()
	<-first
	<-second
	select {
	case <-b.wait():
		t.Error("woken again")
	default:
	}
}
