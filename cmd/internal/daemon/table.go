package daemon

import (
	"net/netip"

	"sixin4/encap"
	"sixin4/encap/engine"
)

// makeEngine makes the engine with one outbound lane for each queue of the device.
func (t *tunnel) makeEngine(s shape, table *engine.Table) (err error) {
	back, err := t.wire.NewWriter()
	if err != nil {
		return wireError(t.set, err)
	}
	cfg := engine.Config{
		Inbound: engine.Lane{In: t.wire.Reader(), Out: t.device.NewWriter(), Back: back, UDP: t.udp.may},
		MTU:     s.mtu,
		WireMTU: s.wireMTU,
		Source:  s.source(),

		ClampMSS: engine.Clamp(t.set.ClampMSS),
		Relay:    t.device.NewWriter(),
		Behind:   t.behind,
		Heard:    t.carriedFrom,
		Replies:  t.udp.replies,
		Logger:   t.env.Logger,
	}
	for i := range t.device.Queues() {
		out, err := t.wire.NewWriter()
		if err != nil {
			return wireError(t.set, err)
		}
		cfg.Outbound = append(cfg.Outbound, engine.Lane{
			In: t.device.Reader(i), Out: out, Back: t.device.NewWriter(),
		})
	}
	if err := t.addUDP(&cfg); err != nil {
		return wireError(t.set, err)
	}
	t.engine, err = engine.New(cfg, table)
	return err
}

// newTable makes a peer table that lets no packet in from ours. Those of a hub come
// later, by changePeers, so that one that cannot be does not keep the others out.
func (t *tunnel) newTable(s shape, ours []netip.Prefix) (*engine.Table, error) {
	cfg := engine.TableConfig{Ours: ours, Hub: s.hub, Self: s.source(), Blocked: t.set.blocked}
	if !s.hub {
		cfg.Peers = t.enginePeers(s, s.peers)
	}
	return engine.NewTable(cfg)
}

func (t *tunnel) enginePeers(s shape, planned []PlannedPeer) []engine.Peer {
	peers := make([]engine.Peer, len(planned))
	for i, p := range planned {
		peers[i] = engine.Peer{
			Remote:   p.Remote,
			Port:     p.port,
			Socket:   p.socket,
			Map:      p.mapping,
			Prefixes: p.Prefixes,
			Outer:    t.outerTo(s, p),
			Unproven: p.unproven,
			Rate:     t.set.rate,
		}
	}
	return peers
}

// changePeers takes peers of a hub out and puts others in, and says which cannot be. Of
// all that there are then the shape knows only few.
func (t *tunnel) changePeers(without []engine.End, with, few []PlannedPeer) []engine.Refusal {
	t.change.Lock()
	defer t.change.Unlock()
	next := *t.now.Load()
	t.short.without(without, with)
	refused := t.engine.ChangeAt(without, t.enginePeers(next, with))
	t.short.with(with, refused)
	next.peers = few
	t.now.Store(&next)
	return refused
}

// outer describes the outer header to one peer. A fixed MTU is RFC 4213's static
// one (Section 3.2.1), which leaves Don't Fragment clear.
func (t *tunnel) outer(local, remote netip.Addr) encap.Outer {
	return encap.Outer{
		Src:         local,
		Dst:         remote,
		TTL:         t.set.TTL.Value,
		InheritTTL:  t.set.TTL.Inherit,
		DSCP:        t.set.TOS.Value,
		InheritDSCP: t.set.TOS.Inherit,
		ClearDF:     t.set.MTU != 0,
	}
}

// ours is the ingress filter: no packet may come out of the tunnel from one of
// our own addresses or from a network that this host is attached to elsewhere. here are
// the addresses that it has elsewhere, which only the kernel's way has to know.
func (t *tunnel) ours(s shape) (ours []netip.Prefix, here []netip.Addr, err error) {
	if ours, err = t.env.host().HostPrefixes(t.iface.Index); err != nil {
		return nil, nil, err
	}
	if t.short != nil {
		here, err = t.env.host().HostAddresses(t.iface.Index)
	}
	return append(ours, s.own()...), here, err
}
