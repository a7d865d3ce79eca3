package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sixin4/bench/child"
	"sixin4/tsp/sasl"
	"sixin4/tun/nstest"
)

// ConnectConfig says how Connect measures. The zero value takes about five seconds.
type ConnectConfig struct {
	Rounds   int       // 0 is 9, or 3 with Quick
	Quick    bool      // coarser: about two seconds
	Progress io.Writer // gets a line per round; nil is none
}

func (c ConnectConfig) withDefaults() (ConnectConfig, error) {
	if c.Rounds == 0 {
		c.Rounds = 9
		if c.Quick {
			c.Rounds = 3
		}
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	if c.Rounds < 0 {
		return c, fmt.Errorf("bench connect: %d rounds: need 1 or more", c.Rounds)
	}
	return c, nil
}

// Connect measures the time from the start of `sixin4 connect` to a usable tunnel.
// The broker is in the next namespace. It needs what nstest.Missing names, which is
// also the error.
func Connect(ctx context.Context, cfg ConnectConfig) (Report, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return Report{}, err
	}
	if missing := nstest.Missing(); missing != "" {
		return Report{}, fmt.Errorf("bench connect: %s", missing)
	}
	self, err := child.Self()
	if err != nil {
		return Report{}, err
	}
	return connectOf(ctx, cfg, self)
}

// connectOf is Connect with the program that has the subcommands named.
func connectOf(ctx context.Context, cfg ConnectConfig, self string) (_ Report, err error) {
	c := &connects{cfg: cfg, self: self, samples: make([][]moments, len(logins))}
	defer func() { err = errors.Join(err, c.close()) }()
	for _, step := range []func(context.Context) error{c.build, c.warm, c.measure} {
		if err := step(ctx); err != nil {
			return Report{}, fmt.Errorf("bench connect: %w", err)
		}
	}
	return c.report(), nil
}

// login is one way to get a tunnel.
type login struct {
	name      string
	transport string
	auth      string // mechanism, empty for the anonymous
}

var logins = []login{
	{"TCP, anonymous", "tcp", ""},
	{"UDP, anonymous", "udp", ""},
	{"TCP, DIGEST-MD5", "tcp", sasl.DigestMD5},
	{"TCP, SCRAM-SHA-256", "tcp", sasl.ScramSHA256},
}

const (
	connectUser     = "alice"
	connectPassword = "secret"
)

// connects is one run of Connect.
type connects struct {
	cfg    ConnectConfig
	self   string
	dir    string // of the control sockets and the password
	topo   *nstest.Topology
	broker *broker
	far    *child.Process // the broker's end of the tunnel

	samples [][]moments // by login and round
	bare    []float64   // by round, milliseconds of the program alone
}

// build makes the two hosts, and what the second of them has to offer.
func (c *connects) build(ctx context.Context) (err error) {
	if c.dir, err = os.MkdirTemp("", "sixin4-bench-"); err != nil {
		return err
	}
	if err := os.WriteFile(c.password(), []byte(connectPassword+"\n"), 0o600); err != nil {
		return err
	}
	if c.topo, err = nstest.Pair(); err != nil {
		return err
	}
	if c.broker, err = startBroker(c.topo); err != nil {
		return err
	}
	c.far, _, err = startReady(ctx, c.topo.B, []string{c.self, "up",
		"--remote", c.topo.AddrA.String(), "--local", c.topo.AddrB.String(), "--name", tunnelName,
		"--address", offeredServer.String() + "/128", "--route", offeredClient.String() + "/128",
		"--socket", filepath.Join(c.dir, "far.sock")})
	return err
}

func (c *connects) password() string { return filepath.Join(c.dir, "password") }

// close stops both programs and the broker, closes the namespaces and removes the
// files.
func (c *connects) close() error {
	var errs []error
	if c.far != nil {
		errs = append(errs, c.far.Stop())
	}
	if c.broker != nil {
		errs = append(errs, c.broker.close())
	}
	if c.topo != nil {
		errs = append(errs, c.topo.Close())
	}
	if c.dir != "" {
		errs = append(errs, os.RemoveAll(c.dir))
	}
	return errors.Join(errs...)
}

// warm is a round that does not count: the program comes from the disk, and the
// broker makes the keys of its user.
func (c *connects) warm(ctx context.Context) error {
	for _, l := range logins {
		if _, err := c.once(ctx, l); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	return nil
}

// measure takes turns, as the other measurements do.
func (c *connects) measure(ctx context.Context) error {
	for round := range c.cfg.Rounds {
		fmt.Fprintf(c.cfg.Progress, "round %d of %d\n", round+1, c.cfg.Rounds)
		for i, l := range logins {
			m, err := c.once(ctx, l)
			if err == nil {
				err = c.far.Running()
			}
			if err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
			c.samples[i] = append(c.samples[i], m)
		}
		bare, err := c.onlyStart(ctx)
		if err != nil {
			return err
		}
		c.bare = append(c.bare, bare)
	}
	return nil
}
