package daemon

import (
	"context"
	"net/netip"
	"time"

	"sixin4/encap/engine"
	"sixin4/tsp/broker"
)

// few are peers of the hub's shape, and when they were listed.
type few struct {
	peers []PlannedPeer
	at    time.Time
}

// fewAge is how old the list may get of peers of a hub that has more. Nobody needs it to
// be exact then, and in a crowd there are hundreds of changes a second.
const fewAge = time.Second

// peers are the tunnels as the engine wants them, at most so many.
func (t *leases) peers(most int) []PlannedPeer {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if len(t.byOuter) >= most && len(t.few.peers) == most && now.Sub(t.few.at) < fewAge {
		return t.few.peers
	}
	peers := make([]PlannedPeer, 0, min(len(t.byOuter), most))
	for _, l := range t.byOuter {
		if len(peers) == most {
			break
		}
		peers = append(peers, l.peer())
	}
	t.few = few{peers, now}
	return peers
}

func (l *liveLease) peer() PlannedPeer {
	p := PlannedPeer{
		Remote: l.Outer.Addr(), Prefixes: []netip.Prefix{single(l.Client6)}, unproven: !l.proven,
		port: l.Outer.Port(), socket: l.socket, local: l.Local, merged: l.merged, inner: l.Client6,
	}
	if l.Prefix.IsValid() {
		p.Prefixes = append(p.Prefixes, l.Prefix)
	}
	return p
}

// full is for broker.Redirect: whether a client should go elsewhere, as there are enough
// tunnels here. One that has a tunnel here, or ends where one does, stays.
func (t *leases) full(u *broker.User, from netip.AddrPort) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.endsAt(netip.AddrPortFrom(from.Addr(), 0)) || t.endsAt(from) || u != nil && t.users[u.ID] > 0 {
		return false
	}
	return len(t.byOuter) >= t.b.cfg.RedirectAbove
}

// endsAt reports whether a tunnel ends at a client's address and port, by whatever socket.
// t.mu is held.
func (t *leases) endsAt(outer netip.AddrPort) bool {
	if t.byOuter[engine.End{AddrPort: outer}] != nil {
		return true
	}
	for i := range t.b.beside.udp {
		if t.byOuter[engine.End{AddrPort: outer, Socket: uint16(i)}] != nil {
			return true
		}
	}
	return false
}

// notify has run hand over what is new.
func (t *leases) notify() {
	select {
	case t.changed <- struct{}{}:
	default: // it is about to look anyway
	}
}

// run keeps the engine up to date. Only what the engine knows as unproven is asked to
// show that it is there: before that the requests would go where it was.
func (t *leases) run(ctx context.Context, ready func()) error {
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.changed:
			t.handOver(ctx)
		}
	}
}

func (t *leases) handOver(ctx context.Context) {
	fresh, without, with := t.news()
	for _, r := range t.b.changePeers(without, with, t.peers(mostHops+1)) {
		t.mu.Lock()
		l := t.byOuter[r.Peer.End()]
		t.mu.Unlock()
		if l != nil && t.inTheWay(ctx, l) {
			continue
		}
		t.b.env.Logger.Error("a tunnel cannot be carried", "outer", r.Peer.String(), "error", r.Err)
		if l != nil {
			t.end(ctx, l, "it cannot be carried")
		}
	}
	for _, l := range fresh {
		t.doubt(l)
	}
}

// inTheWay reports whether a tunnel that the engine has refused may be carried after all:
// what it was given may have been another's a moment ago, when nothing is in quarantine.
// Once that one is taken down it is tried again, once.
func (t *leases) inTheWay(ctx context.Context, l *liveLease) bool {
	t.mu.Lock()
	again := l.again
	l.again = true
	t.mu.Unlock()
	if again {
		return false
	}
	t.sweep(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.gone {
		return true
	}
	t.dirty[l.end()] = true
	t.notify()
	return true
}

// news is what has changed since it was called last.
func (t *leases) news() (fresh []*liveLease, without []engine.End, with []PlannedPeer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for at := range t.dirty {
		if l := t.byOuter[at]; l != nil {
			with = append(with, l.peer())
		} else {
			without = append(without, at)
		}
	}
	clear(t.dirty)
	fresh, t.fresh = t.fresh, nil
	return fresh, without, with
}

// lastHeard is when a packet of a tunnel was accepted last, zero for never.
func (t *leases) lastHeard(l *liveLease) time.Time {
	p, _ := t.b.peerStats(l.end())
	return p.LastHeard
}
