package bench

import (
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
	"sixin4/bench/load"
	"sixin4/tun/nstest"
)

// The parts of Broker, in their order. Those that are left out are not measured; the
// others have what they need all the same.
const (
	PartUsers   = "users"   // how fast users are stored
	PartRate    = "rate"    // sessions a second
	PartTunnels = "tunnels" // many at a time, all with traffic
	PartCost    = "cost"    // of a packet, with many tunnels and with one
	PartStorm   = "storm"   // the broker is killed, and all come back at once
	PartAttack  = "attack"  // a client's way to its tunnel meanwhile
	PartGuess   = "guess"   // whether the time of an answer shows who has an account
	PartLeak    = "leak"    // sessions for as long as it takes
)

// BrokerParts are all parts of Broker.
func BrokerParts() []string {
	return []string{PartUsers, PartRate, PartTunnels, PartCost, PartStorm, PartAttack, PartGuess, PartLeak}
}

// BrokerConfig says what Broker measures. The zero value takes about ten minutes.
type BrokerConfig struct {
	Users    int       // in the database; 0 is 100 000, or 2000 with Quick
	Tunnels  int       // at a time; 0 is 20 000, or 500 with Quick; at most Users and 100 000
	Sessions int       // of the part leak; 0 is 50 000, or 2000 with Quick
	Rounds   int       // of the parts rate, cost and storm; 0 is 3, or 1 with Quick
	Quick    bool      // small, about half a minute
	Parts    []string  // of BrokerParts; nil is all
	Progress io.Writer // gets a line per step; nil is none
}

const maxTunnels = 100_000

// brokerSizes is how much of everything is done.
type brokerSizes struct {
	rateTime   time.Duration // of each figure of the part rate
	carryRate  float64       // packets a second through all tunnels
	packets    int           // of each slice of the part cost
	slices     int           // of the part cost, of either kind, in a round
	settle     time.Duration // after the last packet
	tries      int           // of the client that behaves well, by UDP and by TCP
	guesses    int           // of users that there are, by each mechanism
	attack     load.Attack
	attackWarm time.Duration // before it is measured
	attackMost time.Duration // that is measured, if there are still passwords to be tried
}

var (
	fullSizes = brokerSizes{
		rateTime: 10 * time.Second, carryRate: 20_000, packets: 20_000, slices: 20, settle: time.Second, tries: 200, guesses: 2000,
		attack:     load.Attack{Silent: 10_000, Drips: 200, PerSecond: 50, Passwords: 100_000, Guessers: 64},
		attackWarm: 15 * time.Second, attackMost: 5 * time.Minute,
	}
	quickSizes = brokerSizes{
		rateTime: 2 * time.Second, carryRate: 5000, packets: 5000, slices: 10, settle: time.Second, tries: 20, guesses: 100,
		attack:     load.Attack{Silent: 200, Drips: 10, PerSecond: 10, Passwords: 300, Guessers: 8},
		attackWarm: time.Second, attackMost: 10 * time.Second,
	}
)

func (c BrokerConfig) sizes() brokerSizes {
	if c.Quick {
		return quickSizes
	}
	return fullSizes
}

func (c BrokerConfig) withDefaults() (BrokerConfig, error) {
	for _, d := range []struct {
		to            *int
		full, quickly int
	}{{&c.Users, 100_000, 2000}, {&c.Tunnels, 20_000, 500}, {&c.Sessions, 50_000, 2000}, {&c.Rounds, 3, 1}} {
		if *d.to < 0 {
			return c, fmt.Errorf("bench broker: %d: a number from 1 belongs here", *d.to)
		}
		if *d.to == 0 {
			*d.to = d.full
			if c.Quick {
				*d.to = d.quickly
			}
		}
	}
	if c.Tunnels > min(c.Users, maxTunnels) {
		return c, fmt.Errorf("bench broker: %d tunnels for %d users: at most one each, and %d", c.Tunnels, c.Users, maxTunnels)
	}
	if c.Parts == nil {
		c.Parts = BrokerParts()
	}
	for _, p := range c.Parts {
		if !slices.Contains(BrokerParts(), p) {
			return c, fmt.Errorf("bench broker: no part %q: there are %s", p, strings.Join(BrokerParts(), ", "))
		}
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return c, nil
}

// CheckBroker returns the error that Broker would begin with for its configuration.
func CheckBroker(cfg BrokerConfig) error {
	_, err := cfg.withDefaults()
	return err
}

// Broker measures the broker tspd, whose program is beside this one, with a crowd of
// clients in another namespace. It needs what nstest.Missing names, which is also the
// error.
func Broker(ctx context.Context, cfg BrokerConfig) (Report, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return Report{}, err
	}
	if missing := nstest.Missing(); missing != "" {
		return Report{}, fmt.Errorf("bench broker: %s", missing)
	}
	self, err := child.Self()
	if err != nil {
		return Report{}, err
	}
	return brokerOf(ctx, cfg, cfg.sizes(), self, filepath.Join(filepath.Dir(self), brokerProgram))
}

