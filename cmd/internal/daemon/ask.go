package daemon

import (
	"context"
	"errors"
	"fmt"

	"sixin4/cmd/internal/config"
	"sixin4/tsp"
	"sixin4/tsp/client"
)

// clientConfig is what the client of the broker is told.
func clientConfig(cfg config.Connect, env Env, n client.Network, p client.Path) client.Config {
	c := client.Config{
		Method: cfg.Auth, User: cfg.User, Password: cfg.Password.Reveal(),
		Request:    request(cfg),
		Transport:  transports[cfg.Transport],
		GiveUp:     env.GiveUp,
		Once:       cfg.Once,
		RetryDelay: cfg.RetryDelay, RetryMax: cfg.RetryMax,
		AlwaysSame: cfg.AlwaysSame,
		Memory:     memory{cfg.LastServer, cfg.BrokerList},
		Network:    n, Path: p,
		Observe: env.tell().Event,
		Trace:   env.Trace,
		Logger:  env.Logger,
	}
	if cfg.Once {
		c.GiveUp = client.Always
	}
	for _, s := range cfg.Servers {
		c.Servers = append(c.Servers, client.Server{Host: s.Host, Port: s.Port})
	}
	return c
}

var transports = map[string]client.Transport{
	config.TransportAuto: client.Auto, config.TransportUDP: client.UDP, config.TransportTCP: client.TCP,
}

// request is what the broker is asked for. A tunnel that ends at another host is one of
// protocol 41.
func request(cfg config.Connect) tsp.Request {
	r := tsp.Request{Type: cfg.Mode, Proxy: cfg.Proxy, Client: cfg.Local, Keepalive: cfg.Keepalive}
	if cfg.Proxy {
		r.Type = tsp.V6V4
		r.Keepalive = 0 // we could not ask
	}
	if cfg.Router {
		r.Router = &tsp.Router{PrefixLen: cfg.PrefixLength, DNS: cfg.ReverseDNS}
	}
	return r
}

// tryOnce negotiates, prints what came of it, and keeps nothing. It needs no
// privilege.
func tryOnce(ctx context.Context, cfg config.Connect, env Env) error {
	t := &negotiated{tunnel: newTunnel(connectSettings(cfg), env), cfg: cfg}
	var err error
	if t.name, _, err = chooseName(t.set, t.env); err != nil { // that it would have
		return err
	}
	once := printer{t: t}
	c, err := client.New(clientConfig(cfg, t.env, newNetwork(t, cfg), &once))
	if err != nil {
		return err
	}
	err = errors.Join(leaseError(c.Run(ctx)), once.err)
	if err == nil && !once.printed {
		return errors.New("stopped before there was a tunnel")
	}
	return err
}

// printer is a Path that only prints the lease.
type printer struct {
	t       *negotiated
	printed bool
	err     error
}

func (p *printer) Up(_ context.Context, l *client.Lease) error {
	s, err := p.t.shapeOf(l)
	p.t.checkPrefix(l)
	if err == nil {
		p.printed = true
		_, p.err = fmt.Fprintln(p.t.env.Out, readyLine(p.t.name, &s, l.Tunnel))
	}
	return err
}

func (p *printer) Watch(ctx context.Context, _ *client.Lease) error {
	<-ctx.Done()
	return nil
}
