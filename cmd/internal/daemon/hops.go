package daemon

import (
	"context"
	"errors"
	"time"

	"sixin4/encap/wire"
	"sixin4/tun/ifcfg"
)

// hopInterval is how often the next hops of the packet wire are asked for. It is
// also the longest time for which packets go to a neighbour that has been
// replaced by one with another link-layer address.
const hopInterval = 2 * time.Second

// followHops tells the packet wire how each peer is reached. A peer whose next
// hop is not known is sent to through the raw socket.
func (t *tunnel) followHops(ctx context.Context, ready func()) error {
	tick := time.NewTicker(hopInterval)
	defer tick.Stop()
	for {
		t.wire.SetHops(t.hops())
		ready()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (t *tunnel) hops() map[[4]byte]wire.Hop {
	hops := make(map[[4]byte]wire.Hop, len(t.cfg.Peers))
	for _, p := range t.cfg.Peers {
		hop, err := ifcfg.NextHop(p.Remote)
		switch {
		case err == nil && hop.Link != t.iface.Index:
			hops[p.Remote.As4()] = wire.Hop{Link: hop.Link, MAC: hop.MAC}
		case err != nil && !errors.Is(err, ifcfg.ErrUnresolved):
			t.env.Logger.Debug("next hop not known", "peer", p.Remote, "error", err)
		}
	}
	return hops
}
