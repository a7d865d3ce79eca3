package keepalive

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Change is a change of state.
type Change struct {
	State State
	Was   State
	At    time.Time
	RTT   time.Duration // of the answer that made it up or damped; otherwise 0
	Err   error         // why it is down; otherwise nil
}

// MonitorStatus is what a [Monitor] knows.
type MonitorStatus struct {
	State State
	Since time.Time // of the state; zero before Run
	Stats Stats
}

// Monitor asks the far end for as long as it runs and says when it comes and goes, where
// a [Prober] ends at the first death. One that comes and goes all the time is damped.
type Monitor struct {
	prober   *Prober
	interval time.Duration // between attempts to open the socket
	log      *slog.Logger
	changed  func(Change)
	link     link // belongs to the goroutine of Run

	mu    sync.Mutex
	state State
	since time.Time
}

// NewMonitor checks cfg, whose Once must be false, and returns a monitor that has not
// opened anything yet. changed is told each change of state, from the goroutine of Run,
// which waits for it. That the far end has never answered is a change from Asking to
// Down.
func NewMonitor(cfg Config, changed func(Change)) (*Monitor, error) {
	if changed == nil || cfg.Once {
		return nil, errors.New("keepalive: a monitor needs somebody to tell, and does not end with an answer")
	}
	log := cfg.Logger
	cfg.Logger = nil // a prober's log is about one run; here are many
	p, err := New(cfg)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = p.log
	}
	m := &Monitor{prober: p, interval: p.cfg.Timeout, log: log, changed: changed}
	p.onAnswer = m.answered
	return m, nil
}

// Status returns what is known at present.
func (m *Monitor) Status() MonitorStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	return MonitorStatus{State: m.state, Since: m.since, Stats: m.prober.Stats()}
}

// Run asks until ctx ends, and returns nil then. While the far end is up it is asked every
// Config.Interval, and every Config.Timeout while it is down. A socket that cannot be
// opened, as when the interface is gone, makes it down too, and is tried again.
func (m *Monitor) Run(ctx context.Context) error {
	m.set(m.link.state, time.Now())
	for ctx.Err() == nil {
		err := m.prober.Run(ctx)
		if ctx.Err() != nil {
			break
		}
		m.died(err)
		if !errors.Is(err, ErrDead) {
			select {
			case <-ctx.Done():
			case <-time.After(m.interval):
			}
		}
	}
	return nil
}

// answered is called by the prober, in Run.
func (m *Monitor) answered(now time.Time, rtt time.Duration) {
	was := m.link.state
	m.tell(Change{State: m.link.answered(now), Was: was, At: now, RTT: rtt})
}

func (m *Monitor) died(err error) {
	was, now := m.link.state, time.Now()
	m.tell(Change{State: m.link.dead(now), Was: was, At: now, Err: err})
}

func (m *Monitor) set(s State, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state, m.since = s, now
}

// tell passes on what is a change.
func (m *Monitor) tell(c Change) {
	if c.State == c.Was {
		return
	}
	m.set(c.State, c.At)
	to := m.prober.cfg.To
	switch c.State {
	case Up:
		m.log.Info("the far end answers", "to", to, "rtt", c.RTT)
	case Damped:
		m.log.Warn("the far end answers, but comes and goes too often to count as up", "to", to, "rtt", c.RTT)
	case Down:
		m.log.Warn("the far end is down", "to", to, "err", c.Err)
	}
	m.changed(c)
}
