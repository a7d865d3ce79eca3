// Package bucket limits how often things may happen, each key by itself, in a bounded
// memory.
package bucket

import (
	"container/list"
	"sync"
	"time"
)

// Rate is how often: Burst at once, and one more every 1/PerSecond seconds.
type Rate struct {
	PerSecond float64
	Burst     int
}

// Table has a token bucket for each key. A key that it does not know has a full one,
// so that it may forget those that are full, and has to forget the longest unused when
// there are too many. Any number of goroutines may use one.
type Table[K comparable] struct {
	mu    sync.Mutex
	rate  Rate
	limit int
	keys  map[K]*list.Element
	order list.List // of *entry[K], longest unused first
}

type entry[K comparable] struct {
	key    K
	tokens float64
	at     time.Time
}

// New makes a table of at most limit keys.
func New[K comparable](r Rate, limit int) *Table[K] {
	return &Table[K]{rate: r, limit: limit, keys: make(map[K]*list.Element)}
}

// Take reports whether it may happen once more, now.
func (t *Table[K]) Take(now time.Time, key K) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire(now)
	e := t.touch(now, key)
	if e.tokens < 1 {
		return false
	}
	e.tokens--
	return true
}

// Give takes a Take back.
func (t *Table[K]) Give(key K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if el := t.keys[key]; el != nil {
		e := el.Value.(*entry[K])
		e.tokens = min(e.tokens+1, float64(t.rate.Burst))
	}
}

// Len is how many keys are remembered.
func (t *Table[K]) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.keys)
}

// touch is the entry of a key, filled up to now.
func (t *Table[K]) touch(now time.Time, key K) *entry[K] {
	el := t.keys[key]
	if el == nil {
		if len(t.keys) >= t.limit {
			t.remove(t.order.Front())
		}
		el = t.order.PushBack(&entry[K]{key: key, tokens: float64(t.rate.Burst), at: now})
		t.keys[key] = el
	}
	t.order.MoveToBack(el)
	e := el.Value.(*entry[K])
	e.tokens, e.at = t.level(now, e), now
	return e
}

func (t *Table[K]) level(now time.Time, e *entry[K]) float64 {
	return min(e.tokens+now.Sub(e.at).Seconds()*t.rate.PerSecond, float64(t.rate.Burst))
}

// expire forgets buckets that are full again. Two at a time are more than Take adds.
func (t *Table[K]) expire(now time.Time) {
	for range 2 {
		el := t.order.Front()
		if el == nil || t.level(now, el.Value.(*entry[K])) < float64(t.rate.Burst) {
			return
		}
		t.remove(el)
	}
}

func (t *Table[K]) remove(el *list.Element) {
	t.order.Remove(el)
	delete(t.keys, el.Value.(*entry[K]).key)
}
