package daemon

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"sixin4/encap/engine"
	"sixin4/encap/keepalive"
	"sixin4/encap/kernelpath"
)

// What the kernel sends through a tunnel in UDP has no UDP checksum, which IPv4 allows
// (RFC 768): a checksum over what is to be cut into many datagrams there is none. Nearly
// all networks pass that on. One that does not would swallow the data of a tunnel while
// all its control arrives. So the kernel begins with a trial: echo requests of ours are
// all that it sends, and when one of them is answered the packets of the tunnel follow.
// A way may change to one that does not while the tunnel is up, so the same is asked again
// and again while it is in use.

// How long each request of a trial is waited for. In a round data may be in its way.
var (
	trialWaits = []time.Duration{time.Second, time.Second, 2 * time.Second}
	roundWaits = []time.Duration{time.Second, time.Second, 2 * time.Second, 2 * time.Second, 4 * time.Second}
)

const (
	trialAgain = 10 * time.Minute // after one that nobody answered
	trialRound = 30 * time.Second // from one round of those that are carried to the next
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
	sent     func() uint64 // what the kernel has sent there
	waits    []time.Duration
	passed   func()
	failed   func() // at once
	again    func() // trialAgain later; nil: never
}

// runTrials asks whoever is due, until ctx ends.
func (t *tunnel) runTrials(ctx context.Context, ready func()) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begin := t.beginTrials(ctx, &running)
	round := round{at: time.Now(), stats: t.peerStats}
	next := time.NewTicker(trialRound)
	defer next.Stop()
	ready()
	for {
		again := t.short.trying.wait()
		begin(t.dueTrials())
		select {
		case <-again:
		case <-next.C:
			begin(round.due(t))
		case <-ctx.Done():
			return nil
		}
	}
}

// beginTrials is a function that begins trials, for one goroutine. It waits for a turn for
// each, and begins none any more once ctx has ended.
func (t *tunnel) beginTrials(ctx context.Context, running *sync.WaitGroup) func([]trial) {
	var ear ear
	turns := make(chan struct{}, trialTurns)
	return func(due []trial) {
		for _, one := range due {
			asker, err := ear.at(ctx, t, one.from, running)
			if err != nil {
				t.env.Logger.Debug("a trial is not possible", "outer", one.outer, "error", err)
				continue
			}
			select {
			case turns <- struct{}{}:
			case <-ctx.Done():
				return
			}
			running.Go(func() {
				defer func() { <-turns }()
				one.run(ctx, asker.Ask, t.env.Logger)
			})
		}
	}
}

// run asks, and says how that ended.
func (one *trial) run(ctx context.Context, ask func(ctx context.Context, to netip.Addr, timeout time.Duration) error, log *slog.Logger) {
	for _, wait := range one.waits {
		before := one.sent()
		if ask(ctx, one.to, wait) == nil && one.sent() > before {
			one.passed()
			return
		}
		if ctx.Err() != nil {
			return
		}
	}
	one.failed()
	if one.again == nil {
		return
	}
	log.Info("datagrams without a checksum do not arrive: the kernel does not carry this tunnel", "outer", one.outer, "again-in", trialAgain)
	time.AfterFunc(trialAgain, one.again)
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
	if len(now.peers) != 1 || !t.short.gives(func(f *kernelpath.Flow) bool { return f.Trial }) {
		return nil
	}
	one := t.onlyTrial(now, here[0])
	one.waits, one.failed, one.again = trialWaits, func() {}, t.short.trying.ring
	one.passed = func() { t.tried(now.session) }
	return []trial{one}
}

// onlyTrial is that of a tunnel with one far end, without what comes of it.
func (t *tunnel) onlyTrial(now *shape, from netip.Addr) trial {
	peer := now.peers[0]
	return trial{
		from: from, to: peer.inner, outer: peer.at().AddrPort,
		sent: func() uint64 { return t.short.stats().Tx.Packets },
	}
}

// tried notes the session whose trial has passed; nil: none has.
func (t *tunnel) tried(s *sessionConn) {
	t.trials.mu.Lock()
	t.trials.passed = s
	t.trials.mu.Unlock()
	t.hopper.again.ring()
}

// gives reports whether the kernel carries something now, such as is asked for.
func (s *shortcut) gives(such func(*kernelpath.Flow) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.given != nil && such(s.given)
}

// untried are the trials of a hub's clients that are due, once the kernel has the hub.
func (s *shortcut) untried(from netip.Addr) (due []trial) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.given == nil {
		return nil
	}
	for _, at := range s.clients.untried {
		if !s.clients.told[at].Trial { // it has gone, or there were two trials
			continue
		}
		one := s.aTrial(at, from)
		one.waits, one.passed, one.failed = trialWaits, func() { s.passed(at) }, func() {}
		one.again = func() { s.try(at) }
		due = append(due, one)
	}
	s.clients.untried = nil
	return due
}

// aTrial is that of a hub's client, without what comes of it. s.mu is held.
func (s *shortcut) aTrial(at engine.End, from netip.Addr) trial {
	return trial{
		from: from, to: s.clients.planned[at].inner, outer: at.AddrPort,
		sent: func() uint64 { return s.sentTo(at) },
	}
}

// trialOf is aTrial for those that the kernel carries packets for.
func (s *shortcut) trialOf(at engine.End, from netip.Addr) (one trial, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if told, ok := s.clients.told[at]; !ok || told.Trial {
		return one, false
	}
	return s.aTrial(at, from), true
}

// sentTo is how many packets the kernel has sent to a hub's client.
func (s *shortcut) sentTo(at engine.End) uint64 {
	p := engine.PeerStats{Remote: at.Addr(), Port: at.Port(), Socket: at.Socket}
	s.addClient(&p)
	return p.Tx.Packets
}

// passed has the packets of a hub's client follow its trial.
func (s *shortcut) passed(at engine.End) { s.setTrial(at, false) }

// lost leaves nothing but a trial to a client whose packets the kernel carried.
func (s *shortcut) lost(at engine.End) {
	if s.setTrial(at, true) {
		s.log.Info("packets of a client are not carried by the kernel any more", "outer", at, "reason", "they do not arrive")
		s.try(at)
	}
}

// setTrial says whether a client is on trial. It reports whether that is a change.
func (s *shortcut) setTrial(at engine.End, on bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	told, ok := s.clients.told[at]
	if !ok || told.Trial == on {
		return false
	}
	told.Trial = on
	s.clients.told[at] = told
	s.clients.tell(s, at, told)
	return true
}

// try makes the trial of a client due, if that is to be tried.
func (s *shortcut) try(at engine.End) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients.told[at].Trial {
		s.clients.untried = append(s.clients.untried, at)
		s.trying.ring()
	}
}
