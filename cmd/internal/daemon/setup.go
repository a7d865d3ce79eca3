package daemon

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"time"

	"sixin4/cmd/internal/hook"
	"sixin4/cmd/internal/state"
	"sixin4/tsp"
	"sixin4/tun/ifcfg"
)

// setup is what a negotiated tunnel needs on this host besides its interface:
// what the template script or the commands for the beginning and the end do, and
// a route for the delegated prefix. All of it outlives the process, so it is on
// record in a state file before it is done.
type setup struct {
	t    *negotiated
	file *state.File
	done *tsp.Tunnel // what was set up for; nil when nothing is
	undo ifcfg.Stack
}

// teardownTime is how long everything that takes a tunnel down may take.
const teardownTime = 2 * time.Minute

// begin takes the state file and undoes what an earlier run with this name was
// killed before undoing, until ctx ends. The file is beside the control socket:
// neither outlives the host. An automatic name whose file another process has is
// that process's name: the next one is tried.
func (s *setup) begin(ctx context.Context) error {
	for {
		err := s.open()
		if !errors.Is(err, state.ErrInUse) || s.t.set.Name != "" {
			if err != nil {
				return s.openError(err)
			}
			return s.t.leftovers(ctx, s.file, s.file.Inherited())
		}
		s.t.taken = append(s.t.taken, s.t.name)
		if s.t.name, s.t.socket, err = chooseName(s.t.set, s.t.env, s.t.taken...); err != nil {
			return err
		}
	}
}

// openError gives advice that tspc has no flag for.
func (s *setup) openError(err error) error {
	if s.t.env.Classic {
		return socketError(err)
	}
	return stateError(err)
}

func (s *setup) open() (err error) {
	path, err := stateFile(s.t.socket, s.t.name)
	if err != nil {
		return err
	}
	s.t.stateDir = filepath.Dir(path)
	if s.file, err = state.Open(path); err == nil {
		s.t.undo.Push(s.file.Close)
	}
	return err
}

// make calls become and sets up for of. What is set up already for the same
// addresses inside the tunnel stays: only the outside has changed then, which is
// no business of a script's, and taking it down would end connections. When it fails,
// the tunnel before is set up again as far as that goes.
func (s *setup) make(ctx context.Context, of *tsp.Tunnel, become func() error) error {
	if s.done != nil && sameInside(s.done, of) {
		return become()
	}
	vars, err := s.t.params(hook.Create, of).Variables()
	if err != nil {
		return err
	}
	before, shape := s.done, *s.t.now.Load()
	if err := s.takeDown(); err != nil {
		s.t.env.Logger.Warn("not all of the tunnel before was taken down", "error", err)
	}
	s.t.env.tell().Setup(vars, s.t.cfg.Script)
	defer s.t.env.tell().Done()
	err = become()
	if err == nil {
		err = s.run(ctx, of)
	}
	if err == nil {
		return nil
	}
	err = errors.Join(err, s.takeDown(), s.t.retreat(shape))
	if before != nil && s.t.now.Load().local.IsValid() {
		err = errors.Join(err, s.run(ctx, before))
	}
	return err
}

// run runs everything that sets up for of.
func (s *setup) run(ctx context.Context, of *tsp.Tunnel) error {
	if err := s.delegate(of.Prefix); err != nil {
		return err
	}
	for _, c := range s.t.commands() {
		if err := s.command(ctx, c, of); err != nil {
			return err
		}
	}
	s.done = of
	return s.reach(of)
}

// reach sees to it that the far end can be asked also where a script made the routes.
func (s *setup) reach(of *tsp.Tunnel) error {
	if s.t.cfg.Script == "" || s.t.iface == nil {
		return nil
	}
	for _, p := range farEnd(of) {
		undo, err := s.t.addSpare(p)
		if err := s.undo.Keep(undo, err); err != nil {
			return err
		}
	}
	return nil
}

