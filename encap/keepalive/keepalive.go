// Package keepalive asks the far end of a tunnel, by ICMPv6 echo requests through
// the tunnel (RFC 4443, Section 4), whether it is still there. They leave by an
// ordinary socket and so take the whole way of a user's packet: the host's
// routing, the TUN, the engine, the network and the far end, and back.
//
// RFC 4443 is cited from memory: its text could not be read when this was written.
package keepalive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// Defaults of Config.
const (
	DefaultInterval = 30 * time.Second
	DefaultTimeout  = 5 * time.Second
	DefaultLosses   = 3
)

// maxLosses bounds Config.Losses, and with it what is remembered of requests
// under way.
const maxLosses = 1000

// maxName is the longest interface name in bytes (IFNAMSIZ less the final zero).
const maxName = 15

// ErrDead is wrapped by what Run returns when too many requests in a row were not
// answered.
var ErrDead = errors.New("the far end does not answer")

// Config says who asks whom and how often. Zero fields mean the default.
type Config struct {
	// Interface is the name of the tunnel's interface: requests leave by it and
	// answers are taken from it alone, whatever the routes say. Required.
	Interface string
	// Source is the address of this end, an IPv6 unicast address that the host
	// has when Run starts. Required.
	Source netip.Addr
	// To is the address of the far end, IPv6 unicast. Required.
	To netip.Addr
	// Interval is the time from a request that is answered to the next one.
	// Default DefaultInterval.
	Interval time.Duration
	// Timeout is how long an answer may take before its request counts as lost.
	// It may be longer than Interval: there is only one request at a time.
	// Default DefaultTimeout.
	Timeout time.Duration
	// Losses is how many requests in a row must be lost for the far end to count
	// as dead, 1 to 1000. Default DefaultLosses.
	Losses int
	// Once makes Run return nil with the first answer: that the far end is there has
	// been shown.
	Once   bool
	Logger *slog.Logger // default: discard
}

// Stats counts what happened since the prober was made.
type Stats struct {
	Sent       uint64        // requests, with those that the system refused to send
	Answered   uint64        // requests that were answered, late ones included
	RTT        time.Duration // from the last answered request to its answer; 0: none was
	LastAnswer time.Time     // when that answer came; zero: none did
}

// Prober watches one far end. Its methods may be used by several goroutines.
type Prober struct {
	cfg  Config
	log  *slog.Logger
	open func(id int) (conn, error)
	// onAnswer, if not nil, is told each answer by the goroutine of Run.
	onAnswer func(now time.Time, rtt time.Duration)

	mu    sync.Mutex
	stats Stats
}

// New checks cfg and returns a prober that has not opened anything yet.
func New(cfg Config) (*Prober, error) {
	if cfg.Interface == "" || len(cfg.Interface) > maxName {
		return nil, fmt.Errorf("keepalive: interface name %q: want 1 to %d bytes", cfg.Interface, maxName)
	}
	if err := checkAddr("source", cfg.Source); err != nil {
		return nil, err
	}
	if err := checkAddr("target", cfg.To); err != nil {
		return nil, err
	}
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	// A link-local address means nothing without its link.
	cfg.Source, cfg.To = scoped(cfg.Source, cfg.Interface), scoped(cfg.To, cfg.Interface)
	return &Prober{cfg: cfg, log: cfg.Logger, open: func(id int) (conn, error) { return openSocket(cfg, id) }}, nil
}

// checkAddr returns an error for what no echo request has as its source or, here,
// its destination.
func checkAddr(what string, a netip.Addr) error {
	if !a.Is6() || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() {
		return fmt.Errorf("keepalive: %s %v is not an IPv6 unicast address", what, a)
	}
	return nil
}

// setDefaults fills in what is zero, and refuses what is out of range.
func (c *Config) setDefaults() error {
	if c.Interval == 0 {
		c.Interval = DefaultInterval
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Losses == 0 {
		c.Losses = DefaultLosses
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.Interval < 0:
		return fmt.Errorf("keepalive: interval %v is negative", c.Interval)
	case c.Timeout < 0:
		return fmt.Errorf("keepalive: timeout %v is negative", c.Timeout)
	case c.Losses < 1 || c.Losses > maxLosses:
		return fmt.Errorf("keepalive: losses %d: want 1 to %d", c.Losses, maxLosses)
	}
	return nil
}

// scoped returns a with the interface as its zone, if a is link-local, and without
// one otherwise (RFC 4007, Section 11).
func scoped(a netip.Addr, link string) netip.Addr {
	if a.IsLinkLocalUnicast() {
		return a.WithZone(link)
	}
	return a.WithZone("")
}

// Run asks until ctx ends, which returns nil, or until Losses requests in a row
// went unanswered, which returns an error that wraps ErrDead. The only other
// errors are those of opening the socket; one names a missing privilege. A request
// that cannot be sent counts as one that is not answered.
//
// The first request is sent at once, the next one Interval after one that was
// answered, but directly after one that was lost. So a dead far end is known after
// at most Interval and Losses times Timeout. gogoCLIENT waits a full interval
// before its first request and after each loss too. Asked at once, a tunnel that
// never worked is known for what it is; asked more often when in doubt, one that
// died is replaced within seconds and not after three intervals of a minute or
// more.
//
// An answer counts if it comes from To, with the identifier and the data of a
// request not answered yet: 16 random bytes, so that nobody can forge one without
// having seen it. One that comes after the timeout still counts, if it is to one
// of the last Losses requests and none to a later one has come: the far end is
// slow then, but not dead.
func (p *Prober) Run(ctx context.Context) error {
	if ctx.Err() != nil {
		return nil
	}
	id := newID()
	c, err := p.open(int(id))
	if err != nil {
		return fmt.Errorf("keepalive: %w", err)
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		p.close(c)
	})
	defer func() {
		if stop() {
			p.close(c)
			return
		}
		<-closed
	}()
	return newProbe(p, c, id).run(ctx)
}

func (p *Prober) close(c conn) {
	if err := c.close(); err != nil {
		p.log.Warn("closing the keepalive socket failed", "err", err)
	}
}

// Stats returns the counters, those of all runs together.
func (p *Prober) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

func (p *Prober) countSent() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Sent++
}

func (p *Prober) countAnswer(now time.Time, rtt time.Duration) {
	p.mu.Lock()
	p.stats.Answered++
	p.stats.RTT, p.stats.LastAnswer = rtt, now
	p.mu.Unlock()
	if p.onAnswer != nil {
		p.onAnswer(now, rtt)
	}
}
