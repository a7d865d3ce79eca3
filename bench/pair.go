package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sixin4/bench/child"
	"sixin4/tun/nstest"
)

// GRO says whether the links merge what they receive (generic receive offload),
// as every real network card does and a veth by default does not.
type GRO string

// The values of PairConfig.GRO.
const (
	GROOff  GRO = "off"
	GROOn   GRO = "on"
	GROBoth GRO = "both" // one table each, measured in the same rounds
)

// PairConfig says how Pair measures. The zero value is the full measurement with
// GRO off, about six minutes.
type PairConfig struct {
	Rounds   int           // 0 is 5, or 3 with Quick
	Quick    bool          // shorter and coarser: about a minute
	Duration time.Duration // counted time of a TCP run; 0 is 2 s, or 0.5 s with Quick
	GRO      GRO           // "" is GROOff
	Columns  []string      // of PairColumns; nil is auto, packet and raw
	Rows     []string      // of PairRows; nil is all but flood
	Progress io.Writer     // gets a line per measurement; nil is none

	fine float64 // of the UDP search; 0 is 1.03, or 1.1 with Quick
}

func (c PairConfig) withDefaults() (PairConfig, error) {
	if c.Rounds == 0 {
		c.Rounds = 5
		if c.Quick {
			c.Rounds = 3
		}
	}
	if c.Duration == 0 {
		c.Duration = 2 * time.Second
		if c.Quick {
			c.Duration = 500 * time.Millisecond
		}
	}
	if c.fine == 0 {
		c.fine = 1.03
		if c.Quick {
			c.fine = 1.1
		}
	}
	if c.GRO == "" {
		c.GRO = GROOff
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	switch {
	case c.Rounds < 0:
		return c, fmt.Errorf("bench pair: %d rounds: need 1 or more", c.Rounds)
	case c.Duration < 0:
		return c, fmt.Errorf("bench pair: duration %v: must be positive", c.Duration)
	case c.GRO != GROOff && c.GRO != GROOn && c.GRO != GROBoth:
		return c, fmt.Errorf("bench pair: gro %q: not one of off, on, both", c.GRO)
	}
	if len(c.Columns) == 0 {
		c.Columns = usualColumns
	}
	if len(c.Rows) == 0 {
		c.Rows = usualRows
	}
	return c, cmp.Or(unknown("column", c.Columns, PairColumns()), unknown("row", c.Rows, PairRows()))
}

// unknown is the error of what is named and not there.
func unknown(what string, named, known []string) error {
	for _, n := range named {
		if !slices.Contains(known, n) {
			return fmt.Errorf("bench pair: %s %q: not one of %s", what, n, strings.Join(known, ", "))
		}
	}
	return nil
}

// CheckPair returns what is wrong with cfg, so that it can be told before anything starts.
func CheckPair(cfg PairConfig) error {
	_, err := cfg.withDefaults()
	return err
}

// Pair measures plain IPv4, the naive loop and the engine between two
// namespaces, and what else cfg.Columns names; a column with a broker needs the program
// tspd beside this one. It needs what nstest.Missing names, which is also the error.
func Pair(ctx context.Context, cfg PairConfig) (Report, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return Report{}, err
	}
	if missing := nstest.Missing(); missing != "" {
		return Report{}, fmt.Errorf("bench pair: %s", missing)
	}
	self, err := child.Self()
	if err != nil {
		return Report{}, err
	}
	return pairOf(ctx, cfg, self, filepath.Join(filepath.Dir(self), brokerProgram))
}

// pairOf is Pair with the program that has the subcommands, and the broker's, named.
func pairOf(ctx context.Context, cfg PairConfig, self, broker string) (_ Report, err error) {
	p, err := newPair(cfg, self, broker)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.build(ctx); err != nil {
		return Report{}, err
	}
	if err := p.measure(ctx); err != nil {
		return Report{}, err
	}
	return p.report(), nil
}

// pair is one run of Pair.
type pair struct {
	cfg    PairConfig
	self   string
	broker string // the program tspd
	dir    string // of the control sockets
	topos  []*nstest.Topology
	groups []*group
	probes []probe // of every round
	idle   probe   // before all rounds
	load   probe   // after them
	rows   []rowSpec
	notes  []string
}

func newPair(cfg PairConfig, self, broker string) (*pair, error) {
	dir, err := os.MkdirTemp("", "sixin4-bench-")
	if err != nil {
		return nil, fmt.Errorf("bench pair: %w", err)
	}
	p := &pair{cfg: cfg, self: self, broker: broker, dir: dir}
	p.addProbes()
	return p, nil
}

