package broker

import (
	"slices"
	"strings"
	"testing"
)

// TestTurnsOrder: the oldest session goes first, with some greetings between.
func TestTurnsOrder(t *testing.T) {
	tests := []struct {
		name string
		add  []uint64 // sessions, 0 for a greeting
		want []uint64
	}{
		{"nothing waits", nil, nil},
		{"the oldest session first", []uint64{9, 3, 7, 3, 1}, []uint64{1, 3, 3, 7, 9}},
		{"greetings as they come", []uint64{0, 0, 0, 0, 0}, []uint64{0, 0, 0, 0, 0}},
		{"some greetings between", []uint64{5, 0, 0, 0, 4, 0, 0}, []uint64{0, 0, 0, 4, 0, 0, 5}},
		{"a flood of greetings", slices.Concat(make([]uint64, 7), []uint64{2, 1}), []uint64{0, 0, 0, 1, 0, 0, 0, 2, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := newTurns(Limits{Running: 1, Waiting: 100})
			first, begun := make(chan struct{}), make(chan struct{})
			var got []uint64 // by one goroutine at a time
			q.add(0, func() { close(begun); <-first })
			<-begun
			for _, session := range tt.add {
				q.add(session, func() { got = append(got, session) })
			}
			close(first)
			q.work.Wait()
			if !slices.Equal(got, tt.want) || q.free != 1 || len(q.hellos)+len(q.sessions) != 0 {
				t.Errorf("got %v, want %v; %d may run, %d wait", got, tt.want, q.free, len(q.hellos)+len(q.sessions))
			}
		})
	}
}

// TestTurnsSameAge: of one session, and of greetings, who came first goes first.
func TestTurnsSameAge(t *testing.T) {
	q := newTurns(Limits{Running: 1, Waiting: 100})
	first := make(chan struct{})
	var got strings.Builder
	q.add(0, func() { <-first })
	for _, who := range []string{"a", "b", "c", "d", "e", "f"} {
		q.add(8, func() { got.WriteString(who) })
	}
	close(first)
	q.work.Wait()
	if got.String() != "abcdef" {
		t.Errorf("order %s", &got)
	}
}

// TestTurnsBounds: so many run, so many wait, and what waits is not long.
func TestTurnsBounds(t *testing.T) {
	q := newTurns(Limits{Running: 2, Waiting: 3})
	end := make(chan struct{})
	running := make(chan struct{}, 10)
	for i := range 5 {
		if q.full(10) || i < 2 && q.full(longWait+1) {
			t.Errorf("no room for message %d", i)
		}
		if i >= 2 && !q.full(longWait+1) {
			t.Errorf("message %d may be long", i)
		}
		q.add(uint64(i), func() { running <- struct{}{}; <-end })
	}
	<-running
	<-running
	if !q.full(10) || len(running) > 0 {
		t.Errorf("more than 2 run, or more than 3 wait: %d", len(running))
	}
	close(end)
	q.work.Wait()
	if len(running) != 3 || q.full(longWait+1) {
		t.Errorf("%d of those that waited were run", len(running))
	}
}
