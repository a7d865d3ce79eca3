package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"sixin4/bench/child"
	"sixin4/bench/traffic"
	"sixin4/tun/nstest"
)

// demoHost is a host, in whose directory its programs run.
type demoHost struct {
	name string
	ns   *nstest.NS
	dir  string
	addr netip.Addr     // by which the others reach it just now
	proc *child.Process // nil when none runs
}

// Start starts a program on the host.
func (h *demoHost) Start(cmd *exec.Cmd) error {
	cmd.Dir = h.dir
	return h.ns.Start(cmd)
}

var serverNet = netip.MustParsePrefix("2001:db8:f::/64")

const demoPicture = `# Four hosts, which are network namespaces. Between home and broker there is only IPv4.
#
#   laptop ------ home ============ IPv4 ============ broker ------ server
#           LAN   %-15v       %15v   the IPv6 world`

// build makes all hosts, and what they have before there is a tunnel.
func (d *demo) build(context.Context) (err error) {
	if d.dir, err = os.MkdirTemp("", "sixin4-demo-"); err != nil {
		return err
	}
	if d.topo, err = nstest.Pair(); err != nil {
		return err
	}
	d.say(demoPicture, d.topo.AddrA, d.topo.AddrB)
	if d.home, err = d.host("home", d.topo.A); err != nil {
		return err
	}
	if d.broker, err = d.host("broker", d.topo.B); err != nil {
		return err
	}
	if err := d.route(d.home, d.broker); err != nil {
		return err
	}
	d.server, err = d.attach("server", d.broker, serverNet)
	return err
}

// host makes a host of a namespace.
func (d *demo) host(name string, ns *nstest.NS) (*demoHost, error) {
	h := &demoHost{name: name, ns: ns, dir: filepath.Join(d.dir, name)}
	d.hosts = append(d.hosts, h)
	return h, os.Mkdir(h.dir, 0o700)
}

// route makes routers of hosts. Where /proc/sys cannot be written, as in containers,
// nothing is behind them.
func (d *demo) route(hosts ...*demoHost) error {
	for _, h := range hosts {
		err := d.forward(h.ns)
		if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
			d.say("#\n# Nothing can be a router here, so laptop is an address of home, and server one of broker:\n# %v", err)
			return nil
		}
		if err != nil {
			return err
		}
	}
	d.routers = true
	return nil
}

// attach makes a host that has the second address of network, behind a router that has
// the first. Without routers it is another name for the router's own namespace.
func (d *demo) attach(name string, router *demoHost, network netip.Prefix) (*demoHost, error) {
	gateway := network.Addr().Next()
	addr := gateway.Next()
	if !d.routers {
		h, err := d.host(name, router.ns)
		if err != nil {
			return nil, err
		}
		h.addr = addr
		return h, router.ns.AddAddr("lo", addr.String()+"/128")
	}
	ns, err := nstest.New()
	if err != nil {
		return nil, err
	}
	h, err := d.host(name, ns)
	if err != nil {
		return nil, err
	}
	h.addr = addr
	const here, there = "eth0", "lan0"
	err = nstest.Link(ns, here, router.ns, there)
	for _, step := range []func() error{
		func() error { return router.ns.AddAddr(there, gateway.String()+"/64") },
		func() error { return ns.AddAddr(here, addr.String()+"/64") },
		func() error { return ns.AddRoute("::/0", gateway.String()) },
	} {
		if err == nil {
			err = step()
		}
	}
	return h, err
}

// talk is a ping and a transfer each way between two hosts.
func (d *demo) talk(ctx context.Context, a, b *demoHost) error {
	if err := d.ping(ctx, a, b); err != nil {
		return err
	}
	if err := d.transfer(ctx, a, b); err != nil {
		return err
	}
	return d.transfer(ctx, b, a)
}

// answered waits until a host answers another one, however many requests it takes.
func (d *demo) answered(ctx context.Context, from, to *demoHost) error {
	var e *echoSocket
	err := from.ns.Do(func() (err error) {
		e, err = openEcho(to.addr)
		return err
	})
	if err != nil {
		return err
	}
	defer e.close()
	if _, err = e.answered(ctx); err != nil {
		return fmt.Errorf("%s asks %s at %v: %w", from.name, to.name, to.addr, err)
	}
	return nil
}

func (d *demo) ping(ctx context.Context, from, to *demoHost) error {
	var r traffic.PingResult
	err := from.ns.Do(func() (err error) {
		r, err = traffic.SendPing(ctx, to.addr, traffic.Ping{Count: demoPings, Interval: 10 * time.Millisecond})
		return err
	})
	if err != nil {
		return err
	}
	d.say("%s pings %s at %v: %d of %d answered, median %.0f us", from.name, to.name, to.addr, r.Received, r.Sent, r.Median)
	if r.Received != r.Sent {
		return fmt.Errorf("ping: %d of %d requests were not answered", r.Sent-r.Received, r.Sent)
	}
	return nil
}

// transfer sends known content; that it arrived as it was sent is checked there.
func (d *demo) transfer(ctx context.Context, from, to *demoHost) error {
	r, err := traffic.Transfer(ctx, from.ns, to.ns, to.addr, d.bytes)
	if err != nil {
		return err
	}
	d.say("%s sends %s %d MB over TCP: %.2f s, %.0f Mbit/s, SHA-256 is the same at both ends",
		from.name, to.name, r.Bytes/1_000_000, r.Seconds, r.BitsPerSecond()/1e6)
	return nil
}
