package daemon

import (
	"net/netip"

	"sixin4/encap"
	"sixin4/encap/engine"
)

// startEngine makes the engine with one outbound lane for each queue of the
// device, and the first peer table.
func (t *tunnel) startEngine() error {
	ours, err := t.ours()
	if err != nil {
		return err
	}
	table, err := t.newTable(ours)
	if err != nil {
		return err
	}
	t.seen.ours, t.seen.wireMTU = ours, t.plan.wireMTU
	cfg := engine.Config{
		Inbound: engine.Lane{In: t.wire.Reader(), Out: t.device.NewWriter()},
		MTU:     t.plan.MTU,
		WireMTU: t.plan.wireMTU,
		Source:  t.source(),
		Logger:  t.env.Logger,
	}
	for i := range t.device.Queues() {
		out, err := t.wire.NewWriter()
		if err != nil {
			return wireError(t.cfg, err)
		}
		cfg.Outbound = append(cfg.Outbound, engine.Lane{
			In: t.device.Reader(i), Out: out, Back: t.device.NewWriter(),
		})
	}
	t.engine, err = engine.New(cfg, table)
	return err
}

// source is where ICMPv6 errors come from: an address that a host beyond this
// one can answer to, when there is one.
func (t *tunnel) source() netip.Addr {
	for _, a := range t.cfg.Addresses {
		if a.Addr().IsGlobalUnicast() {
			return a.Addr()
		}
	}
	return linkLocal(t.plan.Local).Addr()
}

// newTable makes a peer table that lets no packet in from ours.
func (t *tunnel) newTable(ours []netip.Prefix) (*engine.Table, error) {
	cfg := engine.TableConfig{Ours: ours}
	for _, p := range t.plan.Peers {
		cfg.Peers = append(cfg.Peers, engine.Peer{
			Remote:   p.Remote,
			Prefixes: p.Prefixes,
			Outer:    t.outer(p.Remote),
		})
	}
	return engine.NewTable(cfg)
}

// outer describes the outer header to one peer. A fixed MTU is RFC 4213's static
// one (Section 3.2.1), which leaves Don't Fragment clear.
func (t *tunnel) outer(remote netip.Addr) encap.Outer {
	return encap.Outer{
		Src:         t.plan.Local,
		Dst:         remote,
		TTL:         t.cfg.TTL.Value,
		InheritTTL:  t.cfg.TTL.Inherit,
		DSCP:        t.cfg.TOS.Value,
		InheritDSCP: t.cfg.TOS.Inherit,
		ClearDF:     t.cfg.MTU != 0,
	}
}

// ours is the ingress filter: no packet may come out of the tunnel from one of
// our own addresses or from a network that this host is attached to elsewhere.
func (t *tunnel) ours() ([]netip.Prefix, error) {
	ours, err := t.env.host().HostPrefixes(t.iface.Index)
	if err != nil {
		return nil, err
	}
	for _, a := range t.plan.Addresses {
		ours = append(ours, netip.PrefixFrom(a.Addr(), a.Addr().BitLen()))
	}
	return ours, nil
}
