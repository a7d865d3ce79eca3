package pathmtu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"sixin4/encap"
)

// Defaults of Config (RFC 8899, Section 5.1).
const (
	DefaultMaxProbes       = 3
	DefaultProbeTimeout    = time.Second
	DefaultConfirmInterval = 10 * time.Second
	DefaultRaiseInterval   = 10 * time.Minute
)

// Sender sends probes: ICMPv6 echo requests through the tunnel. Who receives their
// answers calls [Prober.Answered].
type Sender interface {
	// Send sends an inner packet of exactly size bytes, which may not be fragmented on
	// its way. One that cannot be sent counts as lost.
	Send(size encap.TunMTU) error
}

// Config says what a Prober does. Zero fields mean the default.
type Config struct {
	Sender Sender // required
	// Ceiling returns the longest inner packet that the link would carry, in bytes. It is
	// asked before every probe: none is longer. Required.
	Ceiling func() encap.TunMTU
	// Found is told each change of the MTU, by the goroutine of Run. The caller begins
	// with 1280. Required.
	Found func(mtu encap.TunMTU)

	// MaxProbes is how many probes of one size in a row are lost before it counts as
	// too long (MAX_PROBES), 1 to 100. Default DefaultMaxProbes.
	MaxProbes int
	// ProbeTimeout is how long an answer may take (PROBE_TIMER). Default
	// DefaultProbeTimeout, which is the least that RFC 8899 allows.
	ProbeTimeout time.Duration
	// ConfirmInterval is the time between probes of the MTU that was found
	// (CONFIRMATION_TIMER): a black hole that appears is noticed after at most this and
	// MaxProbes timeouts. Default DefaultConfirmInterval.
	ConfirmInterval time.Duration
	// RaiseInterval is the time until a path that is narrower than Ceiling is
	// searched again (PMTU_RAISE_TIMER). Default DefaultRaiseInterval.
	RaiseInterval time.Duration
	Logger        *slog.Logger // default: discard
}

// Prober finds the MTU of a path on which routers drop long packets without a word, by
// packetization layer path MTU discovery for datagrams (RFC 8899): it begins with 1280
// bytes, rises only on answered probes, and falls back when they stop being answered.
type Prober struct {
	cfg      Config
	answered chan encap.TunMTU
	recheck  chan struct{}
	now      atomic.Pointer[Status]
	logged   encap.TunMTU // what the log said last; belongs to the goroutine of Run
}

// Status is what a prober knows.
type Status struct {
	Phase Phase
	MTU   encap.TunMTU // in use, at least 1280 bytes
}

// New checks cfg and returns a prober that has sent nothing yet.
func New(cfg Config) (*Prober, error) {
	if cfg.Sender == nil || cfg.Ceiling == nil || cfg.Found == nil {
		return nil, errors.New("path MTU: Sender, Ceiling and Found are required")
	}
	if cfg.MaxProbes == 0 {
		cfg.MaxProbes = DefaultMaxProbes
	}
	if cfg.MaxProbes < 1 || cfg.MaxProbes > 100 {
		return nil, fmt.Errorf("path MTU: %d probes: want 1 to 100", cfg.MaxProbes)
	}
	for _, t := range []struct {
		name    string
		value   *time.Duration
		usually time.Duration
	}{
		{"probe timeout", &cfg.ProbeTimeout, DefaultProbeTimeout},
		{"confirm interval", &cfg.ConfirmInterval, DefaultConfirmInterval},
		{"raise interval", &cfg.RaiseInterval, DefaultRaiseInterval},
	} {
		if *t.value == 0 {
			*t.value = t.usually
		}
		if *t.value < 0 {
			return nil, fmt.Errorf("path MTU: %s %v is negative", t.name, *t.value)
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Prober{cfg: cfg, answered: make(chan encap.TunMTU, 16), recheck: make(chan struct{}, 1)}
	p.now.Store(&Status{MTU: encap.MinTunMTU})
	return p, nil
}

// Answered says that the answer to a probe of size bytes has come. It never blocks.
func (p *Prober) Answered(size encap.TunMTU) {
	select {
	case p.answered <- size:
	default: // of so many that wait one more is no news
	}
}

// Recheck makes the next probe due at once, and a search if there is anything to find:
// the path has changed. It never blocks.
func (p *Prober) Recheck() {
	select {
	case p.recheck <- struct{}{}:
	default:
	}
}

// Status returns how far the search is.
func (p *Prober) Status() Status { return *p.now.Load() }

// Run probes until ctx ends, and returns nil then. It runs at most once at a time.
func (p *Prober) Run(ctx context.Context) error {
	s := newSearch(&p.cfg, time.Now())
	p.publish(&s)
	for ctx.Err() == nil {
		size, due := s.next(time.Now())
		p.publish(&s)
		if wait := time.Until(due); wait > 0 {
			p.sleep(ctx, &s, wait)
			continue
		}
		if answered, ok := p.probe(ctx, size); ok {
			s.result(answered, time.Now())
			p.publish(&s)
		}
	}
	return nil
}

// sleep waits for the next probe to be due.
func (p *Prober) sleep(ctx context.Context, s *search, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-p.recheck:
			s.due = time.Now()
			s.raise = s.due
		case <-p.answered: // late
			continue
		}
		return
	}
}

// probe sends one probe and waits for an answer to it, or to an earlier one of the
// same size. ok is false when ctx ended first.
func (p *Prober) probe(ctx context.Context, size encap.TunMTU) (answered, ok bool) {
	if err := p.cfg.Sender.Send(size); err != nil {
		p.cfg.Logger.Debug("a probe of the path MTU could not be sent", "size", int(size), "err", err)
	}
	timer := time.NewTimer(p.cfg.ProbeTimeout)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, false
		case got := <-p.answered:
			if got == size {
				return true, true
			}
		case <-timer.C:
			return false, true
		}
	}
}

// publish tells what is new.
func (p *Prober) publish(s *search) {
	before, now := p.now.Load(), Status{Phase: s.phase, MTU: s.current}
	if *before == now {
		return
	}
	p.now.Store(&now)
	if now.MTU != before.MTU {
		p.cfg.Found(now.MTU)
	}
	p.logChange(*before, now)
}

// logChange logs what a search has come to, not its steps.
func (p *Prober) logChange(before, now Status) {
	switch {
	case now.MTU < before.MTU:
		p.logged = now.MTU
		p.cfg.Logger.Warn("the path carries less than it did, looking for how much", "mtu", int(now.MTU), "was", int(before.MTU))
	case now.Phase == Complete && before.Phase == Searching && now.MTU != p.logged:
		p.cfg.Logger.Info("the MTU of the path is found", "mtu", int(now.MTU))
		p.logged = now.MTU
	case now.Phase == Silent && before.Phase != Silent:
		p.cfg.Logger.Warn("the far end answers no echo request of 1280 bytes, so the MTU of the path cannot be found", "mtu", int(now.MTU))
	}
}
