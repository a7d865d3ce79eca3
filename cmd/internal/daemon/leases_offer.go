package daemon

import (
	"bufio"
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"sixin4/encap/engine"
	"sixin4/tsp"
	"sixin4/tsp/broker"
	"sixin4/tsp/broker/store"
)

// offerTime is how long an offer to nobody waits for its acceptance.
const offerTime = 5 * time.Minute

// Offer reserves an address, and a prefix if one is asked for.
func (t *leases) Offer(ctx context.Context, ask broker.Ask) (*broker.Grant, error) {
	if err := t.checkOuter(ask.Outer); err != nil {
		return nil, err
	}
	at, local, ok := t.asked(ask)
	if !ok {
		return nil, &tsp.Error{Code: tsp.BadType}
	}
	bits, err := ask.PrefixLen()
	if err != nil {
		return nil, err
	}
	if other, waits := t.rival(ask, at); other != nil && (sameEnd(ask, other) || waits && !ask.Hears || t.holds(ctx, other)) {
		if ask.User != nil || other.UserID != "" {
			return nil, &tsp.Error{Code: tsp.IPv4InUse}
		}
		return t.renewed(other, ask, at, local), nil
	}
	want := store.Want{PrefixLen: bits, From: at.AddrPort, Expires: time.Now().Add(offerTime)}
	if ask.User != nil {
		want.UserID = ask.User.ID
	}
	l, err := t.b.store.Reserve(ctx, want)
	if err != nil {
		return nil, reserveError(t.unwritten(err), bits)
	}
	if ask.User == nil {
		if old, over := t.unproven.add(promise{id: l.ID, epoch: l.Epoch, source: ask.From.Addr()}); over {
			t.giveUp(ctx, old)
		}
	}
	return &broker.Grant{ID: grantAt(grantID(l.ID, l.Epoch), at, local, ask.Merged), Tunnel: t.tunnel(l, ask, local)}, nil
}

// renewed is a grant that gives a client what it has. That it takes merged TCP is believed of
// the session alone that began the tunnel: who renews it has shown nothing.
func (t *leases) renewed(l *liveLease, ask broker.Ask, at engine.End, local netip.AddrPort) *broker.Grant {
	t.mu.Lock()
	merged := l.merged && ask.Merged
	t.mu.Unlock()
	return &broker.Grant{
		ID:     renewal + grantAt(grantID(l.ID, l.Epoch), at, local, merged),
		Tunnel: t.tunnel(l.Lease, ask, local),
	}
}

// checkOuter refuses what cannot be another host.
func (t *leases) checkOuter(a netip.Addr) error {
	own, err := t.b.isOwn(a)
	if err != nil {
		return err
	}
	if b := a.As4(); own || !a.IsGlobalUnicast() || b[0] == 0 || b[0] >= 240 {
		return &tsp.Error{Code: tsp.BadIPv4}
	}
	return nil
}

// rival is the tunnel that ends at the end where a client wants one and may be somebody else's,
// nil for none. It waits when it is of the run before and has not answered yet: it has
// time to, and loses its place only to who has shown to have the address. Who speaks over TCP has the address, so a tunnel of nobody there is its
// own of before, or of one who has gone. Any other is asked: a datagram may have a
// forged source, and must not end the tunnel of who is there.
//
// When neither has an account and the one of before answers, it is the same host, which
// comes back over UDP with its interface still up: it gets the same again. Whoever only
// claims to be there gives it nothing that it has not, and takes nothing away: such a
// grant is a renewal, which changes no peer and cannot end the tunnel.
func (t *leases) rival(ask broker.Ask, at engine.End) (other *liveLease, waits bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	other = t.byOuter[at]
	if other == nil || !other.proven && !other.resumed ||
		ask.User != nil && ask.User.ID == other.UserID || ask.Conn == nil && other.UserID == "" {
		return nil, false
	}
	return other, !other.proven
}

// sameEnd reports whether nobody asks for a tunnel at the very address and port where one
// of nobody ends. Whoever that is need not be asked: it gets what it has.
func sameEnd(ask broker.Ask, other *liveLease) bool {
	return ask.User == nil && other.UserID == "" && other.Outer.Port() != 0
}

// renewal begins the ID of a grant that gives a client what it has.
const renewal = "again/"

// takenTimes are how long the owner of an address has to answer before another gets it,
// for each of the questions: one may be lost, and there are long ways.
var takenTimes = []time.Duration{300 * time.Millisecond, time.Second}

// holds reports whether the owner of an address answers there.
func (t *leases) holds(ctx context.Context, l *liveLease) bool {
	return slices.ContainsFunc(takenTimes, func(wait time.Duration) bool { return t.asks(ctx, l, wait) })
}

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

// tunnel is what the client is told of its lease. local is the socket of a tunnel in UDP.
func (t *leases) tunnel(l store.Lease, ask broker.Ask, local netip.AddrPort) *tsp.Tunnel {
	o := &tsp.Tunnel{
		Type: ask.Type, Lifetime: t.b.cfg.Lifetime,
		Server4: t.b.local(), Client4: ask.Outer,
		Server6: l.Server6, Client6: l.Client6, Prefix: l.Prefix,
		DNS: t.b.dns,
	}
	if local.IsValid() {
		o.Server4 = local.Addr()
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
