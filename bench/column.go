package bench

import (
	"errors"
	"net/netip"
	"time"

	"sixin4/bench/child"
	"sixin4/tun/nstest"
)

// The columns of a table, in order.
const (
	plainColumn = iota
	naiveColumn
	engineColumn // and all after it: the product, as it is and with options
	packetColumn
	rawColumn
	udpColumn
	proxyColumn
	wireguardColumn
	columnCount
)

var columnNames = [columnCount]string{
	"plain IPv4", "naive loop", "--wire auto", "--wire packet", "--wire raw", "v6udpv4", "proxy", "wireguard-go",
}

// columnKeys are what PairConfig.Columns calls them. Plain IPv4 and the naive loop are
// always measured: the others are compared with them.
var columnKeys = [columnCount]string{"", "", "auto", "packet", "raw", "udp", "proxy", "wireguard"}

// usualColumns are measured when none are named.
var usualColumns = []string{"auto", "packet", "raw"}

// PairColumns returns what PairConfig.Columns may name.
func PairColumns() []string { return columnKeys[engineColumn:] }

// column is one way from one namespace to another.
type column struct {
	name               string
	from, to           *nstest.NS
	addr               netip.Addr     // of to, by this way
	via                netip.AddrPort // the SOCKS5 server in from that is the only way; zero: there is none
	inner              netip.Addr     // of a client with a tunnel in UDP, whose outer addresses are the next; else zero
	outerFrom, outerTo netip.Addr
	procs              []*child.Process   // the tunnel at both ends; none for plain IPv4
	guess              map[string]float64 // where the last search of a row ended
}

func (c *column) stop() error {
	if c == nil { // the group was not built to its end
		return nil
	}
	var errs []error
	for _, p := range c.procs {
		errs = append(errs, p.Stop())
	}
	return errors.Join(errs...)
}

// remember keeps where the search of a row ended, for the next round.
func (c *column) remember(row string, rate float64) {
	if c.guess == nil {
		c.guess = make(map[string]float64)
	}
	c.guess[row] = rate
}

// running returns an error when a tunnel has ended.
func (c *column) running() error {
	for _, p := range c.procs {
		if err := p.Running(); err != nil {
			return err
		}
	}
	return nil
}

// usage is the processor time of both ends together, and the larger of their
// peaks.
func (c *column) usage() (sum child.Usage, err error) {
	for _, p := range c.procs {
		u, err := p.Usage()
		if err != nil {
			return child.Usage{}, err
		}
		sum.CPU += u.CPU
		sum.PeakRSS = max(sum.PeakRSS, u.PeakRSS)
	}
	return sum, nil
}

// cost runs work and returns the processor time that the tunnel took meanwhile.
func (c *column) cost(work func() error) (time.Duration, error) {
	before, err := c.usage()
	if err != nil {
		return 0, err
	}
	if err := work(); err != nil {
		return 0, err
	}
	after, err := c.usage()
	return after.CPU - before.CPU, err
}

// group is the columns that share one setting of the links, and their figures.
type group struct {
	gro     bool
	shown   []int // the columns that there are
	columns [columnCount]*column
	rounds  [][columnCount][]float64 // by row of the table
}

func newGroup(gro bool, rows int, shown []int) *group {
	return &group{gro: gro, shown: shown, rounds: make([][columnCount][]float64, rows)}
}

func (g *group) label() string {
	if g.gro {
		return string(GROOn)
	}
	return string(GROOff)
}

// add keeps what a probe measured in one round.
func (g *group) add(p probe, column int, values []float64) {
	for i, v := range values {
		cell := &g.rounds[p.first+i][column]
		*cell = append(*cell, v)
	}
}
