package broker

import (
	"container/list"
	"net/netip"
	"sync"
)

// gate bounds the TCP connections there are: those without a tunnel in all and for
// each source, those with one in all.
type gate struct {
	mu          sync.Mutex
	limits      Limits
	young, idle list.List // of *conn, oldest first
	sources     map[netip.Addr]int
}

func newGate(l Limits) *gate { return &gate{limits: l, sources: make(map[netip.Addr]int)} }

// admit takes a connection in, and closes the oldest for it when there are too many.
// It is false when its source has enough.
func (g *gate) admit(c *conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sources[c.source] >= g.limits.ConnsPerSource {
		return false
	}
	if g.young.Len() >= g.limits.Conns {
		g.evict(&g.young)
	}
	g.sources[c.source]++
	c.place, c.list = g.young.PushBack(c), &g.young
	return true
}

// settle is called when the tunnel of a connection is up.
func (g *gate) settle(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.list != &g.young {
		return // evicted
	}
	g.remove(c)
	if g.idle.Len() >= g.limits.Idle {
		g.evict(&g.idle)
	}
	c.place, c.list = g.idle.PushBack(c), &g.idle
}

// leave is called when a connection is over; early reports whether it was evicted.
func (g *gate) leave(c *conn) (early bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.list == nil {
		return true
	}
	g.remove(c)
	return false
}

// evicted reports whether a connection was closed to make room.
func (g *gate) evicted(c *conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return c.list == nil
}

func (g *gate) evict(from *list.List) {
	c := from.Front().Value.(*conn)
	g.remove(c)
	c.Close()
}

func (g *gate) remove(c *conn) {
	c.list.Remove(c.place)
	if c.list == &g.young {
		if g.sources[c.source]--; g.sources[c.source] == 0 {
			delete(g.sources, c.source)
		}
	}
	c.place, c.list = nil, nil
}

func (g *gate) lens() (young, idle int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.young.Len(), g.idle.Len()
}
