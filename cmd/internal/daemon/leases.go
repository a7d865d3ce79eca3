package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker"
	"sixin4/tsp/broker/store"
)

// leases are the tunnels of a broker: it offers them, and has the engine carry those
// that were accepted. It is the broker's Provisioner.
//
//	Offer ──> Accept ──> unproven ──> proven ──> not heard for too long, and silent
//	                        │ no answer             when asked; expired, dropped, lost
//	                        v                          │ to another broker
//	                      gone <──────────────────────┘
//
// What changes here the task run hands to the engine, as one new table for however
// many changes there were meanwhile.
type leases struct {
	b       *brokerage
	changed chan struct{} // holds one when the engine does not know all yet
	doubted chan struct{} // the same for doubts

	mu      sync.Mutex
	fresh   []*liveLease // the engine does not know them yet
	doubts  []*liveLease // that have to show where they are
	byID    map[string]*liveLease
	byOuter map[netip.Addr]*liveLease // no two tunnels can end at one address
}

// liveLease is a tunnel that is carried. The store's lease in it is never changed.
type liveLease struct {
	store.Lease
	since   time.Time // accepted, or found there when asked
	proven  bool
	resumed bool      // of the run before: has until Silence to show that it is there
	asked   int       // echo requests in a row without an answer
	asking  bool      // it is in doubts, or being asked
	heard   time.Time // as the store knows it
	gone    bool
}

func newLeases(b *brokerage) *leases {
	return &leases{
		b: b, changed: make(chan struct{}, 1), doubted: make(chan struct{}, 1),
		byID: make(map[string]*liveLease), byOuter: make(map[netip.Addr]*liveLease),
	}
}

// offerTime is how long an offer to nobody waits for its acceptance.
const offerTime = 5 * time.Minute

// Offer reserves an address, and a prefix if one is asked for.
func (t *leases) Offer(ctx context.Context, ask broker.Ask) (*broker.Grant, error) {
	if err := t.checkOuter(ask.Outer); err != nil {
		return nil, err
	}
	bits, err := ask.PrefixLen()
	if err != nil {
		return nil, err
	}
	want := store.Want{PrefixLen: bits, From: netip.AddrPortFrom(ask.Outer, 0), Expires: time.Now().Add(offerTime)}
	if ask.User != nil {
		want.UserID = ask.User.ID
	}
	if t.isTaken(ctx, ask) {
		return nil, &tsp.Error{Code: tsp.IPv4InUse}
	}
	l, err := t.b.store.Reserve(ctx, want)
	if err != nil {
		return nil, reserveError(err, bits)
	}
	return &broker.Grant{ID: grantID(l.ID, l.Epoch), Tunnel: t.tunnel(l, ask)}, nil
}

// checkOuter refuses what cannot be another host.
func (t *leases) checkOuter(a netip.Addr) error {
	own, err := t.b.env.host().HasAddress(a)
	if err != nil {
		return err
	}
	if b := a.As4(); own || !a.IsGlobalUnicast() || b[0] == 0 || b[0] >= 240 {
		return &tsp.Error{Code: tsp.BadIPv4}
	}
	return nil
}

// isTaken reports whether somebody else's tunnel ends where a client wants one. Who
// speaks over TCP has the address, so a tunnel of nobody there is its own of before,
// or of one who has gone. Any other is asked: a datagram may have a forged source, and
// must not end the tunnel of who is there.
func (t *leases) isTaken(ctx context.Context, ask broker.Ask) bool {
	t.mu.Lock()
	other := t.byOuter[ask.Outer]
	taken := other != nil && other.proven && (ask.User == nil || ask.User.ID != other.UserID) &&
		(ask.Conn != nil || other.UserID != "")
	t.mu.Unlock()
	return taken && t.answers(ctx, other, takenTime)
}

// takenTime is how long the owner of an address has to answer before another gets it.
const takenTime = time.Second

