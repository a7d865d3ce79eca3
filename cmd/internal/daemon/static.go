// Package daemon builds a tunnel out of its parts, runs it, and takes it down:
// the only place where the host side (tun, tun/ifcfg) and the wire side (encap,
// encap/wire, encap/engine) meet.
//
// A static tunnel goes through these steps, each of which puts its undo on one
// stack, so that the end, an error half way and a signal are the same thing:
//
//	NewPlan        routes, MTU, names: what can be known without a change
//	openWire       the raw socket
//	openTUN        the device
//	configure      link-local address, MTU, up, addresses, routes
//	checkRoutes    no peer may now be reached through the tunnel itself
//	startEngine    peer table and loops
//	openControl    the status socket
//	serve          until the context ends
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/control"
	"sixin4/encap/engine"
	"sixin4/encap/wire"
	"sixin4/tun"
	"sixin4/tun/ifcfg"
)

// Env is what the daemon uses of its surroundings.
type Env struct {
	Out        io.Writer    // gets the ready line
	Logger     *slog.Logger // nil discards
	SocketDirs []string     // for the control socket, the preferred one first

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
	if env.Logger == nil {
		env.Logger = slog.New(slog.DiscardHandler)
	}
	plan, err := NewPlan(cfg, env)
	if err != nil {
		return err
	}
	if err := checkPrivileges(); err != nil {
		return err
	}
	for _, warning := range plan.Warnings {
		env.Logger.Warn(warning)
	}
	t := &tunnel{cfg: cfg, env: env, plan: plan, since: time.Now()}
	defer func() {
		if undoErr := t.undo.Undo(); undoErr != nil {
			err = errors.Join(err, fmt.Errorf("undo: %w", undoErr))
		}
	}()
	for _, step := range []func() error{
		t.openWire, t.openTUN, t.configure, t.checkRoutes, t.startEngine, t.openControl,
	} {
		if err := step(); err != nil || ctx.Err() != nil {
			return err
		}
	}
	return serve(ctx, t.tasks(), t.printReady)
}

// tunnel is a static tunnel while it is being built and while it runs.
type tunnel struct {
	cfg   config.Config
	env   Env
	plan  Plan
	since time.Time
	undo  ifcfg.Stack

	wire   *wire.Conn
	device *tun.Device
	iface  *ifcfg.Interface
	engine *engine.Engine
	server *control.Server
	seen   seen // by the watch task

	trouble atomic.Pointer[string] // why packets cannot flow at present, nil when they can
	nowMTU  atomic.Int64           // of the interface, 0 when it is as planned
}

func (t *tunnel) openWire() (err error) {
	t.wire, err = wire.Listen(wire.Config{
		Local:   t.plan.Local,
		LinkMTU: t.plan.linkMTU,
		Direct:  t.cfg.Wire == config.WirePacket,
		Logger:  t.env.Logger,
	})
	if err != nil {
		return wireError(t.cfg, err)
	}
	t.undo.Push(t.wire.Close)
	return nil
}

// openTUN makes the device. With an automatic name another process may have
// taken the name meanwhile: then the next one is tried, a few times.
func (t *tunnel) openTUN() (err error) {
	const tries = 8
	for try := 1; ; try++ {
		t.device, err = tun.Open(tun.Config{
			Name:   t.plan.Name,
			MTU:    int(t.plan.MTU),
			Queues: t.cfg.Queues,
			Logger: t.env.Logger,
		})
		if err == nil || t.cfg.Name != "" || !isNameTaken(err) || try == tries {
			break
		}
		if err := t.nextName(); err != nil {
			return err
		}
	}
	if err != nil {
		return tunError(t.cfg, err)
	}
	t.undo.Push(t.device.Close)
	t.env.Logger.Debug("device made", "name", t.device.Name(), "offloads", t.device.Features().String())
	if missing := t.device.Features().Missing(); len(missing) > 0 {
		t.env.Logger.Info("this kernel lacks offloads of TUN devices; the tunnel works, with less speed",
			"name", t.device.Name(), "missing", strings.Join(missing, " "))
	}
	return nil
}

// nextName plans with another free name, and the socket that goes with it.
func (t *tunnel) nextName() error {
	if err := t.plan.chooseName(t.cfg, t.env); err != nil {
		return err
	}
	return t.plan.chooseSocket(t.cfg, t.env)
}

// configure makes the interface look as planned. Addresses need it to be up:
// the kernel makes their routes then.
func (t *tunnel) configure() (err error) {
	if t.iface, err = ifcfg.ByName(t.device.Name()); err != nil {
		return err
	}
	changes := []func() (ifcfg.Undo, error){
		t.iface.EnableIPv6,
		t.iface.NoAutoLinkLocal,
		t.noAutoConfig,
		func() (ifcfg.Undo, error) { return t.iface.SetMTU(int(t.plan.MTU)) },
		t.iface.Up,
	}
	for _, a := range t.plan.Addresses {
		changes = append(changes, func() (ifcfg.Undo, error) { return t.iface.AddAddress(a) })
	}
	for _, r := range t.plan.Routes {
		changes = append(changes, func() (ifcfg.Undo, error) { return t.iface.AddRoute(r) })
	}
	for _, change := range changes {
		if err := t.undo.Keep(change()); err != nil {
			return interfaceError(err)
		}
	}
	return nil
}

// noAutoConfig goes on without when /proc/sys is read-only: the engine takes in no
// router advertisement anyway, only our kernel's solicitations go unanswered.
func (t *tunnel) noAutoConfig() (ifcfg.Undo, error) {
	undo, err := t.iface.NoAutoConfig()
	if errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EACCES) {
		t.env.Logger.Debug("router solicitations stay on", "err", err)
		return func() error { return nil }, nil
	}
	return undo, err
}

func (t *tunnel) openControl() (err error) {
	t.server, err = control.Listen(control.Config{
		Path:   t.plan.Socket,
		Status: t.status,
		Logger: t.env.Logger,
	})
	if err != nil {
		return socketError(err)
	}
	t.undo.Push(t.server.Close)
	return nil
}

func (t *tunnel) tasks() []Task {
	tasks := []Task{
		newTask("engine", func(ctx context.Context, ready func()) error {
			ready() // packets wait in the kernel until its loops begin
			err := t.engine.Run(ctx)
			if err == nil && ctx.Err() == nil {
				err = errors.New("ended by itself")
			}
			return err
		}),
		newTask("control", func(ctx context.Context, ready func()) error {
			ready() // the socket listens already
			return t.server.Run(ctx)
		}),
		newTask("watch", t.watch),
	}
	if t.cfg.Wire == config.WirePacket {
		tasks = append(tasks, newTask("hops", t.followHops))
	}
	return tasks
}

func (t *tunnel) printReady() error {
	line := t.plan.readyLine(t.cfg.Hub)
	t.env.Logger.Info("tunnel is up", "name", t.plan.Name, "local", t.plan.Local, "mtu", int(t.plan.MTU))
	_, err := fmt.Fprintln(t.env.Out, line)
	return err
}
