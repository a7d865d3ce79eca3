package daemon

import (
	"net/netip"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/control"
	"sixin4/encap"
	"sixin4/encap/engine"
)

// status is the answer of the control socket as far as every tunnel has it. It
// may be called at any time while the tunnel runs.
func (t *tunnel) status(mode string) control.Tunnel {
	now, stats := t.now.Load(), t.stats()
	s := control.Tunnel{
		Name:      t.name,
		Mode:      mode,
		State:     "up",
		Wire:      t.wireInUse(),
		MTU:       int(now.mtu),
		Since:     t.since,
		Tx:        count(stats.Tx),
		Rx:        count(stats.Rx),
		Drops:     t.drops(stats),
		Work:      t.work(stats),
		Peers:     peers(now, stats),
		Addresses: texts(now.global()),
		Prefixes:  texts(now.delegated),
	}
	if now.local.IsValid() {
		s.Local = now.local.String()
	}
	if trouble := t.trouble.Load(); trouble != nil {
		s.State, s.Reason = "down", *trouble
	}
	return s
}

// wireInUse is how packets leave at present, raw or packet.
func (t *tunnel) wireInUse() string {
	if t.hopper == nil {
		return config.WireRaw
	}
	return t.hopper.inUse()
}

// stats are those of the engine, all zero as long as there is none.
func (t *tunnel) stats() engine.Stats {
	select {
	case <-t.begun:
		return t.engine.Stats()
	default:
		return engine.Stats{}
	}
}

func count(c engine.Count) control.Count {
	return control.Count{Packets: c.Packets, Bytes: c.Bytes}
}

func (t *tunnel) work(stats engine.Stats) *control.Work {
	if t.device == nil {
		return nil
	}
	device, wire := t.device.Stats(), t.wire.Stats()
	return &control.Work{
		Split: device.Split, SplitInto: device.SplitInto,
		Joined: device.Joined, JoinedInto: device.JoinedInto,
		Merged: wire.Merged, Reassembled: wire.Reassembled,
		Fragments: stats.Fragments, ICMPErrors: stats.ICMPErrors,
	}
}

// drops are the reasons that have happened. What the socket lost in front of the
// engine is one of them.
func (t *tunnel) drops(stats engine.Stats) map[string]uint64 {
	stats.Drops[encap.DropWireOverflow] += t.wire.Stats().Overflow
	drops := make(map[string]uint64)
	for d := range encap.Drops() {
		if n := stats.Drops[d]; n > 0 {
			drops[d.String()] = n
		}
	}
	return drops
}

func peers(now *shape, stats engine.Stats) []control.Peer {
	mtu := make(map[netip.Addr]encap.TunMTU, len(now.peers))
	for _, p := range now.peers {
		mtu[p.Remote] = p.MTU
	}
	peers := make([]control.Peer, 0, len(stats.Peers))
	for _, p := range stats.Peers {
		peers = append(peers, control.Peer{
			Remote:    p.Remote.String(),
			Prefixes:  texts(p.Prefixes),
			MTU:       int(min(mtu[p.Remote], now.mtu)),
			LastHeard: p.LastHeard,
			Tx:        count(p.Tx),
			Rx:        count(p.Rx),
		})
	}
	return peers
}

func texts(prefixes []netip.Prefix) []string {
	list := make([]string, 0, len(prefixes))
	for _, p := range prefixes {
		list = append(list, p.String())
	}
	return list
}
