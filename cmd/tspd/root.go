package main

import (
	"io"

	"github.com/spf13/cobra"

	"sixin4/cmd/internal/cli"
	"sixin4/cmd/internal/config"
)

// version is set by the linker (-X main.version=v1.2.3) in a release.
var version string

const rootHelp = `tspd is a broker of IPv6 tunnels: whoever has one IPv4 address and a routed IPv6
prefix gives accounts, addresses, prefixes and tunnels to clients of the Tunnel
Setup Protocol (TSP, RFC 5572), and carries their traffic.

All commands but serve work on the database, also while the broker runs.

Exit status: 0 fine, 1 failure, 64 the command line is wrong, 69 not possible here,
75 try again, 77 no permission, 78 the configuration file or the key file is wrong.`

const rootExamples = `  tspd serve --prefix 2001:db8:1000::/36
  tspd user add alice --password-file /root/alice --prefix-length 48
  tspd tunnel list
  tspd log --address 2001:db8:1001::1
  tspd help config`

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:     "tspd",
		Short:   "A broker of IPv6 tunnels",
		Long:    rootHelp,
		Example: rootExamples,
	}
	cli.Prepare(root, stdout, stderr, "no command: serve, user, tunnel, pool, log, drain, key or version (tspd --help says more)")
	root.AddCommand(newServe(), newUser(), newTunnel(), newPool(), newLog(), newDrain(), newKey(), cli.NewVersion("tspd", version),
		cli.ConfigTopic("config", "serve", config.ReferenceBroker))
	return root
}

// group is a command that only has commands below it.
func group(use, short, long, example string, below ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:     use,
		Short:   short,
		Long:    long,
		Example: example,
		Args:    cobra.ArbitraryArgs,
		RunE:    cli.Parent,
	}
	cmd.AddCommand(below...)
	return cmd
}

// oneArg wants exactly one argument, called name in errors.
func oneArg(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return cli.Usage("%s: %s is missing (%s --help shows examples)", cmd.Name(), name, cmd.CommandPath())
		case 1:
			return nil
		}
		return cli.Usage("%s: unexpected %q: one %s (%s --help shows examples)", cmd.Name(), args[1], name, cmd.CommandPath())
	}
}
