package daemon

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"sixin4/encap/keepalive"
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
	trialPause = 10 * time.Second // after one that found out nothing
	trialTurns = 1024             // at a time
	mostUnsent = 5                // requests that the kernel did not send, before a trial is given up
)

func newTrialID() uint16 { return uint16(1 + rand.IntN(1<<16-1)) }

// trial is one that is due: to whom requests are sent, and what is done with the result.
type trial struct {
	from, to netip.Addr
	outer    netip.AddrPort
	sent     func() uint64 // what the kernel has sent there
	waits    []time.Duration
	passed   func()
	failed   func() // at once
	again    func() // trialAgain after it has failed, or trialPause after it was in vain; nil: never
}

// outcome is how a trial has ended.
type outcome int

const (
	inVain outcome = iota // nothing was found out
	hasPassed
	hasFailed
)

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
			select {
			case turns <- struct{}{}:
			case <-ctx.Done():
				return
			}
			heard, err := ear.from(ctx, t, one.from, running)
			if err != nil {
				t.env.Logger.Debug("a trial is not possible", "outer", one.outer, "error", err)
			}
			by := ear
			running.Go(func() {
				how := inVain
				if err == nil {
					how = one.run(heard, by.kernel.Ask, by.engine.Ask, t.env.Logger)
				}
				<-turns
				one.repeat(ctx, how)
			})
		}
	}
}

// asks is Asker.Ask.
type asks func(ctx context.Context, to netip.Addr, timeout time.Duration) error

// repeat has a trial begun again when its time has come, if it has to be.
func (one *trial) repeat(ctx context.Context, how outcome) {
	wait := trialPause
	if how == hasFailed {
		wait = trialAgain
	}
	if how != hasPassed && one.again != nil && waited(ctx, wait) {
		one.again()
	}
}

// run asks by the kernel's way, and says how that ended. It is in vain when the kernel has
// not sent the request, as while it is told another flow, and when nobody answers the engine
// either.
func (one *trial) run(ctx context.Context, kernel, engine asks, log *slog.Logger) outcome {
	for i, unsent := 0, 0; i < len(one.waits); {
		before := one.sent()
		err := kernel(ctx, one.to, one.waits[i])
		switch {
		case ctx.Err() != nil:
			return inVain
		case one.sent() == before:
			if unsent++; unsent == mostUnsent || !waited(ctx, one.waits[i]) {
				return inVain
			}
		case err == nil:
			one.passed()
			return hasPassed
		default:
			i++
		}
	}
	if engine(ctx, one.to, time.Second) != nil && engine(ctx, one.to, 2*time.Second) != nil {
		return inVain
	}
	one.failed()
	if one.again != nil {
		log.Info("datagrams without a checksum do not arrive: the kernel does not carry this tunnel", "outer", one.outer, "again-in", trialAgain)
	}
	return hasFailed
}

// ear hears the answers of trials, for one goroutine.
type ear struct {
	source         netip.Addr
	kernel, engine *keepalive.Asker // whose requests they send
	hears          context.Context  // until it hears no more
	deaf           context.CancelFunc
}

// from has the ear hear what is sent to an address, until the context is done that it
// returns.
func (e *ear) from(ctx context.Context, t *tunnel, source netip.Addr, running *sync.WaitGroup) (context.Context, error) {
	if e.hears != nil && e.source == source && e.hears.Err() == nil {
		return e.hears, nil
	}
	if e.deaf != nil {
		e.deaf()
	}
	cfg := keepalive.AskerConfig{Interface: t.name, Source: source, Logger: t.env.Logger}
	engine, err := keepalive.NewAsker(cfg)
	cfg.ID = t.trials.id
	kernel, errKernel := keepalive.NewAsker(cfg)
	if err = errors.Join(err, errKernel); err != nil {
		return nil, err
	}
	e.kernel, e.engine, e.source = kernel, engine, source
	e.hears, e.deaf = context.WithCancel(ctx)
	hears, deaf := e.hears, e.deaf
	for _, asker := range []*keepalive.Asker{kernel, engine} {
		running.Go(func() {
			defer deaf()
			if err := asker.Run(hears); err != nil {
				t.trials.tellDeaf(t.env.Logger, t.short.always, err)
			}
		})
	}
	return hears, nil
}
