package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
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
	planned map[engine.End]PlannedPeer
	told    map[engine.End]kernelpath.Peer
	stale   bool         // the ways to them may be others by now
	full    bool         // that there are too many is in the log
	untried []engine.End // whose trial is due
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
	links := t.short.links(func(p PlannedPeer) (kernelpath.Peer, error) { return t.kernelPeer(now, p) })
	if len(links) == 0 {
		return nil, noClient
	}
	outer := t.outer(now.local, netip.Addr{})
	outer.ClearDF = true // as the engine's in UDP: only the client knows the way to it
	return &kernelpath.Flow{Outer: outer, Asks: t.trials.id, Here: t.here(now), Hub: &kernelpath.Hub{Links: links, Blocked: blocked}}, ""
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

// kernelPeer is a hub's peer for the kernel, by the way that leads to it now.
func (t *tunnel) kernelPeer(now *shape, p PlannedPeer) (k kernelpath.Peer, err error) {
	route, err := t.routeTo(p.Remote)
	if err != nil {
		return k, err
	}
	own, err := net.InterfaceByIndex(route.Index)
	if err != nil {
		return k, err
	}
	if route.Local || route.Index == t.iface.Index || len(own.HardwareAddr) != 6 {
		return k, errors.New(noEthernet)
	}
	way := min(now.wireMTU, encap.WireMTU(route.FixedMTU()))
	if way < shortestUDP { // the kernel's own way makes no fragments
		return k, fmt.Errorf("the link carries less than %d bytes", shortestUDP)
	}
	local := p.local
	if !local.IsValid() {
		local = t.beside.udp[p.socket].LocalAddr()
	}
	if local.Addr().IsUnspecified() {
		return k, errors.New("the broker listens at all addresses")
	}
	return kernelpath.Peer{Local: local, Remote: p.at().AddrPort, Prefixes: p.Prefixes, Link: route.Index, MTU: min(now.mtu, insideUDP(way))}, nil
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

// with gives clients to the kernel, but for those that the engine has refused.
func (s *shortcut) with(list []PlannedPeer, refused []engine.Refusal, peer func(PlannedPeer) (kernelpath.Peer, error)) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range list {
		no := func(r engine.Refusal) bool { return r.Peer.End() == p.at() }
		if p.suits() && !slices.ContainsFunc(refused, no) {
			s.clients.add(s, p, peer)
		}
	}
}

// idle reports whether there are clients and the kernel carries for none.
func (s *shortcut) idle() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.given == nil && len(s.clients.told) > 0 && !s.final
}

// links are those that lead to the clients, in order. Where the ways may be others by now,
// they are looked for anew.
func (s *shortcut) links(peer func(PlannedPeer) (kernelpath.Peer, error)) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.clients
	if c.stale {
		c.stale = false
		for _, p := range c.planned {
			c.add(s, p, peer)
		}
	}
	links := make(map[int]bool)
	for _, p := range c.told {
		links[p.Link] = true
	}
	return slices.Sorted(maps.Keys(links))
}

// roam has the ways to the clients looked for anew.
func (s *shortcut) roam() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients.stale = len(s.clients.planned) > 0
}

// addClient adds what the kernel has carried of a hub's client to what the engine has.
func (s *shortcut) addClient(p *engine.PeerStats) {
	if s == nil || p.Port == 0 {
		return
	}
	s.mu.Lock()
	told, ok := s.clients.told[engine.Peer{Remote: p.Remote, Port: p.Port, Socket: p.Socket}.End()]
	path := s.path
	s.mu.Unlock()
	if !ok || path == nil {
		return
	}
	k, _ := path.PeerStats(told.Local, told.Remote)
	p.Tx, p.Rx = sum(p.Tx, k.Tx), sum(p.Rx, k.Rx)
	if k.LastHeard.After(p.LastHeard) {
		p.LastHeard = k.LastHeard
	}
}

// add notes a client, and tells the kernel the way to it as it is now.
func (c *clients) add(s *shortcut, p PlannedPeer, peer func(PlannedPeer) (kernelpath.Peer, error)) {
	if c.planned == nil {
		c.planned, c.told = make(map[engine.End]PlannedPeer), make(map[engine.End]kernelpath.Peer)
	}
	at := p.at()
	c.planned[at] = p
	next, err := peer(p)
	if err != nil {
		s.log.Debug("a client's packets are not carried by the kernel", "outer", at, "error", err)
		c.forget(s, at)
		return
	}
	before, ok := c.told[at]
	same := ok && before.Local == next.Local && slices.Equal(before.Prefixes, next.Prefixes)
	if next.Trial = !same || before.Trial; !same {
		c.forget(s, at)
		c.untried = append(c.untried, at)
		s.trying.ring()
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
	if err == nil {
		return
	}
	delete(c.told, at)
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

// forget takes a client from the path.
func (c *clients) forget(s *shortcut, at engine.End) {
	told, ok := c.told[at]
	delete(c.told, at)
	if !ok || s.path == nil {
		return
	}
	if err := s.path.RemovePeer(told.Local, told.Remote); err != nil {
		s.log.Warn("the kernel may go on carrying packets of a client", "outer", at, "error", err)
	}
}

func (c *clients) remove(s *shortcut, at engine.End) {
	c.forget(s, at)
	delete(c.planned, at)
}
