package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"sixin4/bench"
	"sixin4/cmd/internal/cli"
)

const brokerBenchHelp = `Measure the broker, tspd, which must be beside this program: in one network
namespace tspd, in the other a crowd of clients, each with an address of its own, that
log in, get tunnels and send through them. The parts, of which --only chooses some:

  users     how fast users are stored
  rate      sessions a second over UDP, by mechanism
  tunnels   many tunnels at a time that all carry traffic, and the memory they take
  cost      what a packet costs with many tunnels and with one
  storm     tspd is killed and started again, and all clients come back at once
  attack    how long a client waits for its tunnel while strangers do all that is bad
  guess     whether the time of an answer shows who has an account
  leak      sessions one after another, and whether anything grows with them

It takes about ten minutes, or half a minute with --quick. Root is needed, or a system
that lets ordinary users make user namespaces.`

func newBenchBroker() *cobra.Command {
	var cfg bench.BrokerConfig
	cmd := reporting(&cobra.Command{
		Use:     "broker",
		Short:   "The broker tspd with a crowd of clients",
		Long:    brokerBenchHelp,
		Example: "  sixin4 bench broker --quick\n  sixin4 bench broker --only rate,storm --rounds 5\n  sixin4 bench broker --only leak --sessions 1000000",
		PreRunE: func(*cobra.Command, []string) error {
			if err := bench.CheckBroker(cfg); err != nil {
				return cli.Usage("%w", err)
			}
			return nil
		},
	}, func(ctx context.Context, progress io.Writer) (bench.Report, error) {
		cfg.Progress = progress
		return bench.Broker(ctx, cfg)
	})
	cmd.RunE = inNamespaces(cmd.RunE)
	f := cmd.Flags()
	f.StringSliceVar(&cfg.Parts, "only", nil, "measure these `PARTS` only: "+strings.Join(bench.BrokerParts(), ","))
	f.IntVar(&cfg.Users, "users", 0, "`N` users in the database (default 100000, or 2000 with --quick)")
	f.IntVar(&cfg.Tunnels, "tunnels", 0, "`N` tunnels at a time (default 20000, or 500 with --quick)")
	f.IntVar(&cfg.Sessions, "sessions", 0, "`N` sessions of the part leak (default 50000, or 2000 with --quick)")
	f.IntVar(&cfg.Rounds, "rounds", 0, "measure rate, cost and storm `N` times (default 3, or 1 with --quick)")
	f.BoolVar(&cfg.Quick, "quick", false, "small, about half a minute")
	return cmd
}