// reserveError is what a client is told of why it gets nothing.
func reserveError(err error, bits int) error {
	code := tsp.ServerError
	switch {
	case errors.Is(err, store.ErrDisabled), errors.Is(err, store.ErrNotFound):
		code = tsp.AuthFailed
	case errors.Is(err, store.ErrFull) && bits > 0:
		code = tsp.PrefixUnavailable
	case errors.Is(err, store.ErrFull):
		code = tsp.NoTunnels
	}
	if code == tsp.ServerError {
		return err
	}
	return &tsp.Error{Code: code}
}

// tunnel is what the client is told of its lease.
func (t *leases) tunnel(l store.Lease, ask broker.Ask) *tsp.Tunnel {
	o := &tsp.Tunnel{
		Type: ask.Type, Lifetime: t.b.cfg.Lifetime,
		Server4: t.b.local(), Client4: ask.Outer,
		Server6: l.Server6, Client6: l.Client6, Prefix: l.Prefix,
		DNS: t.b.dns,
	}
	if ask.Request.Keepalive > 0 {
		// Not so rarely that silence between two would be the end of the tunnel.
		often := min(max(ask.Request.Keepalive, t.b.cfg.Keepalive), (t.b.cfg.Silence / 2).Truncate(time.Second))
		o.Keepalive, o.KeepaliveTo = often, l.Server6
	}
	return o
}

// resolvers are those of the configuration, or this host's own that are IPv6, or the
// broker itself: there are clients that crash without one.
func (b *brokerage) resolvers(own netip.Addr) []netip.Addr {
	if len(b.cfg.DNS) > 0 {
		return b.cfg.DNS
	}
	f, err := os.Open("/etc/resolv.conf")
	if err != nil {
		return []netip.Addr{own}
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		rest, ok := strings.CutPrefix(strings.TrimSpace(s.Text()), "nameserver")
		a, err := netip.ParseAddr(strings.TrimSpace(rest))
		if ok && err == nil && a.Is6() && a.Zone() == "" && a.IsGlobalUnicast() && !a.Is4In6() {
			return []netip.Addr{a}
		}
	}
	return []netip.Addr{own}
}

// A grant is a lease in one session.
func grantID(lease string, epoch int64) string { return fmt.Sprintf("%s/%d", lease, epoch) }

func parseGrant(id string) (lease string, epoch int64, err error) {
	lease, text, _ := strings.Cut(id, "/")
	epoch, err = strconv.ParseInt(text, 10, 64)
	return lease, epoch, err
}

// Accept begins the session in the store, and then in the engine.
func (t *leases) Accept(ctx context.Context, g *broker.Grant) error {
	id, epoch, err := parseGrant(g.ID)
	if err != nil {
		return err
	}
	l, err := t.b.store.Activate(ctx, store.Activation{
		ID: id, Epoch: epoch, Node: t.b.node(), Type: g.Tunnel.Type,
		Outer: netip.AddrPortFrom(g.Tunnel.Client4, 0), Expires: time.Now().Add(t.b.cfg.AnonymousLease),
	})
	if err != nil {
		return err
	}
	t.put(l)
	return nil
}

// Close ends what nobody wants. A tunnel whose client has closed its connection lives
// on: its silence will tell.
func (t *leases) Close(g *broker.Grant, keep bool) {
	id, epoch, err := parseGrant(g.ID)
	if keep || err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	t.mu.Lock()
	l := t.byID[id]
	t.mu.Unlock()
	if l != nil && l.Epoch == epoch {
		t.end(ctx, l, "deleted by its client")
		return
	}
	if s, err := t.b.store.Lease(ctx, id); err == nil && s.UserID == "" && s.State == store.Offered {
		t.recordEnd(t.b.store.Release(ctx, id, s.Epoch), id)
	}
}

// storeTime bounds what the store may take for one thing.
const storeTime = 10 * time.Second

// put carries a lease, in place of an earlier session of the same, and of one that had
// the same outer address.
func (t *leases) put(s store.Lease) {
	t.carry(&liveLease{Lease: s, since: time.Now(), heard: s.LastSeen})
}

