package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"sixin4/encap"
	"sixin4/tun/ifcfg"
)

// seen is what the watch task remembers from one change of this host's network
// to the next.
type seen struct {
	ours    []netip.Prefix
	here    []netip.Addr  // this host's IPv6 addresses on other interfaces
	trouble string        // that was logged, empty when there is none
	wireMTU encap.WireMTU // of the way to the peers, the smallest
}

// watch follows this host's addresses, links and routes while the tunnel runs.
func (t *tunnel) watch(ctx context.Context, ready func()) error {
	return ifcfg.Watch(ctx, func() {
		t.refresh()
		if !t.looked.Swap(true) {
			t.judge()
		}
		t.looks.ring()
		ready()
	})
}

// awaitWay is ready once the watch has found a way to a peer.
func (t *tunnel) awaitWay(ctx context.Context, ready func()) error {
	waits := sync.OnceFunc(func() {
		t.env.Logger.Info("waiting for a way to the peer; the ready line comes when there is one", "name", t.name)
	})
	if t.untilPassable(ctx, waits) {
		ready()
	}
	return nil
}

// untilPassable returns true once the watch has found a way to a peer, and false when ctx
// has ended before. waits is called after each look that finds none.
func (t *tunnel) untilPassable(ctx context.Context, waits func()) bool {
	for ctx.Err() == nil {
		next := t.looks.wait()
		if t.looked.Load() {
			if t.passable() {
				return true
			}
			waits()
		}
		select {
		case <-next:
		case <-ctx.Done():
		}
	}
	return false
}

// passable reports whether packets can go to a peer, when a look that is under way has ended.
func (t *tunnel) passable() bool {
	t.change.Lock()
	defer t.change.Unlock()
	return t.trouble.Load() == nil
}

// refresh renews the ingress filter and looks how the peers are reached. What
// fails here is logged: a tunnel that works goes on.
func (t *tunnel) refresh() {
	t.change.Lock()
	defer t.change.Unlock()
	now := t.now.Load()
	if !now.local.IsValid() {
		return // no lease
	}
	if now.hub {
		t.listOwn()
		t.short.roam()
	}
	now = t.relocate(now)
	if err := t.refreshTable(now); err != nil {
		t.env.Logger.Warn("peer table not renewed", "error", err)
	}
	wireMTU, trouble := t.look(now)
	if own := t.repair(now); own != "" {
		trouble = own
	}
	t.noteTrouble(trouble)
	if wireMTU != 0 && wireMTU != t.seen.wireMTU {
		t.followMTU(now, wireMTU)
	}
}

func (t *tunnel) refreshTable(now *shape) error {
	ours, here, err := t.ours(*now)
	if err != nil || slices.Equal(ours, t.seen.ours) && slices.Equal(here, t.seen.here) {
		return err
	}
	t.short.withdraw()
	t.seen.ours, t.seen.here = ours, here
	t.engine.SetOurs(ours)
	t.env.Logger.Debug("ingress filter renewed", "prefixes", len(ours))
	return nil
}

// listOwn notes this host's IPv4 addresses, which every client's is compared with.
func (t *tunnel) listOwn() {
	list, err := t.env.host().Addresses()
	if err != nil {
		t.env.Logger.Warn("own addresses not known", "error", err)
		t.own.Store(nil)
		return
	}
	own := make(map[netip.Addr]bool, len(list))
	for _, a := range list {
		own[a] = true
	}
	t.own.Store(&own)
}

// isOwn reports whether an address is one of this host.
func (t *tunnel) isOwn(a netip.Addr) (bool, error) {
	if own := t.own.Load(); own != nil {
		return (*own)[a], nil
	}
	return t.env.host().HasAddress(a) // not listed yet
}

