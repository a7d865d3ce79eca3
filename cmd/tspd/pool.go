package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sixin4/cmd/internal/cli"
	"sixin4/tsp/broker/store"
)

const poolHelp = `Show how much of the broker's network is taken. It is said by --prefix or by --config,
as the broker has it.`

const poolExamples = `  tspd pool show --prefix 2001:db8:1000::/36
  tspd pool show --config /etc/sixin4/tspd.toml --json`

func newPool() *cobra.Command {
	return group("pool", "Show how much of the network is taken", poolHelp, poolExamples, newPoolShow())
}

func newPoolShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show (--prefix PREFIX | --config FILE)",
		Short:   "Show how much of the network is taken",
		Long:    poolHelp,
		Example: poolExamples,
		Args:    cli.NoArgs,
	}
	w := addWhere(cmd, prefixSetting)
	addJSON(cmd, &asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return w.with(cmd, need{pool: true}, func(ctx context.Context, db *database) error {
			return writePool(cmd.OutOrStdout(), db.Usage(), asJSON)
		})
	}
	return cmd
}

// shownPool is the use of a pool as JSON shows it.
type shownPool struct {
	Prefix    netip.Prefix `json:"prefix"`
	Addresses int          `json:"addresses"` // taken
	Prefixes  int          `json:"prefixes"`  // taken
	Free      uint64       `json:"free"`      // /64 networks that are left for prefixes
	Largest   int          `json:"largest,omitempty"`
}

func writePool(out io.Writer, u store.Usage, asJSON bool) error {
	if asJSON {
		return cli.WriteJSON(out, shownPool{u.Pool, u.Addresses, u.Prefixes, u.Free, u.Largest})
	}
	fmt.Fprintf(out, "pool %s\n", u.Pool)
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "  addresses\t%d taken\n  prefixes\t%d taken\n", u.Addresses, u.Prefixes)
	if u.Largest == 0 {
		fmt.Fprintf(tw, "  free\tno network for prefixes\n")
	} else {
		fmt.Fprintf(tw, "  free\t%d networks of /64; the largest prefix that is left is a /%d\n", u.Free, u.Largest)
	}
	return tw.Flush()
}
