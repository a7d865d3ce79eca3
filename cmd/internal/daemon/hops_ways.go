package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sixin4/encap"
	"sixin4/encap/engine"
	"sixin4/encap/kernelpath"
	"sixin4/tun/ifcfg"
)

// The kernel has to be told by which link each client of a hub is reached. That is asked
// when a client comes, and for all of them whenever this host's network changes: by a task
// of its own, since with many clients it takes time, and nobody shall wait for it.

// wayRetry is how often clients that the kernel could not be told are looked at again.
const wayRetry = time.Minute

// finder makes of a client what the kernel is told, or says why it cannot be.
type finder func(PlannedPeer) (kernelpath.Peer, error)

// runWays looks for ways whenever some are stale, until ctx ends.
func (t *tunnel) runWays(ctx context.Context, ready func()) error {
	retry := time.NewTicker(wayRetry)
	defer retry.Stop()
	ready()
	for {
		again := t.short.roving.wait()
		t.short.rove(ctx, t.finder)
		select {
		case <-again:
		case <-retry.C:
			t.short.retry()
		case <-ctx.Done():
			return nil
		}
	}
}

// finder finds ways by what the links are at the moment.
func (t *tunnel) finder() finder {
	var ways ifcfg.Ways
	return func(p PlannedPeer) (k kernelpath.Peer, err error) {
		way, err := ways.To(p.local.Addr(), p.Remote, t.set.Bind)
		if err != nil {
			return k, err
		}
		return t.kernelPeer(p, way)
	}
}

// kernelPeer is a hub's client for the kernel, by a way to it.
func (t *tunnel) kernelPeer(p PlannedPeer, way ifcfg.Way) (k kernelpath.Peer, err error) {
	now := t.now.Load()
	if own := t.own.Load(); own != nil && !(*own)[p.local.Addr()] {
		return k, fmt.Errorf("%v is no address of this host any more", p.local.Addr())
	}
	if !way.Ethernet || way.Link == t.iface.Index {
		return k, errors.New(noEthernet)
	}
	carries := min(now.wireMTU, encap.WireMTU(way.MTU))
	if carries < shortestUDP { // the kernel's own way makes no fragments
		return k, fmt.Errorf("the way carries less than %d bytes", shortestUDP)
	}
	return kernelpath.Peer{
		Local: p.local, Remote: p.at().AddrPort, Prefixes: p.Prefixes, Link: way.Link, MTU: min(now.mtu, insideUDP(carries)),
	}, nil
}

// rove looks for the ways to clients until none is stale, or ctx ends. After each change of
// this host's network it begins with another finder.
func (s *shortcut) rove(ctx context.Context, begin func() finder) {
	var find finder
	var of uint64
	for ctx.Err() == nil {
		p, roamed := s.nextStale()
		if p == nil {
			return
		}
		if find == nil || roamed != of {
			find, of = begin(), roamed
		}
		next, err := find(*p)
		s.settle(p, next, err)
	}
}

// nextStale is a client whose way is to be looked for, nil if there is none, and of which
// change of the network that is.
func (s *shortcut) nextStale() (p *PlannedPeer, roamed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at := range s.clients.stale {
		delete(s.clients.stale, at)
		if p = s.clients.planned[at]; p != nil {
			break
		}
	}
	return p, s.clients.roamed
}

// settle tells the kernel what was found out about a client, unless that is another by now.
func (s *shortcut) settle(p *PlannedPeer, next kernelpath.Peer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := p.at(); s.clients.planned[at] == p {
		s.clients.set(s, at, next, err)
	}
}

// roam has the ways to all clients looked for anew.
func (s *shortcut) roam() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients.roamed++
	s.clients.again(func(engine.End) bool { return true })
	s.roving.ring()
}

// retry has the ways looked for of those that could not be told to the kernel.
func (s *shortcut) retry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients.again(func(at engine.End) bool { _, told := s.clients.told[at]; return !told })
}

// again makes the ways of some clients stale.
func (c *clients) again(which func(engine.End) bool) {
	for at := range c.planned {
		if which(at) {
			c.stale[at] = true
		}
	}
}
