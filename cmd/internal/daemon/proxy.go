package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/control"
	"sixin4/cmd/internal/exit"
	"sixin4/cmd/internal/proxy"
	"sixin4/encap"
	"sixin4/encap/engine"
	"sixin4/encap/wire"
	"sixin4/tsp"
	"sixin4/tsp/client"
	"sixin4/tun/netstack"
)

// A tunnel without an interface is built of the same parts as the others, but for its
// two ends, which need no privilege:
//
//	programs ── proxy ── netstack ── engine ── UDP wire ── broker
//	                                              └── tsp/client, on the same socket

// Proxy gets a tunnel of IPv6 in UDP from a broker and lets programs use it by SOCKS5
// and HTTP until ctx ends, and returns 0 and nil then. With a command it ends with
// that, and returns its exit status. Errors carry the exit status (package exit).
func Proxy(ctx context.Context, cfg config.ProxySettings, env Env, command []string) (status int, err error) {
	p, err := newProxied(cfg, env)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if len(command) == 0 {
		return 0, serve(ctx, p.tasks(), p.printReady)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		run    sync.WaitGroup
		runErr error
	)
	err = serve(ctx, p.tasks(), func() error {
		if p.lease.Load() == nil {
			return nil // the client has ended without one; its error is the result
		}
		if env.Begun != nil {
			env.Begun()
		}
		if ctx.Err() != nil {
			return nil // a signal was first
		}
		run.Go(func() {
			defer cancel() // the tunnel ends with its command
			status, runErr = p.command(command).Run(ctx)
		})
		return nil
	})
	cancel()
	run.Wait()
	return status, errors.Join(err, runErr)
}

// proxied is a tunnel whose host is in this process. It is the client's Path, and the
// proxy's Network.
type proxied struct {
	cfg    config.ProxySettings
	env    Env
	device *netstack.Device
	wire   *wire.Switch
	server *proxy.Server
	client *client.Client

	name    string          // in the status
	control *control.Server // nil: there is no socket for it
	since   time.Time

	engine *engine.Engine
	begun  chan struct{} // closed once there is an engine
	first  func()        // called when packets can flow

	lease atomic.Pointer[client.Lease]
	link  atomic.Pointer[wire.UDP]
	mtu   atomic.Int64

	questions *questions   // to the far end
	way       atomic.Int64 // what the way to it was taken to carry at first, bytes
}

