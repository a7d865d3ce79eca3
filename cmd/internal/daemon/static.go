// Package daemon builds a tunnel out of its parts, runs it, and takes it down:
// the only place where the host side (tun, tun/ifcfg), the wire side (encap,
// encap/wire, encap/engine) and the signalling (tsp/client) meet.
//
// A static tunnel goes through these steps, each of which puts its undo on one
// stack, so that the end, an error half way and a signal are the same thing:
//
//	NewPlan        routes, MTU, names: what can be known without a change
//	begin          what a killed run of another kind with this name has left is undone
//	openDevice     the device, its interface made ready
//	become         wire, MTU, up, addresses, routes, peers: the shape that is planned
//	openControl    the status socket
//	openMetrics    the address for Prometheus, if there is to be one
//	serve          until the context ends
//
// A negotiated one (client.go) opens device and control socket first, and becomes
// what each lease says.
package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/control"
	"sixin4/cmd/internal/metrics"
)

// Env is what the daemon uses of its surroundings.
type Env struct {
	Out        io.Writer     // gets the ready line
	Logger     *slog.Logger  // nil discards
	SocketDirs []string      // for the control socket, the preferred one first
	Build      metrics.Build // for those who ask which program this is

	Begun func() // nil or called once, just before a proxy's command starts

	Negotiation // for Connect

	fake host // for tests; nil is the real one
}

func (e Env) host() host {
	if e.fake != nil {
		return e.fake
	}
	return thisHost{}
}

// Up runs the tunnel that cfg describes until ctx ends, and returns nil then.
// Everything that it changed is undone when it returns. Errors carry the exit
// status (package exit).
func Up(ctx context.Context, cfg config.Config, env Env) (err error) {
	plan, err := NewPlan(cfg, env)
	if err != nil {
		return err
	}
	if err := checkPrivileges(false); err != nil {
		return err
	}
	t := newStatic(cfg, plan, env)
	defer t.close(&err)
	for _, warning := range plan.Warnings {
		t.env.Logger.Warn(warning)
	}
	begin := func() error { return t.begin(ctx) }
	for _, step := range []func() error{t.checkPrograms, begin, t.openDevice, t.become, t.openControl, t.openMetrics} {
		if err := step(); err != nil || ctx.Err() != nil {
			return err
		}
	}
	return serve(ctx, t.tasks(ctx), t.printReady)
}

// tasks are those of every tunnel, and who asks the far end. When programs are to hear
// that the tunnel goes down, packets flow until they have.
func (t *static) tasks(ctx context.Context) []Task {
	tasks := t.tunnel.tasks()
	if !slices.ContainsFunc(t.cfg.Peers, isMapped) { // those of a rule are anywhere
		tasks = append(tasks, newTask("way", t.awaitWay))
	}
	if t.cfg.Keepalive.To.IsValid() {
		tasks = append(tasks, t.keepaliveTask())
	}
	if t.cfg.Probe {
		tasks = append(tasks, t.probeTask())
	}
	if !t.hasPrograms() {
		return tasks
	}
	flow, stop := context.WithCancel(context.WithoutCancel(ctx))
	for i, other := range tasks {
		tasks[i] = lasting{other, flow}
	}
	return append(tasks, t.programsTask(stop))
}

// static is a tunnel to peers that a person named.
type static struct {
	*tunnel
	cfg  config.Config
	plan Plan
}

func newStatic(cfg config.Config, plan Plan, env Env) *static {
	t := &static{tunnel: newTunnel(staticSettings(cfg), env), cfg: cfg, plan: plan}
	t.far.to = cfg.Keepalive.To
	if t.hasPrograms() {
		t.far.changes = &changes{run: t.runProgram}
	}
	return t
}

func staticSettings(cfg config.Config) settings {
	return settings{
		Common: cfg.Common, local: cfg.Local.IsValid(), invalid: cfg.Invalid,
		follow: !cfg.Local.IsValid() && !slices.ContainsFunc(cfg.Peers, isMapped),
	}
}

func (t *static) openDevice() error {
	t.name, t.socket = t.plan.Name, t.plan.Socket
	err := t.tunnel.openDevice(t.plan.MTU)
	t.plan.Name, t.plan.Socket = t.name, t.socket // may be others, see there
	return err
}

func (t *static) become() error { return t.tunnel.become(t.plan.shape()) }

func (t *static) openControl() error { return t.tunnel.openControl(t.status, nil) }

func (t *static) status() control.Tunnel {
	s := t.tunnel.status("static")
	s.FarEnd = t.farEnd()
	if !t.cfg.Hub {
		s.Remote = t.plan.Peers[0].Remote.String()
	}
	return s
}

func (t *static) printReady() error {
	plan, now := t.plan, t.now.Load()
	plan.Local, plan.MTU = now.local, now.mtu // there may have been no way to the peer to plan by
	t.env.Logger.Info("tunnel is up", "name", plan.Name, "local", plan.Local, "mtu", int(plan.MTU))
	_, err := fmt.Fprintln(t.env.Out, plan.readyLine(t.cfg.Hub))
	return err
}
