package daemon

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"

	"sixin4/cmd/internal/config"
	"sixin4/encap/keepalive"
	"sixin4/tsp"
	"sixin4/tsp/client"
)

// chooser decides which kind of tunnel is asked for where either will do (v6anyv4). The
// broker gives protocol 41 when it sees the address that this host has, and IPv6 in UDP
// otherwise. What it cannot know is whether something on the way eats protocol 41: that
// shows when nothing comes back through a new tunnel. Then UDP is asked for, for as long as
// that works and this host is where it was.
type chooser struct {
	any bool // either will do
	log *slog.Logger

	mu     sync.Mutex
	udp    bool // ask for UDP alone
	works  bool // protocol 41 has worked since the network changed
	reason string
}

func newChooser(cfg config.Connect, env Env) *chooser {
	return &chooser{
		any: cfg.Mode == tsp.V6AnyV4 && cfg.Transport != config.TransportTCP && !cfg.Proxy && env.GiveUp != client.Always,
		log: env.Logger,
	}
}

// kind is what is asked for, where request is what a person asked for.
func (c *chooser) kind(request tsp.Type) tsp.Type {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.udp {
		return tsp.V6UDPV4
	}
	return request
}

// Reasons for a kind.
const (
	reasonAsked  = "asked for"
	reasonDirect = "the broker sees the address that this host has"
	reasonNAT    = "the broker sees another address than this host has: there is a NAT on the way"
	reasonEaten  = "protocol 41 gets no answer"
)

// event hears what the client goes through.
func (c *chooser) event(e client.Event) {
	switch e := e.(type) {
	case client.Up:
		c.chose(e.Lease)
	case client.AddressChanged:
		c.forget()
	case client.Lost:
		c.lost(e.Err)
	case client.Failed:
		c.forget() // perhaps there is no UDP here
	}
}

// chose notes why a lease is of its kind.
func (c *chooser) chose(l *client.Lease) {
	c.mu.Lock()
	reason := reasonDirect
	switch {
	case !c.any:
		reason = reasonAsked
	case c.udp:
		reason = reasonEaten
	case l.Tunnel.Type == tsp.V6UDPV4:
		reason = reasonNAT
	}
	c.reason = reason
	c.mu.Unlock()
	if c.any {
		c.log.Info("kind of tunnel chosen", "mode", string(l.Tunnel.Type), "reason", reason)
	}
}

// why is the reason for the kind of the last lease.
func (c *chooser) why() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// forget begins anew: the network is another.
func (c *chooser) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.udp, c.works = false, false
}

// lost notes the end of a tunnel. One that nothing came through was eaten.
func (c *chooser) lost(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.udp = errors.Is(err, errEaten)
	if !c.udp {
		c.works = false
	}
}

// errEaten: nothing comes through a new tunnel of protocol 41.
var errEaten = errors.New("something on the way drops protocol 41, it seems")

// inDoubt reports whether protocol 41 has to show that it gets through.
func (c *chooser) inDoubt(l *client.Lease) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.any && !c.works && l.Tunnel.Type == tsp.V6V4 && l.Tunnel.Keepalive > 0 && slices.Contains(l.Offers, tsp.V6UDPV4)
}

// tryFirst returns errEaten when nothing comes back through a new tunnel.
func (t *negotiated) tryFirst(ctx context.Context, l *client.Lease) error {
	ask := func(ctx context.Context) error { return t.askFirst(ctx, l, trialTime) }
	if err := t.onTrial(ctx, ask); err != nil || ctx.Err() != nil {
		return err
	}
	t.kinds.mu.Lock()
	defer t.kinds.mu.Unlock()
	t.kinds.works = true
	return nil
}

// onTrial returns errEaten when ask has no answer. That says nothing about the way when this
// host could not reach the broker meanwhile: then it asks again as soon as it can. Even if that
// has no answer, the way is not blamed, as the broker may have given the tunnel up by then: the
// next session has a trial of its own.
func (t *negotiated) onTrial(ctx context.Context, ask func(context.Context) error) error {
	for first := true; ; first = false {
		turns := t.turns.Load()
		err := ask(ctx)
		switch {
		case !errors.Is(err, keepalive.ErrDead):
			return err
		case t.passable() && t.turns.Load() == turns && first:
			return errors.Join(errEaten, err)
		case t.passable() && t.turns.Load() == turns:
			return err
		}
		t.env.Logger.Info("whether protocol 41 passes is not known yet: this host could not reach the broker meanwhile", "name", t.name)
		if !t.untilPassable(ctx, func() {}) {
			return nil
		}
	}
}
