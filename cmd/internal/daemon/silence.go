package daemon

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"sixin4/encap/keepalive"
	"sixin4/tsp/broker/store"
)

// keep keeps the store up to date, and ends what is over.
func (t *leases) keep(ctx context.Context, ready func()) error {
	touch, expire, heed := time.NewTicker(touchInterval), time.NewTicker(expireInterval), time.NewTicker(heedInterval)
	defer touch.Stop()
	defer expire.Stop()
	defer heed.Stop()
	last, known := time.Now(), make(map[string]time.Time)
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-touch.C:
			t.debts.retry(ctx, t.b)
			t.touch(ctx)
		case <-expire.C:
			t.expire(ctx)
		case now := <-heed.C:
			if t.heed(ctx, last.Add(-lateWrite), known) {
				last = now
			}
		}
	}
}

// lateWrite is how much older than its commit an entry of the log may be, or look: it may
// have waited for others, and other hosts have other clocks.
const lateWrite = 5 * time.Second

// heed takes down what was ended in the store since some moment, by a command of the
// operator or by another broker. The log shows it, for little. Entries that have been
// looked into are in known, by their ID, and not looked into again. It reports whether it
// has seen all.
func (t *leases) heed(ctx context.Context, since time.Time, known map[string]time.Time) bool {
	maps.DeleteFunc(known, func(_ string, at time.Time) bool { return at.Before(since) })
	over := make(map[*liveLease][]store.Entry)
	for e, err := range t.b.store.Log(ctx, store.Query{From: since, Over: true}) {
		if err != nil {
			return false
		}
		if _, ok := known[e.ID]; ok {
			continue
		}
		t.mu.Lock()
		if l := t.byID[e.LeaseID]; l != nil {
			over[l] = append(over[l], e)
		}
		t.mu.Unlock()
	}
	all := true
	for l, entries := range over {
		s, err := t.b.store.Lease(ctx, l.ID)
		switch {
		case errors.Is(err, store.ErrNotFound), err == nil && (s.State != store.Up || s.Epoch != l.Epoch):
			t.end(ctx, l, notOurs)
		case err != nil:
			all = false
			continue
		}
		for _, e := range entries {
			known[e.ID] = e.At
		}
	}
	return all
}

