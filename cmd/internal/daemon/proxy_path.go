package daemon

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"sixin4/encap/keepalive"
	"sixin4/tsp/client"
)

// Watch asks the far end by echo requests from the address of the lease, which also
// keeps the mappings of NAT alive. It returns an error when several in a row are not
// answered, if the broker ordered that it be asked.
func (p *proxied) Watch(ctx context.Context, l *client.Lease) error {
	if l.Tunnel.Keepalive == 0 {
		<-ctx.Done()
		return nil
	}
	timeout := min(max(l.Tunnel.Keepalive, time.Second), keepalive.DefaultTimeout)
	for lost := 0; lost < keepalive.DefaultLosses; lost++ {
		for p.answers(ctx, l, timeout) {
			lost = 0
			if err := p.follow(l, p.link.Load()); err != nil {
				p.env.Logger.Warn("the MTU stays what it was", "error", err)
			}
			if !waited(ctx, l.Tunnel.Keepalive) {
				return nil
			}
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	return fmt.Errorf("%v: %w: %d echo requests in a row were lost", l.Tunnel.KeepaliveTo, keepalive.ErrDead, keepalive.DefaultLosses)
}

// answers reports whether the far end answers one request.
func (p *proxied) answers(ctx context.Context, l *client.Lease, timeout time.Duration) bool {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	rtt, err := p.device.Ping(limited, l.Tunnel.Client6, l.Tunnel.KeepaliveTo)
	if err == nil {
		p.env.Logger.Debug("keepalive", "rtt", rtt)
		return true
	}
	<-limited.Done() // an error that comes at once does not make requests come faster
	return false
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

// Resolve asks the resolvers of the configuration, or those of the broker, through the
// tunnel. Without any it asks those of this host, past the tunnel.
func (p *proxied) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	servers := p.cfg.DNS
	if l := p.lease.Load(); l != nil && len(servers) == 0 {
		servers = l.Tunnel.DNS
	}
	if len(servers) == 0 {
		return net.DefaultResolver.LookupNetIP(ctx, "ip6", host)
	}
	return p.device.Lookup(ctx, servers, host)
}