// resume carries a lease of the run before.
func (t *leases) resume(s store.Lease) {
	t.carry(&liveLease{Lease: s, since: time.Now(), heard: s.LastSeen, resumed: true})
}

func (t *leases) carry(l *liveLease) {
	t.mu.Lock()
	before := t.byID[l.ID]
	if before != nil && before.Epoch > l.Epoch {
		t.mu.Unlock()
		return // a later session was faster
	}
	if before != nil {
		t.drop(before)
	}
	ousted := t.byOuter[l.Outer.Addr()]
	if ousted != nil {
		t.drop(ousted)
	}
	t.byID[l.ID], t.byOuter[l.Outer.Addr()] = l, l
	t.fresh = append(t.fresh, l)
	t.mu.Unlock()
	if ousted != nil {
		ctx, cancel := context.WithTimeout(context.Background(), storeTime)
		defer cancel()
		t.retire(ctx, ousted, "its outer address has another tunnel now")
	}
	t.notify()
}

// drop forgets a tunnel; t.mu is held.
func (t *leases) drop(l *liveLease) {
	l.gone = true
	if t.byID[l.ID] == l {
		delete(t.byID, l.ID)
	}
	if t.byOuter[l.Outer.Addr()] == l {
		delete(t.byOuter, l.Outer.Addr())
	}
}

// end takes a tunnel down. Its lease stays its owner's.
func (t *leases) end(ctx context.Context, l *liveLease, why string) {
	t.mu.Lock()
	was := !l.gone
	t.drop(l)
	t.mu.Unlock()
	if was {
		t.retire(ctx, l, why)
		t.notify()
	}
}

// retire puts the end of a tunnel on record. What nobody has shown to have is free
// again at once.
func (t *leases) retire(ctx context.Context, l *liveLease, why string) {
	over := t.b.store.Deactivate
	if l.UserID == "" && !l.proven && !l.resumed {
		over = t.b.store.Release
	}
	t.recordEnd(over(ctx, l.ID, l.Epoch), l.ID)
	t.b.env.Logger.Info("tunnel taken down", "lease", l.ID, "outer", l.Outer.Addr(), "address", l.Client6, "reason", why)
}

func (t *leases) recordEnd(err error, id string) {
	if err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
		t.b.env.Logger.Warn("the end of a tunnel is not on record", "lease", id, "error", err)
	}
}

// lastHeard is when each outer address was heard, as the engine knows it.
func (t *leases) lastHeard() map[netip.Addr]time.Time {
	heard := make(map[netip.Addr]time.Time)
	for _, p := range t.b.stats().Peers {
		heard[p.Remote] = p.LastHeard
	}
	return heard
}

// peers are the tunnels as the engine wants them.
func (t *leases) peers() []PlannedPeer {
	t.mu.Lock()
	defer t.mu.Unlock()
	peers := make([]PlannedPeer, 0, len(t.byOuter))
	for outer, l := range t.byOuter {
		p := PlannedPeer{Remote: outer, Prefixes: []netip.Prefix{single(l.Client6)}, unproven: !l.proven}
		if l.Prefix.IsValid() {
			p.Prefixes = append(p.Prefixes, l.Prefix)
		}
		peers = append(peers, p)
	}
	return peers
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
			t.handOver()
		}
	}
}

func (t *leases) handOver() {
	t.mu.Lock()
	fresh := t.fresh
	t.fresh = nil
	t.mu.Unlock()
	if err := t.b.setPeers(t.peers()); err != nil {
		t.b.env.Logger.Error("the engine does not take the tunnels", "error", err)
	}
	for _, l := range fresh {
		t.doubt(l)
	}
}

// keep keeps the store up to date, and ends what is over.
func (t *leases) keep(ctx context.Context, ready func()) error {
	touch, expire := time.NewTicker(touchInterval), time.NewTicker(expireInterval)
	defer touch.Stop()
	defer expire.Stop()
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-touch.C:
			t.touch(ctx)
		case <-expire.C:
			t.expire(ctx)
		}
	}
}
