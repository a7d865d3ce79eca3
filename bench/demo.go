package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sixin4/bench/child"
	"sixin4/bench/traffic"
	"sixin4/tun/nstest"
)

const (
	demoTime  = 30 * time.Second
	demoBytes = 100_000_000 // each way
	demoPings = 10
)

// Demo shows the tunnel working between two hosts that it makes itself, network
// namespaces joined by one veth pair, and tells the reader on w what it does. It
// takes under 30 seconds and leaves nothing behind; any step that does not work
// is its error. It needs what nstest.Missing names, which is then the error.
func Demo(ctx context.Context, w io.Writer) error {
	if missing := nstest.Missing(); missing != "" {
		return fmt.Errorf("demo: %s", missing)
	}
	self, err := child.Self()
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return demoOf(ctx, w, self)
}

// demoOf is Demo with the program that has the subcommands named.
func demoOf(ctx context.Context, w io.Writer, self string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, demoTime)
	defer cancel()
	d := &demo{w: w, self: self}
	defer func() { err = errors.Join(err, d.close()) }()
	for _, step := range []func(context.Context) error{
		d.build, d.up, d.ping, d.transfers, d.counters, d.down,
	} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	return nil
}

// demo is the two hosts and what runs on them.
type demo struct {
	w     io.Writer
	self  string
	dir   string
	topo  *nstest.Topology
	hosts [2]*host
}

// host is one end and its tunnel program.
type host struct {
	name string
	end
	proc *child.Process
}

// say tells the reader; one who has gone away misses the rest.
func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.w, format+"\n", args...) }

// step begins a paragraph that says what happens next.
func (d *demo) step(format string, args ...any) { d.say("\n# "+format, args...) }

// shell shows a command line as one would type it on a host.
func (d *demo) shell(host string, args []string) {
	line := strings.Join(append([]string{filepath.Base(args[0])}, args[1:]...), " ")
	d.say("%s$ %s", host, line)
}

func (d *demo) build(context.Context) (err error) {
	d.say("# Two hosts, A and B: network namespaces joined by a veth pair. They have IPv4 only.")
	if d.dir, err = os.MkdirTemp("", "sixin4-demo-"); err != nil {
		return err
	}
	if d.topo, err = nstest.Pair(); err != nil {
		return err
	}
	a, b := ends(d.topo, d.dir)
	d.hosts = [2]*host{{name: "A", end: a}, {name: "B", end: b}}
	for _, h := range d.hosts {
		d.say("%s has %v", h.name, h.local)
	}
	return nil
}

// close undoes what a failed step left; after all steps only the directory and
// the namespaces are.
func (d *demo) close() error {
	var errs []error
	for _, h := range d.hosts {
		if h != nil && h.proc != nil {
			errs = append(errs, h.proc.Stop())
		}
	}
	if d.topo != nil {
		errs = append(errs, d.topo.Close())
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}

func (d *demo) up(ctx context.Context) error {
	d.step("Each starts its end of an IPv6-in-IPv4 tunnel, and says when packets can flow.")
	for _, h := range d.hosts {
		args := engineCommand(d.self, h.end)
		d.shell(h.name, args)
		proc, line, err := startReady(ctx, h.ns, args)
		if err != nil {
			return err
		}
		h.proc = proc
		d.say("%s", line)
	}
	return nil
}

func (d *demo) ping(ctx context.Context) error {
	a, b := d.hosts[0], d.hosts[1]
	d.step("A pings B over IPv6.")
	var r traffic.PingResult
	err := a.ns.Do(func() (err error) {
		r, err = traffic.SendPing(ctx, b.inner.Addr(), traffic.Ping{Count: demoPings, Interval: 20 * time.Millisecond})
		return err
	})
	if err != nil {
		return err
	}
	d.say("%d of %d requests to %v answered, median %.0f us", r.Received, r.Sent, b.inner.Addr(), r.Median)
	if r.Received != r.Sent {
		return fmt.Errorf("ping: %d of %d requests were not answered", r.Sent-r.Received, r.Sent)
	}
	return nil
}

func (d *demo) transfers(ctx context.Context) error {
	d.step("Each sends the other %d MB of pseudo-random data over TCP; SHA-256 is taken at both ends.", demoBytes/1_000_000)
	a, b := d.hosts[0], d.hosts[1]
	for _, way := range []struct{ from, to *host }{{a, b}, {b, a}} {
		r, err := traffic.Transfer(ctx, way.from.ns, way.to.ns, way.to.inner.Addr(), demoBytes)
		if err != nil {
			return err
		}
		d.say("%s to %s: %.2f s, %.0f Mbit/s, both ends have %x...",
			way.from.name, way.to.name, r.Seconds, r.BitsPerSecond()/1e6, r.Sum[:8])
	}
	return nil
}

func (d *demo) counters(ctx context.Context) error {
	d.step("Each tunnel has counted what it carried.")
	for _, h := range d.hosts {
		args := statusCommand(d.self, h.end)
		d.shell(h.name, args)
		t, err := readStatus(ctx, args)
		if err != nil {
			return err
		}
		d.say("%s", t)
		if t.Tx.Bytes < demoBytes || t.Rx.Bytes < demoBytes {
			return fmt.Errorf("counters of %s: more was carried than they say", h.name)
		}
	}
	return nil
}

func (d *demo) down(context.Context) error {
	d.step("SIGTERM ends both; their interfaces, addresses and routes are gone.")
	for _, h := range d.hosts {
		if err := h.proc.Running(); err != nil {
			return err
		}
		if err := h.proc.Stop(); err != nil {
			return err
		}
		if _, err := h.ns.LinkStats(tunnelName); err == nil {
			return fmt.Errorf("%s still has the interface %s", h.name, tunnelName)
		}
	}
	d.say("done")
	return nil
}