// touch tells the store which tunnels were heard since last time, and doubts those that
// were not for too long, and those of the run before that have not been there yet. What
// is not ours any more is taken down.
func (t *leases) touch(ctx context.Context) {
	seen, whose, doubtful := t.look(time.Now())
	for _, l := range doubtful {
		t.doubt(l)
	}
	lost, err := t.b.store.Touch(ctx, seen)
	for _, id := range lost {
		t.end(ctx, whose[id], notOurs)
	}
	if err != nil {
		if ctx.Err() == nil {
			_ = t.unwritten(err)
			t.b.env.Logger.Warn("who was heard is not on record yet", "error", err)
		}
		return // so that the next time it is all of them again
	}
	if len(seen) > 0 {
		t.written()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range seen {
		whose[s.ID].heard = s.At
	}
}

// look finds who was heard since the store was told, and who is doubtful.
func (t *leases) look(now time.Time) (seen []store.Seen, whose map[string]*liveLease, doubtful []*liveLease) {
	whose = make(map[string]*liveLease)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.byOuter {
		last := t.lastHeard(l)
		switch {
		case l.proven && last.After(l.heard):
			whose[l.ID] = l
			seen = append(seen, store.Seen{ID: l.ID, Epoch: l.Epoch, At: last, Expires: now.Add(t.b.cfg.AnonymousLease)})
		case !l.asking && (!l.proven || now.Sub(latest(l.since, last)) > t.b.cfg.Silence):
			doubtful = append(doubtful, l)
		}
	}
	return seen, whose, doubtful
}

const notOurs = "dropped by the operator, or another broker has it"

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// expire frees what is nobody's any more, and takes down what the store does not call
// ours, as an operator may have it.
func (t *leases) expire(ctx context.Context) {
	over, err := t.b.store.ExpireBefore(ctx, time.Now())
	if err != nil && ctx.Err() == nil {
		t.b.env.Logger.Warn("nothing expires", "error", err)
	}
	t.mu.Lock()
	var gone []*liveLease
	for _, o := range over {
		if l := t.byID[o.ID]; l != nil && l.Epoch == o.Epoch {
			gone = append(gone, l)
		}
	}
	t.mu.Unlock()
	for _, l := range gone {
		t.end(ctx, l, "expired")
	}
	t.sweep(ctx) // or else the next look is in a minute
}

// sweep takes down what the store does not call ours.
func (t *leases) sweep(ctx context.Context) {
	before := time.Now()
	live, err := t.b.store.Live(ctx, t.b.node())
	if err != nil {
		return
	}
	for _, l := range t.notAmong(live, before) {
		t.end(ctx, l, notOurs)
	}
}

// notAmong are the tunnels from before a moment that are not live.
func (t *leases) notAmong(live []store.Lease, before time.Time) (list []*liveLease) {
	known := make(map[string]bool, len(live))
	for _, l := range live {
		known[l.ID] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, l := range t.byID {
		if !known[id] && l.since.Before(before) {
			list = append(list, l)
		}
	}
	return list
}

// A client says where its tunnel ends; that it is there it shows by an answer to an
// echo request with a random nonce, which the kernel of every client gives. Nothing
// else is sent to it before.
//
// The requests come ever more rarely, so that few go to an address that was forged:
// ten in ten seconds, which are not three times what the client had to send for them.
const (
	firstWait  = 10 * time.Millisecond // after the first request; twice that after each that follows
	proofTries = 10
	longListen = time.Second // at most after each; the rest of the wait takes no turn
	provers    = 256         // turns
)

// doubt has a tunnel shown to be there.
func (t *leases) doubt(l *liveLease) {
	t.mu.Lock()
	l.asking = true
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
	var asker sync.WaitGroup
	defer asker.Wait()
	defer func() {
		for range provers { // until all are back
			turns <- struct{}{}
		}
	}()
	asking := make(chan error, 1)
	asker.Go(func() { asking <- t.asker.Run(ctx) })
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-asking:
			return err // nil when ctx has ended
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

// ask asks one client whether it is there, once, and has it asked again later or acts
// on what is known then.
func (t *leases) ask(ctx context.Context, l *liveLease) {
	t.mu.Lock()
	wait := firstWait << l.asked
	t.mu.Unlock()
	found := t.asks(ctx, l, min(wait, longListen))
	if ctx.Err() != nil {
		return
	}
	t.mu.Lock()
	l.asked++
	again := !found && l.asked < proofTries
	if !again {
		l.asking, l.asked = false, 0
	}
	first := found && !l.proven && !l.gone
	if found {
		l.proven, l.since = true, time.Now()
	}
	if first {
		t.dirty[l.end()] = true
		t.unproven.remove(l.ID)
	}
	lasting := l.resumed && !l.proven && time.Since(l.since) < t.b.cfg.Silence
	t.mu.Unlock()
	switch {
	case again:
		time.AfterFunc(max(wait-longListen, 0), func() { t.doubt(l) })
	case first:
		t.notify()
		t.b.env.Logger.Info("tunnel is up", "lease", l.ID, "outer", outerText(l.Outer), "address", l.Client6)
	case !found && !lasting:
		t.end(ctx, l, "did not show that it is there")
	}
}

// answers reports whether a client answers one echo request in time.
func (t *leases) answers(ctx context.Context, l *liveLease, in time.Duration) bool {
	err := t.asker.Ask(ctx, l.Client6, in)
	if err != nil && !errors.Is(err, keepalive.ErrDead) && ctx.Err() == nil {
		t.b.env.Logger.Warn("a client cannot be asked", "lease", l.ID, "error", err)
	}
	return err == nil && ctx.Err() == nil
}
