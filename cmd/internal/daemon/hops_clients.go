package daemon

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"

	"sixin4/encap"
	"sixin4/encap/engine"
	"sixin4/encap/kernelpath"
)

// mostClients is for how many clients of a hub the kernel may carry packets. The engine
// carries those of all others.
const mostClients = 1 << 16

// clients are those of a hub that the kernel may carry packets for, by where they are.
// Those without a way are not told to it. The zero value is ready.
type clients struct {
	planned map[engine.End]*PlannedPeer
	told    map[engine.End]kernelpath.Peer
	past    map[engine.End]kernelpath.Stats // what was carried for them until they were told last
	stale   map[engine.End]bool             // the ways to them are to be looked for
	roamed  uint64                          // how often all were
	full    bool                            // that there are too many is in the log
	turns   map[engine.End]*turn            // of those on trial
	due     map[engine.End]*turn            // of these, the trials to be begun
}

func (p PlannedPeer) at() engine.End {
	return engine.Peer{Remote: p.Remote, Port: p.port, Socket: p.socket}.End()
}

// suits reports whether the kernel may carry packets of a hub's peer: it has shown that it
// is there, and takes what the kernel sends.
func (p PlannedPeer) suits() bool {
	all := func(list []netip.Prefix) bool {
		return !slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Bits() < 3 || !globalUnicast.Contains(p.Addr()) })
	}
	return p.port != 0 && p.merged && !p.unproven && len(p.Prefixes) > 0 && len(p.Prefixes) <= kernelpath.MaxPrefixes && all(p.Prefixes)
}

// hubFlow is a hub as the kernel could carry it, or why it cannot.
func (t *tunnel) hubFlow(now *shape) (*kernelpath.Flow, string) {
	if t.set.rate != 0 {
		return nil, "tunnels have a rate, which the kernel does not count"
	}
	blocked := kernelPorts(t.set.blocked)
	if len(blocked) > kernelpath.MaxBlocked {
		return nil, "too many ports are blocked for the kernel to look at"
	}
	links, clients := t.short.links()
	switch {
	case clients == 0:
		return nil, noClient
	case len(links) == 0:
		return nil, "the kernel could be told no client (the log says why, at level debug)"
	}
	outer := t.outer(now.local, netip.Addr{})
	outer.ClearDF = true // as the engine's in UDP: only the client knows the way to it
	return &kernelpath.Flow{
		Outer: outer, Asks: t.trials.id, Ours: t.seen.ours, Here: t.here(now), Hub: &kernelpath.Hub{Links: links, Blocked: blocked},
	}, ""
}

func kernelPorts(p engine.Ports) (list []kernelpath.Port) {
	for _, n := range p.TCP {
		list = append(list, kernelpath.Port{Protocol: encap.ProtoTCP, Number: n})
	}
	for _, n := range p.UDP {
		list = append(list, kernelpath.Port{Protocol: encap.ProtoUDP, Number: n})
	}
	return list
}

// without takes clients that go from the kernel, and those that are about to be others.
func (s *shortcut) without(gone []engine.End, others []PlannedPeer) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range gone {
		s.clients.remove(s, at)
	}
	for _, p := range others {
		if !p.suits() {
			s.clients.remove(s, p.at())
		}
	}
}