func newProxied(cfg config.ProxySettings, env Env) (p *proxied, err error) {
	if env.Logger == nil {
		env.Logger = slog.New(slog.DiscardHandler)
	}
	p = &proxied{cfg: cfg, env: env, wire: wire.NewSwitch(), begun: make(chan struct{}), first: func() {}, questions: newQuestions(), since: time.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.device, err = netstack.New(netstack.Config{Logger: env.Logger}); err != nil {
		return p, err
	}
	if err := p.openServer(); err != nil {
		return p, err
	}
	c := clientConfig(cfg.Connect, env, proxyNetwork{}, p)
	c.Request.Type = tsp.V6UDPV4
	if p.client, err = client.New(c); err != nil {
		return p, err
	}
	return p, p.openControl()
}

// openServer opens the proxy's sockets, and says who may use them.
func (p *proxied) openServer() (err error) {
	c := proxy.Config{
		Network: p,
		SOCKS5:  p.cfg.SOCKS5, HTTP: p.cfg.HTTP,
		User: p.cfg.ProxyUser, Password: p.cfg.ProxyPassword.Reveal(),
		DirectIPv4: p.cfg.DirectIPv4, MaxConns: p.cfg.MaxConnections,
		Logger: p.env.Logger,
	}
	for _, port := range p.cfg.Publish {
		c.Publish = append(c.Publish, proxy.Publish{Port: port.Port, To: port.To})
	}
	if p.server, err = proxy.New(c); err != nil {
		return hostError(err)
	}
	for _, at := range []net.Addr{p.server.SOCKS5(), p.server.HTTP()} {
		if at != nil && !proxy.IsLocal(at) && p.cfg.ProxyUser == "" {
			p.env.Logger.Warn("everybody who reaches this address can use the tunnel; --proxy-user and --proxy-password-file ask for a password",
				"listen", at.String())
		}
	}
	return nil
}

func (p *proxied) close() error {
	var errs []error
	if p.server != nil {
		errs = append(errs, p.server.Close())
	}
	if p.control != nil {
		errs = append(errs, p.control.Close())
	}
	errs = append(errs, p.wire.Close())
	if p.device != nil {
		errs = append(errs, p.device.Close())
	}
	return errors.Join(errs...)
}

func (p *proxied) tasks() []Task {
	tasks := []Task{
		newTask("tsp", func(ctx context.Context, ready func()) error {
			p.first = sync.OnceFunc(ready)
			return leaseError(p.client.Run(ctx))
		}),
		newTask("engine", p.runEngine),
		newTask("proxy", func(ctx context.Context, ready func()) error {
			ready() // the sockets are open
			return p.server.Run(ctx)
		}),
	}
	if p.control != nil {
		tasks = append(tasks, newTask("control", func(ctx context.Context, ready func()) error {
			ready() // the socket listens already
			return p.control.Run(ctx)
		}))
	}
	return tasks
}

// runEngine waits for the engine and runs it.
func (p *proxied) runEngine(ctx context.Context, ready func()) error {
	ready()
	select {
	case <-p.begun:
	case <-ctx.Done():
		return nil
	}
	err := p.engine.Run(ctx)
	if err == nil && ctx.Err() == nil {
		err = errors.New("ended by itself")
	}
	return err
}

// Up makes the tunnel of a lease carry packets. Addresses that stay keep their
// connections.
func (p *proxied) Up(_ context.Context, l *client.Lease) error {
	if l.Tunnel.Type != tsp.V6UDPV4 {
		return exit.With(exit.Unavailable, fmt.Errorf("the broker gave a tunnel of type %s, and without a TUN device only %s can be carried", l.Tunnel.Type, tsp.V6UDPV4))
	}
	session, ok := l.Conn.(*sessionConn)
	if !ok {
		return exit.With(exit.Unavailable, fmt.Errorf("the session was over %s, and %s needs UDP", l.Transport, tsp.V6UDPV4))
	}
	link, err := session.carry(wire.UDPConfig{ClearDF: p.cfg.MTU != 0, Logger: p.env.Logger})
	if err != nil {
		return hostError(err)
	}
	if err := p.become(l, link); err != nil {
		return errors.Join(err, link.Close())
	}
	if err := p.wire.Set(link); err != nil {
		return err
	}
	p.link.Store(link)
	p.lease.Store(l)
	return nil
}

// become gives the host in this process the address of a lease, and the engine its
// peer.
func (p *proxied) become(l *client.Lease, link *wire.UDP) error {
	table, err := engine.NewTable(engine.TableConfig{
		Peers: []engine.Peer{{
			Remote:   link.RemoteAddr().Addr(),
			Port:     link.RemoteAddr().Port(),
			Prefixes: []netip.Prefix{everything},
			Outer:    encap.Outer{Src: link.LocalAddr().Addr(), ClearDF: p.cfg.MTU != 0},
		}},
		Ours: []netip.Prefix{single(l.Tunnel.Client6)},
	})
	if err != nil {
		return err
	}
	if err := p.device.SetAddresses([]netip.Addr{l.Tunnel.Client6}); err != nil {
		return err
	}
	if p.engine == nil {
		return p.makeEngine(l, link, table)
	}
	if err := p.engine.SetSource(l.Tunnel.Client6); err != nil {
		return err
	}
	p.engine.SetTable(table)
	return p.beginPath(l, link)
}

func (p *proxied) makeEngine(l *client.Lease, link *wire.UDP, table *engine.Table) error {
	back, err := p.wire.NewWriter()
	if err != nil {
		return err
	}
	out, err := p.wire.NewWriter()
	if err != nil {
		return err
	}
	p.engine, err = engine.New(engine.Config{
		Inbound:  engine.Lane{In: p.wire.Reader(), Out: p.device.NewWriter(), Back: back, UDP: true},
		Outbound: []engine.Lane{{In: p.device.Reader(), Out: out, Back: p.device.NewWriter()}},
		MTU:      encap.MinTunMTU,
		Source:   l.Tunnel.Client6,
		Replies:  p.questions.replied,
		Logger:   p.env.Logger,
	}, table)
	if err != nil {
		return err
	}
	if err := p.beginPath(l, link); err != nil {
		return err
	}
	close(p.begun)
	return nil
}

// beginPath gives the tunnel the MTU that the kernel believes the way to the broker to have.
func (p *proxied) beginPath(l *client.Lease, link *wire.UDP) error {
	kernel, err := link.PathMTU(link.RemoteAddr())
	if err != nil {
		kernel = usualWireMTU
	}
	p.way.Store(int64(firstPath(kernel)))
	return p.resize(firstPath(kernel), encap.TunMTU(l.Tunnel.MTU), link)
}

// resize gives the tunnel the MTU that a way to the broker has.
func (p *proxied) resize(path encap.WireMTU, limit encap.TunMTU, link *wire.UDP) error {
	mtu := p.cfg.MTU
	if mtu == 0 {
		mtu = tunMTU(path, limit)
		if err := link.SetDF(path >= shortestUDP); err != nil {
			return err
		}
	}
	if p.mtu.Load() == int64(mtu) {
		return nil
	}
	p.env.Logger.Debug("MTU", "mtu", int(mtu))
	err := errors.Join(p.engine.SetMTU(mtu, max(path, mtu.Wire())), p.device.SetMTU(int(mtu)))
	if err == nil {
		p.mtu.Store(int64(mtu))
	}
	return err
}

// tunMTU is what fits a path behind both headers, or the limit where that is less, and
// never less than IPv6 needs: the path has to carry fragments then.
func tunMTU(path encap.WireMTU, limit encap.TunMTU) encap.TunMTU {
	mtu := encap.TunMTU(max(int(path)-wire.UDPHeaderLen, int(encap.MinTunMTU)))
	if limit != 0 {
		mtu = min(mtu, max(limit, encap.MinTunMTU))
	}
	return min(mtu, encap.MaxTunMTU)
}

// command is what runs with the proxy variables.
func (p *proxied) command(args []string) proxy.Command {
	return proxy.Command{
		Args: args, SOCKS5: p.server.SOCKS5(), HTTP: p.server.HTTP(),
		User: p.cfg.ProxyUser, Password: p.cfg.ProxyPassword.Reveal(),
	}
}

func (p *proxied) printReady() error {
	l := p.lease.Load()
	if l == nil {
		return nil // the client has ended without one; its error is the result
	}
	line := "ready: proxy"
	for _, at := range []struct {
		name string
		addr net.Addr
	}{{"socks5", p.server.SOCKS5()}, {"http", p.server.HTTP()}} {
		if at.addr != nil {
			line += " " + at.name + " " + at.addr.String()
		}
	}
	_, err := fmt.Fprintf(p.env.Out, "%s %s %s -> %s address %s mtu %d\n",
		line, l.Tunnel.Type, l.Local, l.Broker.Addr(), l.Tunnel.Client6, p.mtu.Load())
	return err
}
