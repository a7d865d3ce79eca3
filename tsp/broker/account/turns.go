package account

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
)

// turns lets few do slow work at a time, some wait for it in the order they came, and
// sends the others away.
type turns struct {
	slots     chan struct{}
	waiting   int
	perSource int

	mu      sync.Mutex
	sources map[netip.Addr]int // at work or waiting
	all     int
}

func newTurns(l Limits) *turns {
	return &turns{
		slots: make(chan struct{}, l.Deriving), waiting: l.Waiting, perSource: l.WaitingPerSource,
		sources: make(map[netip.Addr]int),
	}
}

// enter waits for a turn, which release ends. The error wraps ErrBusy, or is that of
// ctx.
func (t *turns) enter(ctx context.Context, source netip.Addr) (release func(), err error) {
	if !t.queue(source) {
		return nil, fmt.Errorf("%w: too many passwords to check", ErrBusy)
	}
	select {
	case t.slots <- struct{}{}:
		return func() { <-t.slots; t.leave(source) }, nil
	case <-ctx.Done():
		t.leave(source)
		return nil, fmt.Errorf("%w: %w", ErrBusy, context.Cause(ctx))
	}
}

func (t *turns) queue(source netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all >= t.waiting+cap(t.slots) || t.sources[source] >= t.perSource {
		return false
	}
	t.all++
	t.sources[source]++
	return true
}

func (t *turns) leave(source netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all--
	if t.sources[source]--; t.sources[source] == 0 {
		delete(t.sources, source)
	}
}
