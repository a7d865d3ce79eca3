package daemon

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"sixin4/encap/engine"
	"sixin4/encap/keepalive"
)

// What the kernel sends through a tunnel in UDP has no UDP checksum, which IPv4 allows
// (RFC 768): a checksum over what is to be cut into many datagrams there is none. Nearly
// all networks pass that on. One that does not would swallow the data of a tunnel while
// all its control arrives. So the kernel begins with a trial: echo requests of ours are
// all that it sends, and when one of them is answered the packets of the tunnel follow.

// trialWaits are how long each request of a trial is waited for.
var trialWaits = []time.Duration{time.Second, time.Second, 2 * time.Second}

const (
	trialAgain = 10 * time.Minute // after one that nobody answered
	trialTurns = 64               // at a time
)

// trials are what is known of them.
type trials struct {
	id uint16 // identifier of the echo requests

	mu     sync.Mutex
	passed *sessionConn // of the tunnel that has only one far end
}

func newTrialID() uint16 { return uint16(1 + rand.IntN(1<<16-1)) }

func (t *trials) hasPassed(s *sessionConn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.passed == s
}

// trial is one that is due: to whom requests are sent, and what is done with the result.
type trial struct {
	from, to netip.Addr
	outer    netip.AddrPort
	sent     func() uint64 // requests that the kernel has sent
	end      func(passed bool)
}

// runTrials asks whoever is due, until ctx ends.
func (t *tunnel) runTrials(ctx context.Context, ready func()) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var ear ear
	turns := make(chan struct{}, trialTurns)
	ready()
	for {
		again := t.short.trying.wait()
		for _, one := range t.dueTrials() {
			asker, err := ear.at(ctx, t, one.from, &running)
			if err != nil {
				t.env.Logger.Debug("a trial is not possible", "outer", one.outer, "error", err)
				continue
			}
			select {
			case turns <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
			running.Go(func() {
				defer func() { <-turns }()
				one.run(ctx, asker, t)
			})
		}
		select {
		case <-again:
		case <-ctx.Done():
			return nil
		}
	}
}

// run asks, and says how that ended.
func (one *trial) run(ctx context.Context, asker *keepalive.Asker, t *tunnel) {
	for _, wait := range trialWaits {
		before := one.sent()
		if asker.Ask(ctx, one.to, wait) == nil && one.sent() > before {
			one.end(true)
			return
		}
		if ctx.Err() != nil {
			return
		}
	}
	t.env.Logger.Info("datagrams without a checksum do not arrive: the kernel does not carry this tunnel", "outer", one.outer, "again-in", trialAgain)
	time.AfterFunc(trialAgain, func() { one.end(false) })
}

// ear hears the answers of trials, for one goroutine.
type ear struct {
	source netip.Addr
	asker  *keepalive.Asker
	deaf   context.CancelFunc
}

// at is an Asker with a source address.
func (e *ear) at(ctx context.Context, t *tunnel, source netip.Addr, running *sync.WaitGroup) (*keepalive.Asker, error) {
	if e.asker != nil && e.source == source {
		return e.asker, nil
	}
	if e.deaf != nil {
		e.deaf()
	}
	asker, err := keepalive.NewAsker(keepalive.AskerConfig{
		Interface: t.name, Source: source, ID: t.trials.id, Logger: t.env.Logger,
	})
	if err != nil {
		return nil, err
	}
	e.asker, e.source = asker, source
	ctx, e.deaf = context.WithCancel(ctx)
	running.Go(func() {
		if err := asker.Run(ctx); err != nil {
			t.env.Logger.Debug("no answer to a trial can be heard", "error", err)
		}
	})
	return asker, nil
}

// dueTrials are those to be begun now.
func (t *tunnel) dueTrials() []trial {
	now := t.now.Load()
	here := now.here()
	if len(here) == 0 {
		return nil
	}
	if t.set.hub {
		return t.short.untried(here[0])
	}
	if len(now.peers) != 1 || !t.short.onTrial() {
		return nil
	}
	session, peer := now.session, now.peers[0]
	return []trial{{
		from: here[0], to: peer.inner, outer: peer.at().AddrPort,
		sent: func() uint64 { return t.short.stats().Tx.Packets },
		end: func(passed bool) {
			if !passed {
				t.short.trying.ring()
				return
			}
			t.trials.mu.Lock()
			t.trials.passed = session
			t.trials.mu.Unlock()
			t.hopper.again.ring()
		},
	}}
}

// onTrial reports whether the kernel carries nothing but a trial, which has not begun yet.
func (s *shortcut) onTrial() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.given != nil && s.given.Trial
}

// untried are the trials of a hub's clients that are due, once the kernel has the hub.
func (s *shortcut) untried(from netip.Addr) (due []trial) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.given == nil {
		return nil
	}
	for _, at := range s.clients.untried {
		p, ok := s.clients.planned[at]
		if told, there := s.clients.told[at]; !ok || !there || !told.Trial {
			continue
		}
		due = append(due, trial{
			from: from, to: p.inner, outer: at.AddrPort,
			sent: func() uint64 { return s.sentTo(at) },
			end:  func(passed bool) { s.endTrial(at, passed) },
		})
	}
	s.clients.untried = nil
	return due
}

// sentTo is how many packets the kernel has sent to a hub's client.
func (s *shortcut) sentTo(at engine.End) uint64 {
	p := engine.PeerStats{Remote: at.Addr(), Port: at.Port(), Socket: at.Socket}
	s.addClient(&p)
	return p.Tx.Packets
}

// endTrial notes how the trial of a hub's client has ended. One that failed is due again.
func (s *shortcut) endTrial(at engine.End, passed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	told, ok := s.clients.told[at]
	switch {
	case !ok || !told.Trial:
	case passed:
		told.Trial = false
		s.clients.told[at] = told
		s.clients.tell(s, at, told)
	default:
		s.clients.untried = append(s.clients.untried, at)
		s.trying.ring()
	}
}
