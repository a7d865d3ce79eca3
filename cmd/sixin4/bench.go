package main

import (
	"errors"

	"github.com/spf13/cobra"

	"sixin4/bench"
	"sixin4/cmd/internal/cli"
	"sixin4/cmd/internal/exit"
	"sixin4/tun/nstest"
)

const benchHelp = `Measure the tunnel in network namespaces that are made for it and leave nothing
behind. Only the ratios of one run mean anything: machines differ, and a busy one
differs from itself.`

const pairHelp = `Measure between two network namespaces that are joined by one veth pair: TCP with
one and with four streams, the highest UDP rate with at most 0.1 % loss, and ping.
The columns are plain IPv4 without a tunnel, the naive loop (one read and one send
for each packet), and this tunnel. They are measured in turns; what is shown is
the median of all rounds. Root is needed, or a system that lets ordinary users
make user namespaces.`

const microHelp = `Measure nanoseconds and allocations per packet of each step of a packet's way, in
this process and without the kernel. No privilege is needed.`

const connectBenchHelp = `Measure the time from the start of sixin4 connect to a usable tunnel: to its ready
line, and to the first echo request that comes back through the tunnel. The broker
and the far end are in the next network namespace. Root is needed, or a system that
lets ordinary users make user namespaces.`

const demoHelp = `Show tunnels working, on hosts that are network namespaces made for it: one between
two hosts that know each other, then one that a broker gives to a user, with a prefix
for the hosts behind; with pings, transfers and counters. It takes a few seconds, 30
at most, and leaves nothing behind. The broker's program, tspd, must be beside this
one. Root is needed, or a system that lets ordinary users make user namespaces.`

func newBench() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "bench",
		Short:   "Measure the tunnel",
		Long:    benchHelp,
		Example: "  sixin4 bench pair --quick\n  sixin4 bench connect\n  sixin4 bench micro",
		Args:    cobra.ArbitraryArgs,
		RunE:    cli.Parent,
	}
	cmd.AddCommand(newBenchPair(), newBenchConnect(), newBenchMicro(), newBenchBroker())
	return cmd
}

func newBenchPair() *cobra.Command {
	var cfg bench.PairConfig
	var gro string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "pair",
		Short:   "Throughput, loss and latency between two network namespaces",
		Long:    pairHelp,
		Example: "  sixin4 bench pair\n  sixin4 bench pair --quick --gro both\n  sixin4 bench pair --rounds 9 --json > pair.json",
		Args:    cli.NoArgs,
		RunE: inNamespaces(func(cmd *cobra.Command) error {
			cfg.GRO, cfg.Progress = bench.GRO(gro), cmd.ErrOrStderr()
			report, err := bench.Pair(cmd.Context(), cfg)
			return writeReport(cmd, report, err, asJSON)
		}),
		PreRunE: func(*cobra.Command, []string) error { return checkPair(cfg, gro) },
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Rounds, "rounds", 0, "measure everything `N` times (default 5, or 3 with --quick)")
	f.BoolVar(&cfg.Quick, "quick", false, "shorter and coarser, about a minute")
	f.DurationVar(&cfg.Duration, "duration", 0, "`TIME` of each TCP run, like 2s (default 2s, or 500ms with --quick)")
	f.StringVar(&gro, "gro", string(bench.GROOff), "receive offload of the links: `off|on|both`")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func checkPair(cfg bench.PairConfig, gro string) error {
	switch {
	case cfg.Rounds < 0:
		return checkRounds(cfg.Rounds)
	case cfg.Duration < 0:
		return cli.Usage("--duration %v: a time like 2s belongs here", cfg.Duration)
	case gro != string(bench.GROOff) && gro != string(bench.GROOn) && gro != string(bench.GROBoth):
		return cli.Usage("--gro %s: off, on or both", gro)
	}
	return nil
}

func newBenchConnect() *cobra.Command {
	var cfg bench.ConnectConfig
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "connect",
		Short:   "Time from start to a usable tunnel, with a broker in the next namespace",
		Long:    connectBenchHelp,
		Example: "  sixin4 bench connect\n  sixin4 bench connect --rounds 25 --json > connect.json",
		Args:    cli.NoArgs,
		PreRunE: func(*cobra.Command, []string) error { return checkRounds(cfg.Rounds) },
		RunE: inNamespaces(func(cmd *cobra.Command) error {
			cfg.Progress = cmd.ErrOrStderr()
			report, err := bench.Connect(cmd.Context(), cfg)
			return writeReport(cmd, report, err, asJSON)
		}),
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Rounds, "rounds", 0, "measure everything `N` times (default 9, or 3 with --quick)")
	f.BoolVar(&cfg.Quick, "quick", false, "coarser, about two seconds")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newBenchMicro() *cobra.Command {
	var cfg bench.MicroConfig
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "micro",
		Short:   "Time and allocations per packet of each step",
		Long:    microHelp,
		Example: "  sixin4 bench micro\n  sixin4 bench micro --quick --json",
		Args:    cli.NoArgs,
		PreRunE: func(*cobra.Command, []string) error { return checkRounds(cfg.Rounds) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Progress = cmd.ErrOrStderr()
			report, err := bench.Micro(cmd.Context(), cfg)
			return writeReport(cmd, report, err, asJSON)
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Rounds, "rounds", 0, "measure everything `N` times (default 5, or 3 with --quick)")
	f.BoolVar(&cfg.Quick, "quick", false, "shorter and coarser, about a second")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func checkRounds(n int) error {
	if n < 0 {
		return cli.Usage("--rounds %d: a number from 1 belongs here", n)
	}
	return nil
}

func newDemo() *cobra.Command {
	return &cobra.Command{
		Use:     "demo",
		Short:   "Show tunnels and a broker working, in namespaces",
		Long:    demoHelp,
		Example: "  sudo sixin4 demo",
		Args:    cli.NoArgs,
		RunE: inNamespaces(func(cmd *cobra.Command) error {
			return bench.Demo(cmd.Context(), cmd.OutOrStdout())
		}),
	}
}

// inNamespaces runs what makes namespaces as root, or, for an ordinary user, this
// whole command line again as root of a user namespace.
func inNamespaces(run func(*cobra.Command) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		code, done, err := nstest.MaybeReexec()
		switch {
		case err != nil:
			return exit.With(exit.Permission, err)
		case done && code != exit.OK:
			return exit.With(code, errSaid)
		case done:
			return nil
		}
		if missing := nstest.Missing(); missing != "" {
			return exit.With(exit.Unavailable, errors.New(missing))
		}
		return run(cmd)
	}
}

// errSaid is the error of a child process that has told the user itself.
var errSaid = errors.New("failed in a user namespace")

// writeReport writes what was measured, if it was.
func writeReport(cmd *cobra.Command, report bench.Report, err error, asJSON bool) error {
	switch {
	case err != nil:
		return err
	case asJSON:
		return cli.WriteJSON(cmd.OutOrStdout(), report)
	}
	return report.WriteText(cmd.OutOrStdout())
}
