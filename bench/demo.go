package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sixin4/bench/child"
	"sixin4/tun/nstest"
)

const (
	demoTime  = 30 * time.Second // after it something is wrong
	demoBytes = 50_000_000       // of each transfer
	demoPings = 10
)

// brokerProgram is the file name of the broker, which is beside this program.
const brokerProgram = "tspd"

// Demo shows on w, as a transcript, first a tunnel between two hosts that know each
// other, then a broker that gives a tunnel and a prefix to a user. It makes the hosts
// itself: network namespaces. It takes a few seconds, 30 at most, and leaves nothing
// behind; any step that does not work is its error. It needs the broker's program
// beside this one, and what nstest.Missing names, which is then the error.
func Demo(ctx context.Context, w io.Writer) error {
	if missing := nstest.Missing(); missing != "" {
		return fmt.Errorf("demo: %s", missing)
	}
	self, err := child.Self()
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return newDemo(w, self).run(ctx)
}

// demo is the hosts and what runs on them.
type demo struct {
	w       io.Writer
	self    string                 // the program that has the subcommands
	bytes   int64                  // of each transfer
	forward func(*nstest.NS) error // makes a router of a namespace
	dir     string                 // has a directory for each host
	topo    *nstest.Topology       // home and broker
	hosts   []*demoHost            // in the order in which they are stopped
	routers bool                   // forward worked

	home, broker, laptop, server *demoHost
}

func newDemo(w io.Writer, self string) *demo {
	return &demo{w: w, self: self, bytes: demoBytes, forward: func(ns *nstest.NS) error {
		return ns.Sysctl("net/ipv6/conf/all/forwarding", "1")
	}}
}

func (d *demo) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, demoTime)
	defer cancel()
	defer func() { err = errors.Join(err, d.close()) }()
	for _, step := range []func(context.Context) error{
		d.findBroker, d.build,
		d.up, d.between, d.down,
		d.serve, d.connect, d.world, d.delegated, d.counters, d.end,
	} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	return nil
}

// findBroker is before everything else, as nothing is shown without the broker.
func (d *demo) findBroker(context.Context) error {
	_, err := os.Stat(d.program(brokerProgram))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no program %s beside %s (make build makes both)", brokerProgram, d.self)
	}
	return err
}

// program is the path of a program that a command line begins with.
func (d *demo) program(name string) string {
	if name == brokerProgram {
		return filepath.Join(filepath.Dir(d.self), brokerProgram)
	}
	return d.self
}

// say tells the reader; one who has gone away misses the rest.
func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.w, format+"\n", args...) }

// step begins a paragraph that says what happens next.
func (d *demo) step(format string, args ...any) { d.say("\n# "+format, args...) }

// args shows a command line as one would type it on a host, and returns it with the
// path of the program.
func (d *demo) args(h *demoHost, line string) []string {
	d.say("%s$ %s", h.name, line)
	words := strings.Fields(line)
	words[0] = d.program(words[0])
	return words
}

// start starts what stays in the foreground, and returns the line that says that it
// is ready.
func (d *demo) start(ctx context.Context, h *demoHost, line string) (ready string, err error) {
	h.proc, ready, err = startReady(ctx, h, d.args(h, line))
	if err == nil {
		d.say("%s", ready)
	}
	return ready, err
}

// command runs what ends by itself, and shows what it prints.
func (d *demo) command(ctx context.Context, h *demoHost, line string) error {
	args := d.args(h, line)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = h.dir
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	d.say("%s", strings.TrimRight(string(out), "\n"))
	return nil
}

// stop ends the program of a host, which must have run until now, and wants its
// interface to be gone.
func (d *demo) stop(h *demoHost, tunnel string) error {
	if err := errors.Join(h.proc.Running(), h.proc.Stop()); err != nil {
		return err
	}
	h.proc = nil
	if _, err := h.ns.LinkStats(tunnel); err == nil {
		return fmt.Errorf("%s still has the interface %s", h.name, tunnel)
	}
	return nil
}

// close undoes what a failed step left; after all steps only the directory and the
// namespaces are.
func (d *demo) close() error {
	var errs []error
	for _, h := range d.hosts {
		if h.proc != nil {
			errs = append(errs, h.proc.Stop())
		}
	}
	for _, h := range d.hosts {
		errs = append(errs, h.ns.Close())
	}
	if d.topo != nil {
		errs = append(errs, d.topo.Close())
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}
