package main

import (
	"github.com/spf13/cobra"

	"sixin4/cmd/internal/cli"
	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/daemon"
	"sixin4/cmd/internal/program"
)

const serveHelp = `Run the broker in the foreground until SIGINT, SIGTERM or SIGHUP. Clients are
served over TCP and UDP on port 3653, and their tunnels are carried by protocol 41.
When clients can come there is one line on standard output:

  ready: tspd 192.0.2.2:3653 prefix 2001:db8:1000::/36

The prefix must be routed to this host. Its first /64 is for the addresses of
tunnels, the rest for prefixes of users. Users are made by tspd user add; without
--anonymous nobody else is let in.

The log goes to standard error. The broker needs /dev/net/tun and the capabilities
CAP_NET_ADMIN and CAP_NET_RAW.

Tunnels that were up when the broker ended carry packets again as soon as it is
back, without a word of their clients.`

const serveExamples = `  # All one needs, with a network that is routed to this host:
  tspd serve --prefix 2001:db8:1000::/36

  # For everybody, on a host that does not forward packets yet:
  tspd serve --prefix 2001:db8:1000::/36 --anonymous --configure-host

  # From a file (tspd help config shows every key); flags win over it:
  tspd serve --config /etc/sixin4/tspd.toml --verbose`

// serveSettings are the flags that are keys of the file too, in the order of --help.
var serveSettings = append([]cli.Setting{
	prefixSetting,
	cli.Flag(config.Listen, "A.B.C.D[:PORT]", "where clients are expected, TCP and UDP, and where their tunnels end (at the first, of several); default: the address of the IPv4 default route, port 3653; repeatable"),
	cli.Flag(config.Anonymous, "bool", "let in who has no account: an address, never a prefix"),
	cli.Flag(config.ConfigureHost, "bool", "set what this host needs to forward packets, and set it back at the end"),
	stateSetting,
	keySetting,
	cli.Flag(config.Name, "INTERFACE", "name of the interface; default tspd0"),
	cli.Flag(config.DNS, "ADDRESS", "IPv6 address of a resolver that clients are told; repeatable, at most 8"),
	cli.Flag(config.Redirect, "HOST[,HOST...]", "send clients to these brokers, on port 3653, instead of serving them; repeatable"),
	cli.Flag(config.Lifetime, "TIME", "how long a client may use what it got before it must ask again; default 7d"),
	cli.Flag(config.Keepalive, "TIME", "shortest time between echo requests that clients are told; default 30s"),
	cli.Flag(config.Silence, "TIME", "take down a tunnel that was not heard for so long; its owner keeps address and prefix; default 15m"),
	cli.Flag(config.AnonymousLease, "TIME", "how long the address of nobody is kept after its tunnel was heard last; default 24h"),
	quarantineSetting,
	iterationsSetting,
	realmSetting,
}, cli.Common...)

func newServe() *cobra.Command {
	raw := make(config.Raw)
	var file string
	cmd := &cobra.Command{
		Use:     "serve --prefix PREFIX [flags]",
		Short:   "Run the broker",
		Long:    serveHelp,
		Example: serveExamples,
		Args:    cli.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return serve(cmd, raw, file) },
	}
	cmd.Flags().SortFlags = false
	addConfig(cmd, &file)
	cli.AddSettings(cmd, raw, serveSettings)
	return cmd
}

func serve(cmd *cobra.Command, raw config.Raw, file string) error {
	if err := merge(raw, file); err != nil {
		return err
	}
	cfg, err := config.CheckBroker(raw)
	if err != nil {
		return err
	}
	program.IgnorePipe() // who reads the log may go away; the tunnels stay
	return daemon.Serve(cmd.Context(), cfg, daemon.Env{
		Out:        cmd.OutOrStdout(),
		Logger:     program.NewLogger(cmd.ErrOrStderr(), cfg.LogJSON, cfg.Verbose),
		SocketDirs: program.SocketDirs(),
	})
}
