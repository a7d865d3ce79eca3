package daemon

import (
	"context"
	"net"
	"net/netip"
	"time"

	"sixin4/encap"
	"sixin4/encap/wire"
	"sixin4/tsp/client"
	"sixin4/tun/ifcfg"
)

// Watch asks the far end by echo requests from the address of the lease, which also
// keeps the mappings of NAT alive. It returns an error when several in a row are not
// answered, if the broker ordered that it be asked.
func (p *proxied) Watch(ctx context.Context, l *client.Lease) error {
	p.welcome(ctx, l)
	path, link := udpPath{held: encap.WireMTU(p.way.Load()), log: p.env.Logger}, p.link.Load()
	return keepUDP(ctx, l, keeper{
		ask: func(ctx context.Context, timeout time.Duration) bool {
			rtt, ok := p.questions.askFar(ctx, l, echoLen, timeout)
			if ok {
				p.env.Logger.Debug("keepalive", "rtt", rtt)
			}
			return ok
		},
		sent:   func() uint64 { return p.engine.Totals().Tx.Packets },
		rhythm: newRhythm(l.Tunnel.Keepalive),
	}, func(ctx context.Context) { p.follow(ctx, l, link, &path) })
}

// follow gives the tunnel the MTU that the way to the broker has now.
func (p *proxied) follow(ctx context.Context, l *client.Lease, link *wire.UDP, known *udpPath) {
	kernel, err := link.PathMTU(link.RemoteAddr())
	if err != nil {
		return
	}
	near := kernel
	if route, err := ifcfg.RouteTo(link.RemoteAddr().Addr()); err == nil {
		near = encap.WireMTU(route.FixedMTU())
	}
	path := known.follow(ctx, kernel, forTunnel(near, l.Tunnel.MTU), func(ctx context.Context, path encap.WireMTU) bool {
		return p.questions.passes(ctx, l, path)
	})
	if ctx.Err() != nil || p.link.Load() != link {
		return
	}
	if err := p.resize(path, encap.TunMTU(l.Tunnel.MTU), link); err != nil {
		p.env.Logger.Warn("the MTU stays what it was", "error", err)
		return
	}
	p.way.Store(int64(path))
}

// waited waits, and reports false when ctx ended first.
func waited(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// DialContext is proxy.Network's.
func (p *proxied) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return p.device.DialContext(ctx, network, address)
}

// Listen is proxy.Network's.
func (p *proxied) Listen(network, address string) (net.Listener, error) {
	return p.device.Listen(network, address)
}

// ListenPacket is proxy.Network's.
func (p *proxied) ListenPacket(network, address string) (net.PacketConn, error) {
	return p.device.ListenPacket(network, address)
}

// Resolve is proxy.Network's. It asks the resolvers of the configuration, or those of the
// broker, through the tunnel. Without any it asks those of this host, past the tunnel.
func (p *proxied) Resolve(ctx context.Context, network, host string) ([]netip.Addr, error) {
	servers := p.cfg.DNS
	if l := p.lease.Load(); l != nil && len(servers) == 0 {
		servers = l.Tunnel.DNS
	}
	if len(servers) == 0 {
		return net.DefaultResolver.LookupNetIP(ctx, network, host)
	}
	return p.device.Lookup(ctx, servers, network, host)
}
