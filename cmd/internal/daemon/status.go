package daemon

import (
	"net/netip"

	"sixin4/cmd/internal/control"
	"sixin4/encap"
	"sixin4/encap/engine"
)

// status is the answer of the control socket. It may be called at any time while
// the tunnel runs.
func (t *tunnel) status() control.Tunnel {
	stats := t.engine.Stats()
	s := control.Tunnel{
		Name:  t.plan.Name,
		Mode:  "static",
		State: "up",
		Wire:  t.cfg.Wire,
		Local: t.plan.Local.String(),
		MTU:   int(t.mtu()),
		Since: t.since,
		Tx:    count(stats.Tx),
		Rx:    count(stats.Rx),
		Drops: t.drops(stats),
		Work:  t.work(stats),
		Peers: t.peers(stats),
	}
	if !t.cfg.Hub {
		s.Remote = t.plan.Peers[0].Remote.String()
	}
	if trouble := t.trouble.Load(); trouble != nil {
		s.State, s.Reason = "down", *trouble
	}
	s.Addresses = texts(t.cfg.Addresses)
	return s
}

func count(c engine.Count) control.Count {
	return control.Count{Packets: c.Packets, Bytes: c.Bytes}
}

func (t *tunnel) work(stats engine.Stats) *control.Work {
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

func (t *tunnel) peers(stats engine.Stats) []control.Peer {
	mtu := make(map[netip.Addr]encap.TunMTU, len(t.plan.Peers))
	for _, p := range t.plan.Peers {
		mtu[p.Remote] = p.MTU
	}
	peers := make([]control.Peer, 0, len(stats.Peers))
	for _, p := range stats.Peers {
		peers = append(peers, control.Peer{
			Remote:    p.Remote.String(),
			Prefixes:  texts(p.Prefixes),
			MTU:       int(min(mtu[p.Remote], t.mtu())),
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