// look asks how each peer is reached now. It returns the smallest MTU, 0 when no
// peer can be reached, and why the first one cannot when none can.
func (t *tunnel) look(now *shape) (least encap.WireMTU, trouble string) {
	if now.hub { // whose clients are anywhere
		mtu, _ := t.wayOut()
		return mtu, ""
	}
	for _, p := range now.peers {
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

// wayOut returns the MTU of the default route and of its link, 0 when there is none.
func (t *tunnel) wayOut() (way encap.WireMTU, link int) {
	route, err := t.routeTo(anywhere)
	if err != nil || route.Local || t.iface != nil && route.Index == t.iface.Index {
		return 0, 0
	}
	return encap.WireMTU(route.FixedMTU()), route.LinkMTU
}

// wayTo returns the MTU of the way to p, or why there is none.
func (t *tunnel) wayTo(p PlannedPeer) (encap.WireMTU, error) {
	route, err := t.routeTo(p.way())
	if err == nil && route.Index == t.iface.Index {
		err = fmt.Errorf("peer %s %s", p, t.selfRoute(p))
	}
	mtu := encap.WireMTU(route.FixedMTU())
	if held := encap.WireMTU(t.udp.held.Load()); p.port != 0 && held != 0 {
		mtu = min(mtu, held)
	}
	return mtu, err
}

// repair gives the interface back what it has lost: when it goes down, the kernel
// takes all its addresses and routes away and does not bring them back. It
// returns why the tunnel cannot work now for a reason of this host's own.
func (t *tunnel) repair(now *shape) (trouble string) {
	up, have, err := t.iface.State()
	switch {
	case err != nil:
		return "" // it is gone; the engine says so
	case !up:
		return fmt.Sprintf("the interface is down (ip link set %s up)", t.name)
	}
	for _, a := range now.addresses {
		if !slices.Contains(have, a) {
			t.restore(a, t.iface.AddAddress)
		}
	}
	for _, r := range now.routes {
		t.restore(r, t.routeAdder(*now))
	}
	for _, r := range now.spare {
		t.restore(r, t.iface.AddRoute)
	}
	if ok, err := t.env.host().HasAddress(now.local); err == nil && !ok {
		return fmt.Sprintf("%s is no address of this host any more", now.local)
	}
	return ""
}

// restore adds an address or a route, whose undo is on record already. There may be no
// interface to add it to by now, of which the engine says enough.
func (t *tunnel) restore(p netip.Prefix, add func(netip.Prefix) (ifcfg.Undo, error)) {
	switch _, err := add(p); {
	case err == nil:
		t.env.Logger.Info("restored what the interface had lost", "name", t.name, "prefix", p)
	case !errors.Is(err, syscall.EEXIST) && !errors.Is(err, syscall.ENODEV):
		t.env.Logger.Warn("not restored", "name", t.name, "error", err)
	}
}

// noteTrouble keeps why no packet can reach any peer, for the status, and logs
// when that changes.
func (t *tunnel) noteTrouble(trouble string) {
	if trouble == t.seen.trouble {
		return
	}
	t.seen.trouble = trouble
	t.turns.Add(1)
	defer t.judge()
	if trouble == "" {
		t.trouble.Store(nil)
		t.env.Logger.Info("peer can be reached again", "name", t.name)
		return
	}
	t.trouble.Store(&trouble)
	t.short.withdraw() // else the kernel counts what gets nowhere
	t.env.Logger.Warn("peer cannot be reached", "name", t.name, "reason", trouble)
}

// followMTU gives the engine, and an interface with automatic MTU, what the way
// to the peers carries now. The kernel then tells senders.
func (t *tunnel) followMTU(now *shape, wire encap.WireMTU) {
	t.short.withdraw()
	next := *now
	next.wireMTU, next.mtu = wire, t.autoMTU(now.carries(wire), now.limit)
	next.peers = slices.Clone(now.peers)
	for i, p := range next.peers {
		if now.hub {
			break // they have what the hub has
		}
		if way, err := t.wayTo(p); err == nil {
			next.peers[i].MTU = t.autoMTU(now.carries(way), now.limit)
		}
	}
	if err := t.setMTU(now.mtu, next.mtu, wire); err != nil {
		t.env.Logger.Warn("MTU not changed", "error", err)
		return
	}
	t.seen.wireMTU = wire
	t.now.Store(&next)
	t.short.roam()
	t.reshaped.ring()
	t.env.Logger.Info("the MTU follows the way to the peer", "name", t.name, "mtu", int(next.mtu), "link-mtu", int(wire))
}

// autoMTU is the MTU of a tunnel where mtu fits: the one that was fixed, or that, up to
// limit when there is one.
func (t *tunnel) autoMTU(mtu, limit encap.TunMTU) encap.TunMTU {
	if t.set.MTU != 0 {
		return t.set.MTU
	}
	if limit != 0 {
		mtu = min(mtu, limit)
	}
	return mtu
}

// setMTU changes engine and interface in the order in which the interface never
// lets through more than the engine takes.
func (t *tunnel) setMTU(now, next encap.TunMTU, wire encap.WireMTU) error {
	device := func() error {
		_, err := t.iface.SetMTU(int(next)) // the interface goes at the end, nothing to undo
		return err
	}
	steps := []func() error{device, func() error { return t.engine.SetMTU(next, wire) }}
	if next > now {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