// brokerOf is Broker with the sizes and both programs named.
func brokerOf(ctx context.Context, cfg BrokerConfig, sizes brokerSizes, self, program string) (_ Report, err error) {
	m := &brokers{cfg: cfg, sizes: sizes, self: self, program: program}
	defer func() { err = errors.Join(err, m.close()) }()
	for _, step := range []struct {
		part string // "" is no part: it is done always
		do   func(context.Context) error
	}{
		{"", m.build}, {"", m.users}, {"", m.start},
		{PartRate, m.rate}, {PartTunnels, m.tunnels}, {PartCost, m.cost}, {PartStorm, m.storm},
		{PartAttack, m.attack}, {PartGuess, m.guess}, {PartLeak, m.leak},
	} {
		if step.part != "" && !m.wants(step.part) {
			continue
		}
		if err := step.do(ctx); err != nil {
			return Report{}, fmt.Errorf("bench broker: %w", err)
		}
	}
	return m.report(), nil
}

// brokers is one run of Broker.
type brokers struct {
	cfg     BrokerConfig
	sizes   brokerSizes
	self    string // this program, for the attackers
	program string // the broker
	dir     string // of the database
	topo    *nstest.Topology
	proc    *child.Process
	crowd   *load.Crowd

	live  []*load.Tunnel // that are up now
	table Table
	notes []string
}

func (m *brokers) wants(part string) bool { return slices.Contains(m.cfg.Parts, part) }

// say tells what is being done.
func (m *brokers) say(format string, args ...any) { fmt.Fprintf(m.cfg.Progress, format+"\n", args...) }

// row adds what was measured, and says it.
func (m *brokers) row(name, unit string, rounds ...float64) {
	figure := newFigure(unit, rounds)
	cell := Cell{Figure: &figure}
	m.say("  %s: %s %s", name, cell, unit)
	m.table.Rows = append(m.table.Rows, Row{Name: name, Cells: []Cell{cell}})
}

func (m *brokers) note(format string, args ...any) {
	m.notes = append(m.notes, fmt.Sprintf(format, args...))
}

// close ends the broker and the clients, closes the namespaces and removes the files.
func (m *brokers) close() error {
	var errs []error
	if m.crowd != nil {
		errs = append(errs, m.crowd.Close())
	}
	if m.proc != nil {
		errs = append(errs, m.proc.Stop())
	}
	if m.topo != nil {
		errs = append(errs, m.topo.Close())
	}
	if m.dir != "" {
		errs = append(errs, os.RemoveAll(m.dir))
	}
	return errors.Join(errs...)
}

func (m *brokers) report() Report {
	m.table.Title, m.table.Columns = "tspd under load", []string{"measured"}
	return Report{
		Title:   "Two network namespaces, one veth pair; tspd in one, a crowd of clients in the other, on the same processors",
		Machine: thisMachine(),
		Settings: []string{
			fmt.Sprintf("%d users in SQLite, %d tunnels by protocol 41, %d rounds where there are rounds.", m.cfg.Users, m.cfg.Tunnels, m.cfg.Rounds),
			"A client keeps its salted password, so that a login costs it little. All users have one salt.",
			"Client addresses are from 198.18.0.0/15, the range for benchmarks (RFC 2544), and leave no namespace.",
		},
		Tables: []Table{m.table},
		Notes:  m.notes,
	}
}