// with notes clients for the kernel, but for those that the engine has refused.
func (s *shortcut) with(list []PlannedPeer, refused []engine.Refusal) {
	if s == nil || s.inVain {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.final {
		return
	}
	for _, p := range list {
		switch no := func(r engine.Refusal) bool { return r.Peer.End() == p.at() }; {
		case !p.suits():
		case slices.ContainsFunc(refused, no):
			s.clients.remove(s, p.at())
		default:
			s.clients.plan(s, p)
		}
	}
	if len(s.clients.stale) > 0 {
		s.roving.ring()
	}
}

// any reports whether the kernel carries packets of a client.
func (c *clients) any() bool {
	for _, told := range c.told {
		if !told.Trial {
			return true
		}
	}
	return false
}

// links are those that lead to the clients, in order; clients is how many there are.
func (s *shortcut) links() (list []int, clients int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	links := make(map[int]bool)
	for _, p := range s.clients.told {
		links[p.Link] = true
	}
	return slices.Sorted(maps.Keys(links)), len(s.clients.planned)
}

// addClient adds what the kernel has carried of a hub's client to what the engine has.
func (s *shortcut) addClient(p *engine.PeerStats) {
	if s == nil || p.Port == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	include(p, s.clients.carried(s, engine.Peer{Remote: p.Remote, Port: p.Port, Socket: p.Socket}.End()))
}

// plan notes a client, the way to which is to be looked for. Until it is found the kernel
// goes on with what it had, if that is right but for the way.
func (c *clients) plan(s *shortcut, p PlannedPeer) {
	if c.planned == nil {
		c.planned, c.told = make(map[engine.End]*PlannedPeer), make(map[engine.End]kernelpath.Peer)
		c.past, c.stale = make(map[engine.End]kernelpath.Stats), make(map[engine.End]bool)
		c.turns, c.due = make(map[engine.End]*turn), make(map[engine.End]*turn)
	}
	at := p.at()
	if told := c.told[at]; told.Local != p.local || !slices.Equal(told.Prefixes, p.Prefixes) {
		c.forget(s, at)
	}
	c.planned[at], c.stale[at] = &p, true
}

// carried is all that the kernel has carried for a client.
func (c *clients) carried(s *shortcut, at engine.End) kernelpath.Stats {
	told, ok := c.told[at]
	if !ok || s.path == nil {
		return c.past[at]
	}
	now, _ := s.path.PeerStats(told.Local, told.Remote)
	return c.past[at].Plus(now)
}

// set tells the kernel the way to a client as it is now, or takes the client from it when
// there is none.
func (c *clients) set(s *shortcut, at engine.End, next kernelpath.Peer, err error) {
	if err != nil {
		s.log.Debug("a client's packets are not carried by the kernel", "outer", at, "error", err)
		c.forget(s, at)
		return
	}
	before, known := c.told[at]
	next.Trial = !known || before.Trial
	if !known || before.Trial && before.Link != next.Link {
		c.onTrial(s, at)
	}
	c.told[at] = next
	c.tell(s, at, next)
}

// tell puts a client into the path, if there is one.
func (c *clients) tell(s *shortcut, at engine.End, p kernelpath.Peer) {
	if s.path == nil {
		return
	}
	err := s.path.PutPeer(p)
	if err == nil || errors.Is(err, os.ErrClosed) { // all ends
		return
	}
	c.forget(s, at)
	level := slog.LevelDebug
	if !c.full {
		level, c.full = slog.LevelWarn, true
	}
	s.log.Log(context.Background(), level, "a client's packets are not carried by the kernel", "outer", p.Remote, "error", err)
}

// addAll tells a new path the clients that there are.
func (c *clients) addAll(s *shortcut) {
	for at, p := range c.told {
		c.tell(s, at, p)
	}
}

// forget takes a client from the path, and keeps what was carried for it.
func (c *clients) forget(s *shortcut, at engine.End) {
	told, ok := c.told[at]
	if !ok {
		return
	}
	c.past[at] = c.carried(s, at)
	delete(c.told, at)
	delete(c.turns, at)
	delete(c.due, at)
	if s.path == nil {
		return
	}
	if err := s.path.RemovePeer(told.Local, told.Remote); err != nil && !errors.Is(err, os.ErrClosed) {
		s.log.Warn("the kernel may go on carrying packets of a client", "outer", at, "error", err)
	}
}

// remove forgets all about a client.
func (c *clients) remove(s *shortcut, at engine.End) {
	c.forget(s, at)
	delete(c.planned, at)
	delete(c.past, at)
	delete(c.stale, at)
}
