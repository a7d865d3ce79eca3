package bucket

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestTake(t *testing.T) {
	table, now := New[string](Rate{PerSecond: 2, Burst: 3}, 10), time.Unix(1000, 0)
	steps := []struct {
		name  string
		after time.Duration
		key   string
		give  bool
		want  bool
	}{
		{"full", 0, "a", false, true},
		{"second", 0, "a", false, true},
		{"third", 0, "a", false, true},
		{"empty", 0, "a", false, false},
		{"another key", 0, "b", false, true},
		{"still empty", 400 * time.Millisecond, "a", false, false},
		{"one more", 100 * time.Millisecond, "a", false, true},
		{"and no more", 0, "a", false, false},
		{"given back", 0, "a", true, true},
		{"full again, not more", time.Hour, "a", false, true},
		{"second of it", 0, "a", false, true},
		{"third of it", 0, "a", false, true},
		{"none left of it", 0, "a", false, false},
	}
	for _, s := range steps {
		now = now.Add(s.after)
		if s.give {
			table.Give(s.key)
		}
		if got := table.Take(now, s.key); got != s.want {
			t.Errorf("%s: %v", s.name, got)
		}
	}
	if table.Give("unknown"); table.Len() > 2 {
		t.Errorf("%d keys", table.Len())
	}
}

// TestBounded: however many keys come, few are remembered, and one that is in use is
// not forgotten for them.
func TestBounded(t *testing.T) {
	table, now := New[int](Rate{PerSecond: 1, Burst: 1}, 100), time.Unix(1000, 0)
	table.Take(now, -1)
	for i := range 10_000 {
		table.Take(now, i)
		if i%50 == 0 && table.Take(now, -1) {
			t.Fatal("a busy key was forgotten")
		}
	}
	if n := table.Len(); n != 100 {
		t.Errorf("%d keys", n)
	}
	for i := range 60 {
		table.Take(now.Add(time.Minute), i)
	}
	if n := table.Len(); n > 60 {
		t.Errorf("%d keys although most are full again", n)
	}
}

// TestModel compares with buckets that are never forgotten.
func TestModel(t *testing.T) {
	type dumb struct {
		tokens float64
		at     time.Time
	}
	rate := Rate{PerSecond: 0.5, Burst: 4}
	table, model := New[int](rate, 1000), make(map[int]*dumb)
	random, now := rand.New(rand.NewPCG(1, 2)), time.Unix(1000, 0)
	for n := range 20_000 {
		now = now.Add(time.Duration(random.IntN(100)) * time.Millisecond)
		key := random.IntN(30)
		b := model[key]
		if b == nil {
			b = &dumb{4, now}
			model[key] = b
		}
		b.tokens, b.at = min(4, b.tokens+now.Sub(b.at).Seconds()*0.5), now
		got := table.Take(now, key)
		if want := b.tokens >= 1; got != want && (b.tokens < 1-1e-6 || b.tokens > 1+1e-6) { // rounding may go either way
			t.Fatalf("step %d: %v, want %v", n, got, want)
		}
		if got {
			b.tokens--
		}
	}
}
