package daemon

import (
	"net/netip"
	"time"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/control"
	"sixin4/encap"
	"sixin4/encap/engine"
	"sixin4/encap/wire"
)

// status is the answer of the control socket as far as every tunnel has it. It
// may be called at any time while the tunnel runs.
func (t *tunnel) status(mode string) control.Tunnel {
	now, stats := t.now.Load(), t.totals()
	s := control.Tunnel{
		Name:      t.name,
		Mode:      mode,
		Wire:      t.wireInUse(),
		MTU:       int(t.heldMTU(now.mtu)),
		Since:     t.since,
		Tx:        count(stats.Tx),
		Rx:        count(stats.Rx),
		Drops:     t.drops(stats),
		Work:      t.work(stats),
		ICMP:      icmpCounts(stats.ICMP),
		Addresses: texts(now.global()),
		Prefixes:  texts(now.delegated),
		Moves:     t.moves.Load(),
	}
	s.Peers, s.PeersOmitted, s.OmittedHeard = t.peers(now)
	if now.local.IsValid() {
		s.Local = now.local.String()
	}
	s.State, s.Reason = t.standing()
	s.PathMTU = t.pathMTU()
	return s
}

// wireInUse is how packets leave at present, raw, packet or bpf.
func (t *tunnel) wireInUse() string {
	switch {
	case t.now.Load().inUDP() && !t.short.active():
		return wireUDP
	case t.hopper == nil:
		return config.WireRaw
	}
	return t.hopper.inUse()
}

// totals are those of the engine and the kernel, all zero as long as there is none.
func (t *tunnel) totals() engine.Stats {
	if !t.running() {
		return engine.Stats{}
	}
	s := t.engine.Totals()
	t.short.addTotals(&s)
	return s
}

// peerStats is what the engine knows of the peer at an end; false when it has none.
func (t *tunnel) peerStats(at engine.End) (engine.PeerStats, bool) {
	if !t.running() {
		return engine.PeerStats{}, false
	}
	p, ok := t.engine.PeerAt(at)
	t.short.addClient(&p)
	return p, ok
}

// running reports whether there is an engine.
func (t *tunnel) running() bool {
	select {
	case <-t.begun:
		return true
	default:
		return false
	}
}

func count(c engine.Count) control.Count {
	return control.Count{Packets: c.Packets, Bytes: c.Bytes}
}

// wireStats are those of all sockets that packets come in by.
func (t *tunnel) wireStats() wire.Stats {
	s := t.wire.Stats()
	for _, u := range t.beside.udp {
		s = s.Plus(u.Stats())
	}
	return s
}

func (t *tunnel) work(stats engine.Stats) *control.Work {
	if t.device == nil {
		return nil
	}
	device, sockets := t.device.Stats(), t.wireStats()
	return &control.Work{
		Split: device.Split, SplitInto: device.SplitInto,
		Joined: device.Joined, JoinedInto: device.JoinedInto,
		Merged: sockets.Merged, Reassembled: sockets.Reassembled,
		Fragments: stats.Fragments, ICMPErrors: stats.ICMPErrors, MSSClamped: stats.Clamped,
	}
}

// drops are the reasons that have happened. What the socket lost in front of the
// engine is one of them.
func (t *tunnel) drops(stats engine.Stats) map[string]uint64 {
	stats.Drops[encap.DropWireOverflow] += t.wireStats().Overflow
	drops := make(map[string]uint64)
	for d := range encap.Drops() {
		if n := stats.Drops[d]; n > 0 {
			drops[d.String()] = n
		}
	}
	return drops
}

// mostListed is how many peers a status has: with 20 000 it would be megabytes of text.
const mostListed = 1000

// peers are those that a status has, how many it has not, and when one of these was heard
// last.
func (t *tunnel) peers(now *shape) (list []control.Peer, omitted int, heard time.Time) {
	if !t.running() {
		return nil, 0, heard
	}
	mtu := make(map[netip.Addr]encap.TunMTU, len(now.peers))
	for _, p := range now.peers {
		mtu[p.Remote] = p.MTU
	}
	for p := range t.engine.Peers() {
		if now.hub {
			t.short.addClient(&p)
		} else {
			t.short.addPeer(&p)
		}
		if len(list) == mostListed {
			omitted++
			if p.LastHeard.After(heard) {
				heard = p.LastHeard
			}
			continue
		}
		way, known := mtu[p.Remote]
		if !known || way == 0 {
			way = now.mtu
		}
		if p.Port != 0 && t.set.MTU == 0 {
			way = min(way, insideUDP(now.wireMTU))
		}
		list = append(list, control.Peer{
			Remote:    now.nameOf(p.Remote, p.Port),
			Prefixes:  texts(p.Prefixes),
			MTU:       int(t.learntMTU(p.Remote, t.heldMTU(min(way, now.mtu)))),
			PathMTU:   int(p.PathMTU),
			Reason:    refused(p),
			LastHeard: p.LastHeard,
			Tx:        count(p.Tx),
			Rx:        count(p.Rx),
		})
	}
	return list, omitted, heard
}

func texts(prefixes []netip.Prefix) []string {
	list := make([]string, 0, len(prefixes))
	for _, p := range prefixes {
		list = append(list, p.String())
	}
	return list
}
