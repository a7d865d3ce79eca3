package daemon

import (
	"net/netip"

	"sixin4/encap"
	"sixin4/encap/engine"
)

// makeEngine makes the engine with one outbound lane for each queue of the device.
func (t *tunnel) makeEngine(s shape, table *engine.Table) (err error) {
	cfg := engine.Config{
		Inbound: engine.Lane{In: t.wire.Reader(), Out: t.device.NewWriter()},
		MTU:     s.mtu,
		WireMTU: s.wireMTU,
		Source:  s.source(),
		Logger:  t.env.Logger,
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
	t.engine, err = engine.New(cfg, table)
	return err
}

// newTable makes a peer table that lets no packet in from ours.
func (t *tunnel) newTable(s shape, ours []netip.Prefix) (*engine.Table, error) {
	cfg := engine.TableConfig{Ours: ours, Hub: s.hub, Self: s.source()}
	for _, p := range s.peers {
		cfg.Peers = append(cfg.Peers, engine.Peer{
			Remote:   p.Remote,
			Prefixes: p.Prefixes,
			Outer:    t.outer(s.local, p.Remote),
			Unproven: p.unproven,
		})
	}
	return engine.NewTable(cfg)
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
// our own addresses or from a network that this host is attached to elsewhere.
func (t *tunnel) ours(s shape) ([]netip.Prefix, error) {
	ours, err := t.env.host().HostPrefixes(t.iface.Index)
	if err != nil {
		return nil, err
	}
	return append(ours, s.own()...), nil
}
