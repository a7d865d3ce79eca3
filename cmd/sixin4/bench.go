package main

import (
	"context"
	"errors"
	"io"
	"strings"

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
make user namespaces.

Columns beside plain IPv4 and the naive loop are auto, packet and raw, the ways to
send of sixin4 up; and, only if named, udp, which is sixin4 connect in mode v6udpv4
at a broker; proxy, which is TCP through sixin4 proxy; and wireguard, which is
wireguard-go. udp and proxy need the broker's program, tspd, beside this one. Rows
are tcp1, tcp4, udp64, udp1400 and ping; and, only if named, flood: one stream of the
column udp while 20 000 forged datagrams a second go to the broker's port, and while
they go to a closed one.`

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
	cmd := reporting(&cobra.Command{
		Use:     "pair",
		Short:   "Throughput, loss and latency between two network namespaces",
		Long:    pairHelp,
		Example: "  sixin4 bench pair\n  sixin4 bench pair --quick --gro both\n  sixin4 bench pair --columns udp,wireguard --rows tcp1\n  sixin4 bench pair --rounds 9 --json > pair.json",
		PreRunE: func(*cobra.Command, []string) error { return checkPair(cfg, gro) },
	}, func(ctx context.Context, progress io.Writer) (bench.Report, error) {
		cfg.GRO = bench.GRO(gro)
		cfg.Progress = progress
		return bench.Pair(ctx, cfg)
	})
	cmd.RunE = inNamespaces(cmd.RunE)
	f := cmd.Flags()
	f.IntVar(&cfg.Rounds, "rounds", 0, "measure everything `N` times (default 5, or 3 with --quick)")
	f.BoolVar(&cfg.Quick, "quick", false, "shorter and coarser, about a minute")
	f.DurationVar(&cfg.Duration, "duration", 0, "`TIME` of each TCP run, like 2s (default 2s, or 500ms with --quick)")
	f.StringSliceVar(&cfg.Columns, "columns", nil, "measure these `COLUMNS` beside plain IPv4 and the naive loop: "+strings.Join(bench.PairColumns(), ","))
	f.StringSliceVar(&cfg.Rows, "rows", nil, "measure these `ROWS` only: "+strings.Join(bench.PairRows(), ","))
	f.StringVar(&gro, "gro", string(bench.GROOff), "receive offload of the links: `off|on|both`")
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
	if err := bench.CheckPair(cfg); err != nil {
		return cli.Usage("%v", err)
	}
	return nil
}

func newBenchConnect() *cobra.Command {
	var cfg bench.ConnectConfig
	cmd := reporting(&cobra.Command{
		Use:     "connect",
		Short:   "Time from start to a usable tunnel, with a broker in the next namespace",
		Long:    connectBenchHelp,
		Example: "  sixin4 bench connect\n  sixin4 bench connect --rounds 25 --json > connect.json",
		PreRunE: func(*cobra.Command, []string) error { return checkRounds(cfg.Rounds) },
	}, func(ctx context.Context, progress io.Writer) (bench.Report, error) {
		cfg.Progress = progress
		return bench.Connect(ctx, cfg)
	})
	cmd.RunE = inNamespaces(cmd.RunE)
	f := cmd.Flags()
	f.IntVar(&cfg.Rounds, "rounds", 0, "measure everything `N` times (default 9, or 3 with --quick)")
	f.BoolVar(&cfg.Quick, "quick", false, "coarser, about two seconds")
	return cmd
}

func newBenchMicro() *cobra.Command {
	var cfg bench.MicroConfig
	cmd := reporting(&cobra.Command{
		Use:     "micro",
		Short:   "Time and allocations per packet of each step",
		Long:    microHelp,
		Example: "  sixin4 bench micro\n  sixin4 bench micro --quick --json",
		PreRunE: func(*cobra.Command, []string) error { return checkRounds(cfg.Rounds) },
	}, func(ctx context.Context, progress io.Writer) (bench.Report, error) {
		cfg.Progress = progress
		return bench.Micro(ctx, cfg)
	})
	f := cmd.Flags()
	f.IntVar(&cfg.Rounds, "rounds", 0, "measure everything `N` times (default 5, or 3 with --quick)")
	f.BoolVar(&cfg.Quick, "quick", false, "shorter and coarser, about a second")
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
		RunE: inNamespaces(func(cmd *cobra.Command, _ []string) error {
			return bench.Demo(cmd.Context(), cmd.OutOrStdout())
		}),
	}
}

// inNamespaces runs what makes namespaces as root, or, for an ordinary user, this
// whole command line again as root of a user namespace.
func inNamespaces(run func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
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
		return run(cmd, args)
	}
}

// errSaid is the error of a child process that has told the user itself.
var errSaid = errors.New("failed in a user namespace")

// reporting completes a command that measures and prints what it found, as text or JSON.
func reporting(cmd *cobra.Command, measure func(ctx context.Context, progress io.Writer) (bench.Report, error)) *cobra.Command {
	var asJSON bool
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Args = cli.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		report, err := measure(cmd.Context(), cmd.ErrOrStderr())
		switch {
		case err != nil:
			return err
		case asJSON:
			return cli.WriteJSON(cmd.OutOrStdout(), report)
		}
		return report.WriteText(cmd.OutOrStdout())
	}
	return cmd
}
