package daemon

import (
	"context"
	"time"

	"sixin4/encap/keepalive"
	"sixin4/tsp/broker/store"
)

// touch tells the store which tunnels were heard since last time, and takes down
// those that were not for too long, and those that are not ours any more.
func (t *leases) touch(ctx context.Context) {
	heard := t.lastHeard()
	var seen []store.Seen
	var silent []*liveLease
	now := time.Now()
	t.mu.Lock()
	for outer, l := range t.byOuter {
		last := heard[outer]
		switch {
		case l.proven && last.After(l.heard):
			l.heard = last
			seen = append(seen, store.Seen{ID: l.ID, Epoch: l.Epoch, At: last, Expires: now.Add(t.b.cfg.AnonymousLease)})
		case now.Sub(latest(l.since, last)) > t.b.cfg.Silence:
			silent = append(silent, l)
		}
	}
	t.mu.Unlock()
	for _, l := range silent {
		t.end(ctx, l, "not heard for "+t.b.cfg.Silence.String())
	}
	lost, err := t.b.store.Touch(ctx, seen)
	if err != nil && ctx.Err() == nil {
		t.b.env.Logger.Warn("who was heard is not on record", "error", err)
	}
	t.endAll(ctx, lost, "dropped by the operator, or another broker has it")
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// expire frees what is nobody's any more, and takes down what the store does not call
// ours, as an operator may have it.
func (t *leases) expire(ctx context.Context) {
	before := time.Now()
	over, err := t.b.store.ExpireBefore(ctx, before)
	if err != nil && ctx.Err() == nil {
		t.b.env.Logger.Warn("nothing expires", "error", err)
	}
	var ids []string
	for _, l := range over {
		ids = append(ids, l.ID)
	}
	t.endAll(ctx, ids, "expired")
	live, err := t.b.store.Live(ctx, t.b.node())
	if err != nil {
		return // the next look is in a minute
	}
	t.endAll(ctx, t.notAmong(live, before), "dropped by the operator, or another broker has it")
}

// notAmong are the tunnels from before a moment that are not live.
func (t *leases) notAmong(live []store.Lease, before time.Time) (ids []string) {
	known := make(map[string]bool, len(live))
	for _, l := range live {
		known[l.ID] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, l := range t.byID {
		if !known[id] && l.since.Before(before) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (t *leases) endAll(ctx context.Context, ids []string, why string) {
	for _, id := range ids {
		t.mu.Lock()
		l := t.byID[id]
		t.mu.Unlock()
		if l != nil {
			t.end(ctx, l, why)
		}
	}
}

// A client says where its tunnel ends; that it is there it shows by an answer to an
// echo request with a random nonce, which the kernel of every client gives. Nothing
// else is sent to it before.
const (
	proofWait  = 100 * time.Millisecond // between requests
	proofTries = 100
	provers    = 256 // at a time
)

// doubt has a tunnel shown to be there.
func (t *leases) doubt(l *liveLease) {
	t.mu.Lock()
	t.doubts = append(t.doubts, l)
	t.mu.Unlock()
	select {
	case t.doubted <- struct{}{}:
	default: // prove is about to look anyway
	}
}

// prove runs the proofs, a bounded number at a time.
func (t *leases) prove(ctx context.Context, ready func()) error {
	turns := make(chan struct{}, provers)
	defer func() {
		for range provers { // until all are back
			turns <- struct{}{}
		}
	}()
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.doubted:
		}
		for l := t.nextDoubt(); l != nil && ctx.Err() == nil; l = t.nextDoubt() {
			turns <- struct{}{}
			go func() {
				defer func() { <-turns }()
				t.ask(ctx, l)
			}()
		}
	}
}

// nextDoubt takes the one that has waited longest, nil when none has.
func (t *leases) nextDoubt() *liveLease {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.doubts) > 0 {
		l := t.doubts[0]
		t.doubts = t.doubts[1:]
		if !l.gone {
			return l
		}
	}
	return nil
}

// ask asks one client whether it is there.
func (t *leases) ask(ctx context.Context, l *liveLease) {
	p, err := keepalive.New(keepalive.Config{
		Interface: t.b.name, Source: l.Server6, To: l.Client6,
		Interval: proofWait, Timeout: proofWait, Losses: proofTries, Once: true,
	})
	if err == nil {
		err = p.Run(ctx)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		t.b.env.Logger.Debug("no proof", "lease", l.ID, "error", err)
		t.end(ctx, l, "did not show that it is there")
		return
	}
	t.mu.Lock()
	l.proven = true
	gone := l.gone
	t.mu.Unlock()
	if gone {
		return // a later session has its place
	}
	t.notify()
	t.b.env.Logger.Info("tunnel is up", "lease", l.ID, "outer", l.Outer.Addr(), "address", l.Client6)
}
