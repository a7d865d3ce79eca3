package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/exit"
	"sixin4/encap/engine"
	"sixin4/tsp"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/web"
)

// pages are the web pages of a broker, with where they are served.
type pages struct {
	site     *web.Site
	listener net.Listener
	tls      *tls.Config // nil for plain http
}

// openWeb opens the address of the web pages, if there are to be any.
func (b *brokerage) openWeb(ctx context.Context) error {
	cfg := b.cfg.Web
	if !cfg.Listen.IsValid() {
		return nil
	}
	c, err := b.webConfig()
	if err != nil {
		return err
	}
	p := &pages{}
	if cfg.Cert != "" {
		if p.tls, err = web.Certificate(cfg.Cert, cfg.Key, b.env.Logger); err != nil {
			return exit.With(exit.Config, err)
		}
	}
	if p.site, err = web.New(c); err != nil {
		return err
	}
	var lc net.ListenConfig
	if p.listener, err = lc.Listen(ctx, "tcp", cfg.Listen.String()); err != nil {
		return hostError(fmt.Errorf("web pages: %w", err))
	}
	b.undo.Push(ignoreClosed(p.listener.Close))
	b.pages = p
	b.env.Logger.Info("web pages are served", "address", cfg.Listen, "url", cfg.URL.String(), "sign_up", cfg.SignUp)
	return nil
}

// webConfig is what the pages need to know.
func (b *brokerage) webConfig() (web.Config, error) {
	cfg := b.cfg.Web
	secret, err := decoySecret(b.cfg.KeyFile)
	if err != nil {
		return web.Config{}, hostError(err)
	}
	c := web.Config{
		Store: b.store, Backend: webBackend{b.leases},
		URL: cfg.URL, Proxies: cfg.Proxies,
		Server: b.listen[0].String(), End: b.local(), MTU: int(b.now.Load().mtu),
		SignUp: web.Mode(cfg.SignUp), PrefixLen: cfg.PrefixLen,
		Iterations: b.cfg.Iterations, Realm: b.cfg.Realm, Secret: secret, Failures: b.failures,
		CheckPassword: config.CheckNewPassword,
		Logger:        b.env.Logger,
	}
	if b.listen[0].Port() == config.DefaultPort {
		c.Server = b.local().String()
	}
	if cfg.SMTP.Host == "" {
		return c, nil
	}
	password, warning, err := cfg.SMTP.Password()
	if warning != "" {
		b.env.Logger.Warn(warning)
	}
	c.Mailer = web.SMTP{
		Host: cfg.SMTP.Host, Port: cfg.SMTP.Port, From: cfg.SMTP.From, User: cfg.SMTP.User,
		Password: password.Reveal(), TLS: web.TLSMode(cfg.SMTP.TLS),
	}
	return c, err
}

// webTask is none unless there are web pages.
func (b *brokerage) webTask() []Task {
	if b.pages == nil {
		return nil
	}
	return []Task{newTask("web pages", func(ctx context.Context, ready func()) error {
		ready() // it listens already
		return b.pages.site.Run(ctx, b.pages.listener, b.pages.tls)
	})}
}

// webBackend is the broker as its web pages see it (web.Backend).
type webBackend struct{ *leases }

// Live is the state of a lease whose tunnel is carried.
func (t webBackend) Live(leaseID string) (web.Live, bool) {
	t.mu.Lock()
	l := t.byID[leaseID]
	if l == nil {
		t.mu.Unlock()
		return web.Live{}, false
	}
	live, at := web.Live{Outer: l.Outer, Proven: l.proven, Since: l.since}, l.end()
	t.mu.Unlock()
	p, _ := t.b.peerStats(at)
	live.Heard, live.Up, live.Down = p.LastHeard, webCount(p.Rx), webCount(p.Tx)
	return live, true
}

func webCount(c engine.Count) web.Count { return web.Count{Packets: c.Packets, Bytes: c.Bytes} }

// Totals are all tunnels together.
func (t webBackend) Totals() web.Totals {
	t.mu.Lock()
	n := len(t.byID)
	t.mu.Unlock()
	s := t.b.totals()
	v := web.Totals{Tunnels: n, Up: webCount(s.Rx), Down: webCount(s.Tx)}
	for _, drops := range s.Drops {
		v.Dropped += drops
	}
	return v
}

// Ended takes down a tunnel whose session was ended in the store.
func (t webBackend) Ended(leaseID string) {
	t.mu.Lock()
	l := t.byID[leaseID]
	t.mu.Unlock()
	if l == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	t.end(ctx, l, "ended at the web pages")
}

// Draining reports whether no new tunnels are given.
func (t webBackend) Draining() bool { return t.b.server.Draining() }

// Drain refuses new tunnels, or takes them again.
func (t webBackend) Drain(on bool) { t.b.drain(on) }

// Move makes a user's tunnel end at an address, as Offer and Accept do for a client of
// TSP. Whether somebody is there shows the answer to an echo request, before which
// nothing else is sent there.
func (t webBackend) Move(ctx context.Context, userID, leaseID string, to netip.Addr) error {
	var code *tsp.Error
	if err := t.checkOuter(to); errors.As(err, &code) {
		return fmt.Errorf("%w: %w", web.ErrAddress, err)
	} else if err != nil {
		return err
	}
	if _, carried := t.Live(leaseID); !carried && t.b.server.Draining() {
		return web.ErrDraining
	}
	if t.isOthers(ctx, userID, to) {
		return web.ErrTaken
	}
	l, err := t.leaseFor(ctx, userID, leaseID, to)
	if err != nil {
		return err
	}
	l, err = t.b.store.Activate(ctx, store.Activation{
		ID: l.ID, Epoch: l.Epoch, Node: t.b.node(), Type: tsp.V6V4, Outer: netip.AddrPortFrom(to, 0),
	})
	if err != nil {
		return err
	}
	t.put(l)
	return nil
}

// isOthers reports whether somebody else's tunnel ends at an address. The owner is
// asked, as it may have gone; one of the run before has until Silence to answer.
func (t webBackend) isOthers(ctx context.Context, userID string, at netip.Addr) bool {
	t.mu.Lock()
	other := t.byOuter[engine.End{AddrPort: netip.AddrPortFrom(at, 0)}]
	asked := other != nil && other.proven && other.UserID != userID
	waits := other != nil && other.resumed && !other.proven && other.UserID != userID
	t.mu.Unlock()
	return waits || asked && t.holds(ctx, other)
}

// leaseFor is the lease of an ID, or without one what the user has or may have, with the
// epoch of a new session.
func (t webBackend) leaseFor(ctx context.Context, userID, leaseID string, from netip.Addr) (store.Lease, error) {
	if leaseID == "" {
		u, err := t.b.store.User(ctx, userID)
		if err != nil {
			return store.Lease{}, err
		}
		return t.b.store.Reserve(ctx, store.Want{UserID: userID, PrefixLen: u.PrefixLen, From: netip.AddrPortFrom(from, 0)})
	}
	l, err := t.b.store.Lease(ctx, leaseID)
	if err == nil && (l.UserID != userID || l.State == store.Quarantined) {
		err = store.ErrNotFound
	}
	l.Epoch = max(time.Now().UnixMicro(), l.Epoch+1)
	return l, err
}
