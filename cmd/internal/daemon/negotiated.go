package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/control"
	"sixin4/cmd/internal/hook"
	"sixin4/encap"
	"sixin4/encap/keepalive"
	"sixin4/tsp"
	"sixin4/tsp/client"
)

// A negotiated tunnel goes through these steps; the client of the broker walks the
// middle ones as often as it takes:
//
//	begin          what an earlier run with this name could not undo is undone
//	openDevice     the device, its interface made ready
//	openControl    the status socket: from now on there is something to see
//	openMetrics    the address for Prometheus, if there is to be one
//	serve          the tasks, the client among them
//	  Up           become what the lease says; setup script or unreachable route
//	  Watch        the far end is asked until it answers: packets can flow; then keepalive, until
//	               it does not answer any more

// Connect gets a tunnel from a broker (RFC 5572) and runs it until ctx ends, and
// returns nil then. Everything that it changed is undone when it returns. Errors
// carry the exit status (package exit) and wrap what package tsp/client says.
func Connect(ctx context.Context, cfg config.Connect, env Env) (err error) {
	if cfg.Once {
		return tryOnce(ctx, cfg, env)
	}
	if !cfg.Proxy {
		if err := checkPrivileges(cfg.Mode == tsp.V6UDPV4); err != nil {
			return err
		}
	}
	t, err := newNegotiated(cfg, env)
	if err != nil {
		return err
	}
	defer t.close(&err)
	t.announce()
	steps := []func() error{func() error { return t.setup.begin(ctx) }, t.openDevice, t.openControl, t.openMetrics}
	for _, step := range steps {
		if err := step(); err != nil || ctx.Err() != nil {
			return err
		}
	}
	err = serve(ctx, t.tasks(ctx), t.printReady)
	return errors.Join(err, t.ended)
}

// tasks are those of every tunnel, and the client. Packets flow until the client
// has ended and what was set up is taken down: scripts need the interface for that,
// which goes with the engine.
func (t *negotiated) tasks(ctx context.Context) []Task {
	flow, stop := context.WithCancel(context.WithoutCancel(ctx))
	tasks := []Task{newTask("tsp", func(ctx context.Context, ready func()) error {
		defer stop()
		err := t.runClient(ctx, ready)
		t.ended = t.setup.takeDown()
		return err
	})}
	others := t.tunnel.tasks()
	if t.cfg.Probe {
		others = append(others, t.probeTask())
	}
	if t.cfg.Proxy {
		others = append([]Task{newTask("control", t.serveControl)}, t.metricsTask()...)
	}
	for _, other := range others {
		tasks = append(tasks, lasting{other, flow})
	}
	return tasks
}

// lasting is a task that runs until another context ends than it is told.
type lasting struct {
	Task
	until context.Context
}

func (l lasting) Run(context.Context) error { return l.Task.Run(l.until) }

// negotiated is a tunnel that a broker gives. It is the client's Path.
type negotiated struct {
	*tunnel
	cfg      config.Connect
	client   *client.Client
	setup    setup
	stateDir string                       // absolute
	lease    atomic.Pointer[client.Lease] // the one that the tunnel looks like
	taken    []string                     // names that other processes use
	ended    error                        // what could not be taken down; set when serve has returned
	first    func()                       // called when packets can flow
	told     hearsay                      // by the client
	kinds    *chooser                     // between protocol 41 and UDP

	questions *questions // to the far end of a tunnel in UDP
}

func newNegotiated(cfg config.Connect, env Env) (t *negotiated, err error) {
	t = &negotiated{cfg: cfg, first: func() {}}
	set := connectSettings(cfg)
	t.tunnel = newTunnel(set, env)
	t.questions = newQuestions()
	t.udp.may, t.udp.only, t.udp.replies = true, cfg.Mode == tsp.V6UDPV4, t.questions.replied
	if t.name, t.socket, err = chooseName(set, env); err != nil {
		return nil, err
	}
	t.setup.t = t
	if err := (hook.Variable{Name: "TSP_TUNNEL_INTERFACE", Value: t.name}).Check(); err != nil {
		return nil, cfg.Invalid(config.Name, "letters, digits, '-', '_' and '.' only: scripts are told this name")
	}
	c := clientConfig(cfg, t.env, newNetwork(t, cfg), t)
	c.Observe = t.observe
	c.Merged = t.short != nil
	t.kinds = newChooser(cfg, t.env)
	c.Kind = t.kinds.kind
	t.client, err = client.New(c)
	return t, err
}

