package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"sixin4/cmd/internal/config"
	"sixin4/encap"
	"sixin4/tun/ifcfg"
)

// seen is what the watch task remembers from one change of this host's network
// to the next.
type seen struct {
	ours    []netip.Prefix
	trouble string        // that was logged, empty when there is none
	wireMTU encap.WireMTU // of the way to the peers, the smallest
}

// watch follows this host's addresses, links and routes while the tunnel runs.
func (t *tunnel) watch(ctx context.Context, ready func()) error {
	return ifcfg.Watch(ctx, func() {
		t.refresh()
		ready()
	})
}

// refresh renews the ingress filter and looks how the peers are reached. What
// fails here is logged: a tunnel that works goes on.
func (t *tunnel) refresh() {
	if err := t.refreshTable(); err != nil {
		t.env.Logger.Warn("peer table not renewed", "error", err)
	}
	wireMTU, trouble := t.look()
	if own := t.repair(); own != "" {
		trouble = own
	}
	t.noteTrouble(trouble)
	if wireMTU != 0 && wireMTU != t.seen.wireMTU {
		t.seen.wireMTU = wireMTU
		t.followMTU(wireMTU)
	}
}

func (t *tunnel) refreshTable() error {
	ours, err := t.ours()
	if err != nil || slices.Equal(ours, t.seen.ours) {
		return err
	}
	table, err := t.newTable(ours)
	if err != nil {
		return err
	}
	t.seen.ours = ours
	t.engine.SetTable(table)
	t.env.Logger.Debug("ingress filter renewed", "prefixes", len(ours))
	return nil
}

// look asks how each peer is reached now. It returns the smallest MTU, 0 when no
// peer can be reached, and why the first one cannot when none can.
func (t *tunnel) look() (least encap.WireMTU, trouble string) {
	for _, p := range t.cfg.Peers {
		mtu, err := t.wayTo(p)
		switch {
		case err != nil && trouble == "":
			trouble = err.Error()
		case err == nil && (least == 0 || mtu < least):
			least = mtu
		}
	}
	if least != 0 {
		trouble = ""
	}
	return least, trouble
}

// wayTo returns the MTU of the way to p, or why there is none.
func (t *tunnel) wayTo(p config.Peer) (encap.WireMTU, error) {
	route, err := t.env.host().RouteTo(p.Remote)
	if err == nil && route.Index == t.iface.Index {
		err = fmt.Errorf("peer %s %s", p.Remote, t.selfRoute(p))
	}
	return encap.WireMTU(route.MTU), err
}

// repair gives the interface back what it has lost: when it goes down, the kernel
// takes all its addresses and routes away and does not bring them back. It
// returns why the tunnel cannot work now for a reason of this host's own.
func (t *tunnel) repair() (trouble string) {
	up, have, err := t.iface.State()
	switch {
	case err != nil:
		return "" // it is gone; the engine says so
	case !up:
		return fmt.Sprintf("the interface is down (ip link set %s up)", t.plan.Name)
	}
	for _, a := range t.plan.Addresses {
		if !slices.Contains(have, a) {
			t.restore(a, t.iface.AddAddress)
		}
	}
	for _, r := range t.plan.Routes {
		t.restore(r, t.iface.AddRoute)
	}
	if ok, err := t.env.host().HasAddress(t.plan.Local); err == nil && !ok {
		return fmt.Sprintf("%s is no address of this host any more", t.plan.Local)
	}
	return ""
}

// restore adds an address or a route. It needs no undo: both go with the interface.
func (t *tunnel) restore(p netip.Prefix, add func(netip.Prefix) (ifcfg.Undo, error)) {
	switch _, err := add(p); {
	case err == nil:
		t.env.Logger.Info("restored what the interface had lost", "name", t.plan.Name, "prefix", p)
	case !errors.Is(err, syscall.EEXIST):
		t.env.Logger.Warn("not restored", "name", t.plan.Name, "error", err)
	}
}

// noteTrouble keeps why no packet can reach any peer, for the status, and logs
// when that changes.
func (t *tunnel) noteTrouble(trouble string) {
	if trouble == t.seen.trouble {
		return
	}
	t.seen.trouble = trouble
	if trouble == "" {
		t.trouble.Store(nil)
		t.env.Logger.Info("peer can be reached again", "name", t.plan.Name)
		return
	}
	t.trouble.Store(&trouble)
	t.env.Logger.Warn("peer cannot be reached", "name", t.plan.Name, "reason", trouble)
}

// followMTU gives the engine, and an interface with automatic MTU, what the way
// to the peers carries now. The kernel then tells senders.
func (t *tunnel) followMTU(wire encap.WireMTU) {
	mtu := t.cfg.MTU
	if mtu == 0 {
		mtu = wire.Tun()
	}
	if err := t.setMTU(mtu, wire); err != nil {
		t.env.Logger.Warn("MTU not changed", "error", err)
		return
	}
	t.env.Logger.Info("the MTU follows the way to the peer", "name", t.plan.Name, "mtu", int(mtu), "link-mtu", int(wire))
}

// setMTU changes engine and interface in the order in which the interface never
// lets through more than the engine takes.
func (t *tunnel) setMTU(mtu encap.TunMTU, wire encap.WireMTU) error {
	device := func() error {
		_, err := t.iface.SetMTU(int(mtu)) // the interface goes at the end, nothing to undo
		return err
	}
	steps := []func() error{device, func() error { return t.engine.SetMTU(mtu, wire) }}
	if mtu > t.mtu() {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	t.nowMTU.Store(int64(mtu))
	return nil
}

// mtu returns the MTU of the interface, which follows the way to the peers.
func (t *tunnel) mtu() encap.TunMTU {
	if now := t.nowMTU.Load(); now != 0 {
		return encap.TunMTU(now)
	}
	return t.plan.MTU
}

// checkRoutes refuses a peer that is reached through the tunnel itself. One that
// is reached through another tunnel of ours is fine, and one that is not reached
// at all may come back.
func (t *tunnel) checkRoutes() error {
	for _, p := range t.cfg.Peers {
		route, err := t.env.host().RouteTo(p.Remote)
		if err == nil && route.Index == t.iface.Index {
			return p.Invalid(t.selfRoute(p))
		}
	}
	return nil
}

func (t *tunnel) selfRoute(p config.Peer) string {
	return fmt.Sprintf("is routed into its own tunnel %s; it needs a route over another interface (ip route get %s shows it)",
		t.plan.Name, p.Remote)
}