// build makes all namespaces and starts all tunnels. Those that are not being
// measured have nothing to do and cost nothing.
func (p *pair) build(ctx context.Context) error {
	for _, gro := range []bool{false, true} {
		if p.cfg.GRO != GROBoth && gro != (p.cfg.GRO == GROOn) {
			continue
		}
		g := newGroup(gro, len(p.rows), p.cfg.columns())
		p.groups = append(p.groups, g)
		if err := p.buildGroup(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// buildGroup gives each tunnel a veth of its own, as both would receive all
// protocol 41 packets of one. Plain IPv4 goes over the last one.
func (p *pair) buildGroup(ctx context.Context, g *group) error {
	for _, i := range g.shown[1:] {
		topo, err := p.topology(g.gro)
		if err != nil {
			return err
		}
		dir, err := os.MkdirTemp(p.dir, "")
		if err != nil {
			return err
		}
		c := &column{name: columnNames[i], from: topo.A, to: topo.B}
		g.columns[i] = c
		if err := builders[i](ctx, p, c, topo, dir); err != nil {
			return fmt.Errorf("bench pair: %s: %w", c.name, err)
		}
		g.columns[plainColumn] = &column{name: columnNames[plainColumn], from: topo.A, to: topo.B, addr: topo.AddrB}
	}
	return nil
}

// columns are those to be measured, in order.
func (c PairConfig) columns() (list []int) {
	for i, key := range columnKeys {
		if key == "" || slices.Contains(c.Columns, key) {
			list = append(list, i)
		}
	}
	return list
}

func (p *pair) topology(gro bool) (*nstest.Topology, error) {
	t, err := nstest.Pair()
	if err != nil {
		return nil, err
	}
	p.topos = append(p.topos, t)
	if err := setGRO(t.A, t.LinkA, gro); err != nil {
		return nil, err
	}
	return t, setGRO(t.B, t.LinkB, gro)
}

// GRO on a veth merges only what comes singly and together: the far end must not
// hand over super-packets, and the near end collects for up to 0.1 ms.
const (
	groFlush = 100_000 // nanoseconds
	groDefer = 10      // polls
)

func setGRO(ns *nstest.NS, link string, on bool) error {
	if err := ns.SetFeature(link, "gro", on); err != nil || !on {
		return err
	}
	if err := ns.SetFeature(link, "tso", false); err != nil {
		return err
	}
	return ns.SetGRODefer(link, groFlush, groDefer)
}

// close stops every process, closes every namespace and removes the sockets.
func (p *pair) close() error {
	var errs []error
	for _, g := range p.groups {
		for _, c := range g.columns {
			errs = append(errs, c.stop())
		}
	}
	for _, t := range p.topos {
		errs = append(errs, t.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(p.dir))...)
}

// measure takes turns: in each round every row is measured for all columns
// before the next row.
func (p *pair) measure(ctx context.Context) error {
	if err := p.once(ctx, p.idle); err != nil {
		return err
	}
	for round := range p.cfg.Rounds {
		for _, probe := range p.probes {
			if err := p.turn(ctx, round, probe); err != nil {
				return err
			}
		}
	}
	return p.once(ctx, p.load)
}

// turn measures one probe for every column.
func (p *pair) turn(ctx context.Context, round int, probe probe) error {
	row := probe.rows[0]
	for _, g := range p.groups {
		for _, i := range g.shown {
			c := g.columns[i]
			if c.via.IsValid() && !probe.streams {
				continue
			}
			values, err := probe.run(ctx, c)
			if err == nil {
				err = c.running()
			}
			if err != nil {
				return fmt.Errorf("bench pair: %s, %s: %w", row.name, c.name, err)
			}
			if len(values) == 0 {
				continue
			}
			g.add(probe, i, values)
			fmt.Fprintf(p.cfg.Progress, "round %d of %d, GRO %s, %s, %s: %s %s\n",
				round+1, p.cfg.Rounds, g.label(), row.name, c.name, number(values[0]), row.unit)
		}
	}
	return nil
}

// once takes the figures that are not taken per round.
func (p *pair) once(ctx context.Context, probe probe) error {
	for _, g := range p.groups {
		for _, i := range g.shown {
			c := g.columns[i]
			values, err := probe.run(ctx, c)
			if err != nil {
				return fmt.Errorf("bench pair: %s: %w", c.name, err)
			}
			g.add(probe, i, values)
		}
	}
	return nil
}