// announce says what is different from what a person may expect.
func (t *negotiated) announce() {
	log := t.env.Logger
	if t.cfg.Router && t.cfg.Script == "" && t.cfg.OnUp == "" && !t.env.Classic {
		log.Warn("no router advertisements are sent by this version: give the prefix to the LAN by --script or --on-up")
	}
}

func connectSettings(cfg config.Connect) settings {
	return settings{Common: cfg.Common, local: cfg.Local.IsValid(), invalid: cfg.Invalid}
}

// openDevice also sees to it that scripts take down what they made before the
// device goes.
func (t *negotiated) openDevice() (err error) {
	if !t.cfg.Proxy {
		err = t.tunnel.openDevice(encap.MinTunMTU)
	}
	t.undo.Push(t.setup.takeDown)
	return err
}

func (t *negotiated) openControl() error { return t.tunnel.openControl(t.status, nil) }

// index is that of the interface, 0 when there is none.
func (t *negotiated) index() int {
	if t.iface == nil {
		return 0
	}
	return t.iface.Index
}

func (t *negotiated) runClient(ctx context.Context, ready func()) error {
	t.first = sync.OnceFunc(ready)
	return leaseError(t.client.Run(ctx))
}

// Up makes the tunnel what the lease says. It may be one of the same tunnel from
// another address of ours, or another tunnel.
func (t *negotiated) Up(ctx context.Context, l *client.Lease) error {
	next, err := t.shapeOf(l)
	if err != nil {
		return err
	}
	become := t.become
	if t.cfg.Proxy {
		become = t.pretend
	}
	if err := t.setup.make(ctx, l.Tunnel, func() error { return become(next) }); err != nil {
		if errors.Is(err, syscall.EEXIST) && slices.Contains(next.routes, everything) {
			err = fmt.Errorf("%w (--no-route leaves the default route alone)", err)
		}
		return err
	}
	t.checkPrefix(l)
	t.lease.Store(l)
	return nil
}

func (t *negotiated) checkPrefix(l *client.Lease) {
	if t.cfg.Router && !l.Tunnel.Prefix.IsValid() {
		t.env.Logger.Warn("a prefix was asked for, but the broker gave none", "name", t.name)
	}
}

// observe hears from the client what happens.
func (t *negotiated) observe(e client.Event) {
	t.told.event(e)
	t.kinds.event(e)
	t.env.tell().Event(e)
}

// pretend is become for a tunnel whose end is another host: there is nothing here
// that could look like it.
func (t *negotiated) pretend(next shape) error {
	t.now.Store(&next)
	return nil
}

// Watch returns an error when the far end does not answer any more, if the broker
// ordered that it be asked. Before that it says when packets can flow.
func (t *negotiated) Watch(ctx context.Context, l *client.Lease) error {
	if err := t.welcome(ctx, l); err != nil || ctx.Err() != nil {
		return err
	}
	defer t.readyByWay(ctx)()
	if l.Tunnel.Type == tsp.V6UDPV4 && !t.cfg.Proxy {
		return t.watchUDP(ctx, l)
	}
	if l.Tunnel.Keepalive == 0 {
		<-ctx.Done()
		return nil
	}
	p, err := keepalive.New(keepalive.Config{
		Interface: t.name,
		Source:    l.Tunnel.Client6,
		To:        l.Tunnel.KeepaliveTo,
		Interval:  l.Tunnel.Keepalive,
		Timeout:   min(max(l.Tunnel.Keepalive, time.Second), keepalive.DefaultTimeout),
		Logger:    t.env.Logger,
	})
	if err != nil {
		return err
	}
	t.told.asks(p)
	return p.Run(ctx)
}

func (t *negotiated) printReady() error {
	l := t.lease.Load()
	if l == nil {
		return nil // the client has ended without one; its error is the result
	}
	line := readyLine(t.name, t.now.Load(), l.Tunnel)
	_, err := fmt.Fprintln(t.env.Out, line)
	return err
}

func (t *negotiated) status() control.Tunnel {
	mode := string(t.cfg.Mode)
	l := t.lease.Load()
	if l != nil {
		mode = string(l.Tunnel.Type)
	}
	s, now := t.tunnel.status(mode), t.client.Status()
	s.ModeReason = t.kinds.why()
	s.TSP = &control.TSP{Server: t.cfg.Servers[0].String(), User: t.cfg.User, Next: now.Next}
	if l != nil {
		s.Remote = l.Tunnel.Server4.String()
		s.Addresses = []string{single(l.Tunnel.Client6).String()}
		s.TSP.Server, s.TSP.Lifetime = l.Server.String(), int(l.Tunnel.Lifetime.Seconds())
	}
	if now.State != client.StateUp {
		s.State, s.Reason = string(now.State), now.Reason
	}
	return s
}
