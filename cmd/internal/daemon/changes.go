package daemon

import (
	"context"
	"sync"
	"time"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/hook"
)

// programTime is how long a program may take that hears of one change.
const programTime = 30 * time.Second

// mostChanges is how many changes wait for the program about an earlier one to end. Of
// more, two that cancel each other out are forgotten.
const mostChanges = 16

// changes are those between up and down, in order, for programs that hear of each.
type changes struct {
	run func(ctx context.Context, up bool)

	mu      sync.Mutex
	begun   bool // something was noted
	up      bool // as was noted last
	waiting []bool
	more    bell
}

// note notes how it is now. What was the same before is no change.
func (c *changes) note(up bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun && c.up == up {
		return
	}
	c.begun, c.up = true, up
	if c.waiting = append(c.waiting, up); len(c.waiting) > mostChanges {
		c.waiting = c.waiting[2:]
	}
	c.more.ring()
}

// next takes the oldest change that waits.
func (c *changes) next() (up, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		return false, false
	}
	up, c.waiting = c.waiting[0], c.waiting[1:]
	return up, true
}

// follow tells each change, one after the other, until ctx ends, and then, if it was up
// that was told last, that it goes down.
func (c *changes) follow(ctx context.Context) {
	told := false
	for ctx.Err() == nil {
		more := c.more.wait()
		if up, ok := c.next(); ok {
			c.run(ctx, up)
			told = up
			continue
		}
		select {
		case <-more:
		case <-ctx.Done():
		}
	}
	if told {
		c.run(context.WithoutCancel(ctx), false)
	}
}

// hasPrograms reports whether somebody hears of changes.
func (t *static) hasPrograms() bool { return len(t.cfg.OnUp)+len(t.cfg.OnDown) > 0 }

// checkPrograms refuses a name that programs cannot be told.
func (t *static) checkPrograms() error {
	if !t.hasPrograms() {
		return nil
	}
	if err := (hook.Variable{Name: "TSP_TUNNEL_INTERFACE", Value: t.plan.Name}).Check(); err != nil {
		return t.cfg.Invalid(config.Name, "letters, digits, '-', '_' and '.' only: programs are told this name")
	}
	return nil
}

// programsTask runs the programs. stop is called when the last one has ended: packets
// flow until then.
func (t *static) programsTask(stop func()) Task {
	return newTask("programs", func(ctx context.Context, ready func()) error {
		defer stop()
		ready() // the watch judges when it has looked
		t.far.changes.follow(ctx)
		return nil
	})
}

// runProgram runs the one for a change, if there is one. That it fails is no reason to end.
func (t *static) runProgram(ctx context.Context, up bool) {
	program, op := t.cfg.OnDown, hook.Teardown
	if up {
		program, op = t.cfg.OnUp, hook.Create
	}
	if len(program) == 0 {
		return
	}
	s := hook.Script{Program: program, Timeout: programTime, Logger: t.env.Logger}
	if err := s.Run(ctx, t.variables(op)); err != nil && ctx.Err() == nil {
		t.env.Logger.Warn("a program that was told of a change failed", "name", t.name, "error", err)
	}
}

// variables are what programs are told, as far as this tunnel has it.
func (t *static) variables(op hook.Operation) []hook.Variable {
	now := t.now.Load()
	hostType, verbose := "host", "0"
	if t.cfg.Hub {
		hostType = "router"
	}
	if t.set.Verbose {
		verbose = "1"
	}
	vars := []hook.Variable{
		{Name: "TSP_OPERATION", Value: string(op)},
		{Name: "TSP_HOST_TYPE", Value: hostType},
		{Name: "TSP_TUNNEL_INTERFACE", Value: t.name},
		{Name: "TSP_TUNNEL_MODE", Value: "v6v4"},
		{Name: "TSP_VERBOSE", Value: verbose},
		{Name: "TSP_CLIENT_ADDRESS_IPV4", Value: now.local.String()},
	}
	if list := now.global(); len(list) > 0 {
		vars = append(vars, hook.Variable{Name: "TSP_CLIENT_ADDRESS_IPV6", Value: list[0].Addr().StringExpanded()})
	}
	if !t.cfg.Hub {
		vars = append(vars, hook.Variable{Name: "TSP_SERVER_ADDRESS_IPV4", Value: now.peers[0].Remote.String()})
	}
	if to := t.cfg.Keepalive.To; to.IsValid() {
		vars = append(vars, hook.Variable{Name: "TSP_SERVER_ADDRESS_IPV6", Value: to.StringExpanded()})
	}
	return vars
}