// sameInside reports whether a and b look the same from inside this host.
func sameInside(a, b *tsp.Tunnel) bool {
	return a.Type == b.Type && a.Client6 == b.Client6 && a.Server6 == b.Server6 && a.Prefix == b.Prefix &&
		a.ClientName == b.ClientName && len(a.DNS) == len(b.DNS) && (len(a.DNS) == 0 || a.DNS[0] == b.DNS[0])
}

// takeDown undoes all of it, last first. It takes its own time: that of the
// caller has often ended.
func (s *setup) takeDown() error {
	s.done = nil
	return s.undo.Undo()
}

// delegate keeps packets for parts of the prefix that no LAN has from going back
// into the tunnel, round and round. A script sees to that itself.
func (s *setup) delegate(p netip.Prefix) error {
	if !p.IsValid() || s.t.cfg.Script != "" || s.t.cfg.Proxy {
		return nil
	}
	var undo ifcfg.Undo
	err := s.record(state.Record{Route: &state.Route{Prefix: p, Type: state.Unreachable}}, func() error {
		if undo == nil {
			return nil // it was not made
		}
		return undo()
	})
	if err == nil {
		undo, err = ifcfg.AddUnreachable(p)
	}
	return err
}

// command is what is run when a tunnel is made, and what when it is taken down;
// either may be nothing.
type command struct{ up, down hook.Script }

func (t *negotiated) commands() []command {
	script := t.script(t.cfg.Script, "")
	return []command{{script, script}, {t.script("", t.cfg.OnUp), t.script("", t.cfg.OnDown)}}
}

func (t *negotiated) script(path, cmd string) hook.Script {
	return t.heard(hook.Script{Path: path, Command: cmd, Dir: t.cfg.HomeDir})
}

// heard gives s somebody who hears what it prints; otherwise the log does.
func (t *tunnel) heard(s hook.Script) hook.Script {
	s.Logger = t.env.Logger
	if t.env.Teller != nil {
		s.Output = t.env.Teller.Line
	}
	return s
}

func isEmpty(s hook.Script) bool { return s.Path == "" && s.Command == "" }

// command runs one command and has its undo ready before, as it may fail half way.
func (s *setup) command(ctx context.Context, c command, of *tsp.Tunnel) error {
	if !isEmpty(c.down) {
		if err := s.prepare(c.down, of); err != nil {
			return err
		}
	}
	if isEmpty(c.up) {
		return nil
	}
	vars, err := s.t.params(hook.Create, of).Variables()
	if err != nil {
		return err
	}
	return c.up.Run(ctx, vars)
}

// prepare puts on record what takes the tunnel down. That has its own time: the
// context of the tunnel has ended mostly.
func (s *setup) prepare(down hook.Script, of *tsp.Tunnel) error {
	vars, err := s.t.params(hook.Teardown, of).Variables()
	if err != nil {
		return err
	}
	return s.record(state.Record{Script: &state.Script{
		Path: down.Path, Command: down.Command, Dir: down.Dir, Variables: vars,
	}}, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), teardownTime)
		defer cancel()
		return down.Run(ctx, vars)
	})
}

// params is what scripts are told. Their home, if none is given, is where the state
// file is: it goes with the host.
func (t *negotiated) params(op hook.Operation, of *tsp.Tunnel) hook.Params {
	home := t.cfg.HomeDir
	if home == "" {
		home = t.stateDir
	}
	lan := t.cfg.LAN
	if lan == "" {
		lan = t.env.Home
	}
	return hook.Params{
		Operation: op, Verbose: t.env.Verbose, HomeDir: home,
		Interface: t.name, HomeInterface: lan, Router: t.cfg.Router, Tunnel: of,
	}
}

// record puts on file what is about to be done, and undo on the stack. An undo that
// fails is told once, as it would fail again, and stays on file for the next start.
func (s *setup) record(r state.Record, undo ifcfg.Undo) error {
	token, err := s.file.Add(r)
	if err != nil {
		return err
	}
	told := false
	s.undo.Push(func() error {
		if told {
			return nil
		}
		if err := undo(); err != nil {
			told = true
			return err
		}
		return s.file.Remove(token)
	})
	return nil
}
