package daemon

import (
	"fmt"
	"net/netip"
	"slices"

	"sixin4/cmd/internal/config"
)

// Peers by rule are everywhere. Their tunnel stays at its local address, which the IPv6
// addresses of this host hold.

func isMapped(p config.Peer) bool { return p.Map != nil }

// wayTo is an address to which packets go as to the peer: its own, or for peers by rule
// the relay's, or any.
func wayTo(p config.Peer) netip.Addr {
	switch {
	case p.Map == nil:
		return p.Remote
	case len(p.Map.Relays) > 0:
		return p.Map.Relays[0]
	}
	return anywhere
}

// way is the same of a planned peer.
func (p PlannedPeer) way() netip.Addr {
	if p.mapping != nil {
		return p.route
	}
	return p.Remote
}

// String is the peer's address, or the rule.
func (p PlannedPeer) String() string {
	if p.mapping != nil {
		return p.Rule
	}
	return p.Remote.String()
}

// planMapped works out peers by rule, once the local address is known.
func (p *Plan) planMapped(cfg config.Config, peer config.Peer, planned *PlannedPeer) error {
	if peer.Map == nil {
		return nil
	}
	m, err := peer.Map.Mapping(p.Local, cfg.Addresses)
	if err != nil {
		return peer.Invalid(err.Error())
	}
	planned.Rule, planned.mapping, planned.route = peer.Map.Kind, m, wayTo(peer)
	own := m.Prefix()
	inside := func(a netip.Prefix) bool { return own.Contains(a.Addr()) }
	if own.IsValid() && !slices.ContainsFunc(cfg.Addresses, inside) {
		p.Warnings = append(p.Warnings, fmt.Sprintf("no --address is in %s, which is what %s gives %s: nothing will come back to another",
			own, peer.Map.Kind, p.Local))
	}
	return nil
}

// nameOf is what the peer at an address is called in the status.
func (s *shape) nameOf(remote netip.Addr, port uint16) string {
	if !remote.IsValid() || remote.IsUnspecified() {
		for _, p := range s.peers {
			if p.mapping != nil {
				return p.Rule
			}
		}
	}
	return outerText(netip.AddrPortFrom(remote, port))
}
