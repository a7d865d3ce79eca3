package broker

import (
	"container/heap"
	"sync"
)

// turns has some messages run at a time and the others wait. Who began first is served
// first, so that in a crowd sessions come to their end one after another, rather than
// all of them at the very end, when their clients have lost patience. A greeting costs
// next to nothing, and a client that had none goes away soonest, so of them there are
// several for each message of a session; but only several: anybody can send them, in
// anybody's name.
type turns struct {
	limit int // of those that wait

	mu       sync.Mutex
	work     sync.WaitGroup
	free     int // more that may run
	arrived  uint64
	hellos   []func() // that wait, in the order they came
	sessions waiting
	streak   int // greetings since the last message of a session
}

// hellosInARow are at most so many while a message of a session waits.
const hellosInARow = 3

// turn is a message that waits.
type turn struct {
	session uint64 // its number
	arrived uint64
	run     func()
}

func newTurns(l Limits) *turns { return &turns{limit: l.Waiting, free: l.Running} }

// full reports whether a message of a length cannot wait: there are too many, or it is
// not among those that must wait in little memory. Only who adds can make it so.
func (t *turns) full(length int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.free == 0 && (length > longWait || len(t.hellos)+len(t.sessions) >= t.limit)
}

// add has a message run, now or later, by another goroutine. session is the number of
// its session, which grows with each, or 0 for a greeting.
func (t *turns) add(session uint64, run func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.free > 0 {
		t.free--
		t.work.Go(func() { t.runAll(run) })
		return
	}
	t.arrived++
	if session == 0 {
		t.hellos = append(t.hellos, run)
		return
	}
	heap.Push(&t.sessions, turn{session, t.arrived, run})
}

// runAll runs a message and then those that wait, until there are none.
func (t *turns) runAll(run func()) {
	for run != nil {
		run()
		run = t.next()
	}
}

// next is what is to be run next, nil for nothing.
func (t *turns) next() (run func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case len(t.hellos) > 0 && (len(t.sessions) == 0 || t.streak < hellosInARow):
		run = t.hellos[0]
		t.hellos[0] = nil
		t.hellos = t.hellos[1:]
		t.streak++
	case len(t.sessions) > 0:
		run = heap.Pop(&t.sessions).(turn).run
		t.streak = 0
	default:
		t.free++
		t.hellos = nil
	}
	return run
}

// waiting is a heap, the message of the oldest session on top.
type waiting []turn

func (w waiting) Len() int      { return len(w) }
func (w waiting) Swap(i, j int) { w[i], w[j] = w[j], w[i] }
func (w waiting) Less(i, j int) bool {
	if w[i].session != w[j].session {
		return w[i].session < w[j].session
	}
	return w[i].arrived < w[j].arrived
}

func (w *waiting) Push(x any) { *w = append(*w, x.(turn)) }

func (w *waiting) Pop() any {
	last := len(*w) - 1
	t := (*w)[last]
	(*w)[last] = turn{}
	*w = (*w)[:last]
	return t
}
