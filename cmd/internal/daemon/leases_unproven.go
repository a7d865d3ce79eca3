package daemon

import (
	"container/list"
	"context"
	"net/netip"
	"slices"
	"sync"
)

// Who has no account can ask for an address with a datagram whose source is forged, and
// accept it too. It is free again when no proof comes, some seconds later; until then
// what one source and all sources may hold is bounded. The oldest goes, not the newest:
// so who is there gets its tunnel, as its proof takes one round trip, and nobody can
// keep another out in its name.
const (
	unprovenOfSource = 4
	unprovenOfAll    = 8192
)

// promise is a lease of nobody that has been offered, and not shown to be anybody's.
type promise struct {
	id     string
	epoch  int64
	source netip.Addr
}

// unproven are the promises there are. The zero value is ready.
type unproven struct {
	mu      sync.Mutex
	order   list.List // of promise, oldest first
	byID    map[string]*list.Element
	sources map[netip.Addr][]*list.Element
}

// add adds a promise, and returns the one that has to go for it, if one has.
func (u *unproven) add(p promise) (old promise, over bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.byID == nil {
		u.byID, u.sources = make(map[string]*list.Element), make(map[netip.Addr][]*list.Element)
	}
	if e := u.byID[p.id]; e != nil {
		u.take(e)
	}
	var oldest *list.Element
	if of := u.sources[p.source]; len(of) >= unprovenOfSource {
		oldest = of[0]
	} else if u.order.Len() >= unprovenOfAll {
		oldest = u.order.Front()
	}
	if over = oldest != nil; over {
		old = u.take(oldest)
	}
	e := u.order.PushBack(p)
	u.byID[p.id] = e
	u.sources[p.source] = append(u.sources[p.source], e)
	return old, over
}

// remove forgets the promise of a lease, if there is one.
func (u *unproven) remove(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e := u.byID[id]; e != nil {
		u.take(e)
	}
}

func (u *unproven) take(e *list.Element) promise {
	p := u.order.Remove(e).(promise)
	delete(u.byID, p.id)
	of := slices.DeleteFunc(u.sources[p.source], func(x *list.Element) bool { return x == e })
	if u.sources[p.source] = of; len(of) == 0 {
		delete(u.sources, p.source)
	}
	return p
}

// giveUp frees what was promised.
func (t *leases) giveUp(ctx context.Context, p promise) {
	t.mu.Lock()
	l := t.byID[p.id]
	t.mu.Unlock()
	if l != nil && l.Epoch == p.epoch {
		t.end(ctx, l, "did not show that it is there, and there are too many of them")
		return
	}
	t.debts.pay(ctx, t.b, debt{id: p.id, epoch: p.epoch, release: true})
}
