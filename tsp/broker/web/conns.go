package web

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"sixin4/tsp/broker/account"
)

const (
	maxConns = 1024 // connections in all
	maxOfOne = 64   // of one source that is no proxy
)

// boundedListener closes connections when there are too many. Of one source that is the
// one that comes. In all, the source that has most has to make room, first with a
// connection that waits for a request, so that nobody is kept out by what others hold
// open. This host and proxies speak for many: they lose none that has a request.
type boundedListener struct {
	net.Listener
	site *Site

	mu      sync.Mutex
	all     int
	sources map[netip.Addr]*sourceConns // not valid: this host and proxies
}

// sourceConns are the connections of one source, longest as they are first.
type sourceConns struct{ idle, busy list.List } // of *boundedConn

func (c *sourceConns) len() int { return c.idle.Len() + c.busy.Len() }

// boundedConn is a connection, in one list of its source until it is closed.
type boundedConn struct {
	net.Conn
	of     *boundedListener
	source netip.Addr
	list   *list.List // nil: it has gone
	place  *list.Element
}

func newBoundedListener(l net.Listener, s *Site) *boundedListener {
	return &boundedListener{Listener: l, site: s, sources: make(map[netip.Addr]*sourceConns)}
}

// Accept waits for a connection that there is room for.
func (b *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		bounded := &boundedConn{Conn: c, of: b, source: b.source(c.RemoteAddr())}
		victim, ok := b.take(bounded)
		if victim != nil {
			_ = victim.Conn.Close() // who reads from it finds out
		}
		if ok {
			return bounded, nil
		}
		_ = c.Close() // one too many
	}
}

// source is what a connection is counted by, not valid for who is not counted.
func (b *boundedListener) source(a net.Addr) netip.Addr {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil || at.Addr().IsLoopback() || b.site.isProxy(at.Addr().Unmap()) {
		return netip.Addr{}
	}
	return siteOf(account.SourceOf(at.Addr()))
}

// take counts a connection, and finds the one that has to go for it; it is not ok when
// this is the one.
func (b *boundedListener) take(c *boundedConn) (victim *boundedConn, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	own := b.sources[c.source]
	if own == nil {
		own = new(sourceConns)
	}
	if c.source.IsValid() && own.len() >= maxOfOne {
		return nil, false
	}
	if b.all >= maxConns {
		if victim = b.victim(c.source, own.len()); victim == nil {
			return nil, false
		}
		b.remove(victim)
	}
	b.all++
	b.sources[c.source] = own
	c.list = &own.idle
	c.place = c.list.PushBack(c)
	return victim, true
}

// victim is one of the source that has most, if that is more than the newcomer has, or
// else one of this host and the proxies that is idle; nil when there is none.
func (b *boundedListener) victim(newcomer netip.Addr, has int) *boundedConn {
	var most *sourceConns
	for source, c := range b.sources {
		if source.IsValid() && (most == nil || c.len() > most.len()) {
			most = c
		}
	}
	if most != nil && (most.len() > has || !newcomer.IsValid()) {
		if e := most.idle.Front(); e != nil {
			return e.Value.(*boundedConn)
		}
		return most.busy.Front().Value.(*boundedConn)
	}
	if shared := b.sources[netip.Addr{}]; shared != nil && shared.idle.Len() > 0 {
		return shared.idle.Front().Value.(*boundedConn)
	}
	return nil
}

// remove counts a connection no more; b.mu is held.
func (b *boundedListener) remove(c *boundedConn) {
	if c.list == nil {
		return
	}
	c.list.Remove(c.place)
	c.list = nil
	b.all--
	if b.sources[c.source].len() == 0 {
		delete(b.sources, c.source)
	}
}

// state is for http.Server.ConnState: a connection is busy from when a request was read
// until its answer is sent. Who sends half a request is not.
func (b *boundedListener) state(conn net.Conn, s http.ConnState) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	c, ok := conn.(*boundedConn)
	if !ok || s != http.StateActive && s != http.StateIdle {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.list == nil {
		return
	}
	to := &b.sources[c.source].idle
	if s == http.StateActive {
		to = &b.sources[c.source].busy
	}
	c.list.Remove(c.place)
	c.list, c.place = to, to.PushBack(c)
}

// Close makes room.
func (c *boundedConn) Close() error {
	c.of.mu.Lock()
	c.of.remove(c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
