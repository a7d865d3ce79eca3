package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/control"
	"sixin4/encap"
	"sixin4/encap/keepalive"
)

// far is what is known of the far end by asking it, and whom that concerns.
type far struct {
	mu      sync.Mutex
	to      netip.Addr // who is asked; not valid: nobody
	monitor *keepalive.Monitor
	state   keepalive.State
	changes *changes // hears when the tunnel comes up or goes down; nil: nobody does

	judging sync.Mutex // while it is worked out what to tell changes
}

// innerPath is the two ends inside the tunnel between which questions go, and the outer one
// here: when any of it is another, it is another path.
type innerPath struct{ from, to, outer netip.Addr }

// pathTo is the path to an address at the far end; false when there is none.
func (s *shape) pathTo(to netip.Addr) (innerPath, bool) {
	p := innerPath{to: to, outer: s.local}
	if !to.IsValid() || !s.local.IsValid() {
		return p, false
	}
	p.from = s.source()
	if to.IsLinkLocalUnicast() {
		p.from = linkLocal(s.local).Addr()
		return p, true
	}
	for _, a := range s.global() {
		if a.Contains(to) {
			p.from = a.Addr()
			break
		}
	}
	return p, true
}

// onPath runs run for as long as the path is the same, and anew for each new one.
func (t *tunnel) onPath(ctx context.Context, find func(*shape) (innerPath, bool), run func(context.Context, innerPath) error) error {
	for ctx.Err() == nil {
		changed := t.reshaped.wait()
		p, ok := find(t.now.Load())
		if !ok {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		if err := t.whileSame(ctx, find, run, p); err != nil {
			return err
		}
	}
	return nil
}

func (t *tunnel) whileSame(ctx context.Context, find func(*shape) (innerPath, bool), run func(context.Context, innerPath) error, p innerPath) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		defer cancel()
		for ctx.Err() == nil {
			changed := t.reshaped.wait()
			if now, ok := find(t.now.Load()); !ok || now != p {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	})
	return run(ctx, p)
}

// farEndChanges is what is done about the far end, and who hears of it.
func farEndChanges(cfg config.Config) (list []string) {
	if cfg.Probe {
		list = append(list, fmt.Sprintf("ask %s how long a packet may be, beginning with %d bytes", cfg.Far, encap.MinTunMTU))
	}
	if cfg.Keepalive.To.IsValid() {
		list = append(list, fmt.Sprintf("ask %s every %v whether it is there", cfg.Keepalive.To, cfg.Keepalive.Interval))
	}
	if len(cfg.OnUp) > 0 {
		list = append(list, "run "+strings.Join(cfg.OnUp, " ")+" when it comes up")
	}
	if len(cfg.OnDown) > 0 {
		list = append(list, "run "+strings.Join(cfg.OnDown, " ")+" when it goes down")
	}
	return list
}

// keepaliveTask asks the far end whether it is there.
func (t *static) keepaliveTask() Task {
	return newTask("keepalive", func(ctx context.Context, ready func()) error {
		ready() // whether it answers is no condition
		find := func(s *shape) (innerPath, bool) {
			p, ok := s.pathTo(t.cfg.Keepalive.To)
			p.outer = netip.Addr{} // a tunnel that has moved has the same far end
			return p, ok
		}
		return t.onPath(ctx, find, t.ask)
	})
}

func (t *static) ask(ctx context.Context, p innerPath) error {
	interval := t.cfg.Keepalive.Interval
	m, err := keepalive.NewMonitor(keepalive.Config{
		Interface: t.name,
		Source:    p.from,
		To:        p.to,
		Interval:  interval,
		Timeout:   min(interval, keepalive.DefaultTimeout),
		Logger:    t.env.Logger,
	}, t.farChanged)
	if err != nil {
		return err
	}
	t.far.mu.Lock()
	t.far.monitor = m
	t.far.mu.Unlock()
	return m.Run(ctx)
}

func (t *static) farChanged(c keepalive.Change) {
	t.far.mu.Lock()
	t.far.state = c.State
	t.far.mu.Unlock()
	t.judge()
}

// judge tells those concerned when the tunnel comes up or goes down. Whether it can be up
// is not known before the watch has looked.
func (t *tunnel) judge() {
	if !t.looked.Load() {
		return
	}
	t.far.mu.Lock()
	changes := t.far.changes
	t.far.mu.Unlock()
	if changes == nil {
		return
	}
	// What is told is what was found last, whoever found it.
	t.far.judging.Lock()
	defer t.far.judging.Unlock()
	switch state, _ := t.standing(); state {
	case stateUp:
		changes.note(true)
	case stateDown:
		changes.note(false)
	}
}

// What the state of a tunnel may be.
const (
	stateUp         = "up"
	stateDown       = "down"
	stateConnecting = "connecting"
)

// standing is the state of the tunnel, and why when it is not up.
func (t *tunnel) standing() (state, reason string) {
	if trouble := t.trouble.Load(); trouble != nil {
		return stateDown, *trouble
	}
	if state, reason = t.answers(); state != stateUp {
		return state, reason
	}
	if why := t.refusal(); why != "" {
		return stateDown, why
	}
	return stateUp, ""
}

// answers is the state by who asks the far end, up where nobody does.
func (t *tunnel) answers() (state, reason string) {
	t.far.mu.Lock()
	defer t.far.mu.Unlock()
	if !t.far.to.IsValid() {
		return stateUp, ""
	}
	switch t.far.state {
	case keepalive.Up:
		return stateUp, ""
	case keepalive.Down:
		return stateDown, fmt.Sprintf("the far end %s does not answer echo requests", t.far.to)
	case keepalive.Damped:
		return stateDown, fmt.Sprintf("the far end %s comes and goes too often to count as up", t.far.to)
	}
	return stateConnecting, fmt.Sprintf("the far end %s has not answered yet", t.far.to)
}

// farEnd is the part of the status about the far end, nil when nobody asks it.
func (t *tunnel) farEnd() *control.FarEnd {
	t.far.mu.Lock()
	defer t.far.mu.Unlock()
	if !t.far.to.IsValid() {
		return nil
	}
	f := &control.FarEnd{Address: t.far.to.String(), State: t.far.state.String()}
	if t.far.monitor != nil {
		s := t.far.monitor.Status()
		f.Since, f.Sent, f.Answered = s.Since, s.Stats.Sent, s.Stats.Answered
		f.LastAnswer, f.RTT = s.Stats.LastAnswer, float64(s.Stats.RTT)/float64(time.Second)
	}
	return f
}
