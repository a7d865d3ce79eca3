package main

import (
	"context"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"sixin4/cmd/internal/cli"
	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/daemon"
	"sixin4/cmd/internal/metrics"
	"sixin4/cmd/internal/program"
	"sixin4/tsp/client"
)

const connectHelp = `Get a tunnel from a broker by the Tunnel Setup Protocol (RFC 5572) and run it in
the foreground until SIGINT or SIGTERM: this host then has an IPv6 address, with an
account always the same, whatever its IPv4 address is, and the prefix of the account
if it has one. SIGHUP reads -f FILE again, and the tunnel begins anew if it has
changed; without a file SIGHUP is the end.

The default route goes into the tunnel unless --no-route says otherwise. When
packets can flow there is one line on standard output:

  ready: sixin4-0 v6v4 192.0.2.1 -> 192.0.2.2 address 2001:db8:1000::2 mtu 1480

The tunnel is watched by echo requests as often as the broker orders, and
negotiated again when the far end does not answer or this host's IPv4 address
changes; interface and addresses stay meanwhile, and with them the connections.

-f FILE is TOML with the names of these flags as keys (sixin4 help connect-config),
or the tspc.conf, gw6c.conf or gogoc.conf of old. Flags win over the file.

The password is read from --password-file or the variable SIXIN4_PASSWORD. It is
never sent in the clear unless --auth plain says so.

Commands of --on-up and --on-down, and a template script, get the values of the
tunnel in the variables TSP_OPERATION, TSP_TUNNEL_INTERFACE,
TSP_CLIENT_ADDRESS_IPV6, TSP_PREFIX and so on.

A negotiation that fails is tried again for ever, unless trying again will not mend
it and there was no tunnel yet: user or password refused, nothing in common with
the broker, the prefix not to be had, or this host cannot set the tunnel up.
With --once any failure is the end.

Exit status: 0 stopped by a signal, or --once done; 1 failure; 64 command line; 69
no TUN device here, or the broker does not make such tunnels; 75 try again (with
--once: broker not reached, or busy); 77 a privilege is missing, or the broker
refused user or password; 78 configuration file.`

const connectExamples = `  # A tunnel without an account:
  sixin4 connect --server broker.example.net

  # The same address for ever, with a prefix for the LAN:
  sixin4 connect --server 192.0.2.2 --user alice --password-file /etc/sixin4/alice --prefix-length 56

  # With the file of a client of old:
  sixin4 connect -f /usr/local/gogoc/bin/gogoc.conf

  # Show what would be changed, change nothing, and ask nobody:
  sixin4 connect --server 192.0.2.2 --dry-run

  # Only see what one would get; this needs no privilege:
  sixin4 connect --server 192.0.2.2 --once`

func newConnect() *cobra.Command {
	raw := make(config.Raw)
	var flags cli.Running
	cmd := &cobra.Command{
		Use:     "connect (--server HOST[:PORT] | -f FILE) [flags]",
		Short:   "Get a tunnel from a broker, and keep it",
		Long:    connectHelp,
		Example: connectExamples,
		Args:    cli.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return connect(cmd, raw, flags) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&flags.File, "file", "f", "", "read settings from this `FILE`: TOML (sixin4 help connect-config), or a tspc.conf or gogoc.conf")
	cli.AddSettings(cmd, raw, connectSettings)
	flags.AddDryRun(cmd)
	return cmd
}

func connect(cmd *cobra.Command, raw config.Raw, flags cli.Running) error {
	if err := flags.CheckDryRun(); err != nil {
		return err
	}
	cfg, err := readConnect(raw, flags.File)
	if err != nil {
		return err
	}
	env := func(cfg config.Connect, out io.Writer) daemon.Env {
		e := daemon.Env{
			Out:         out,
			Logger:      program.NewLogger(cmd.ErrOrStderr(), cfg.LogJSON, cfg.Verbose),
			SocketDirs:  program.SocketDirs(),
			Build:       metrics.Build{Program: "sixin4", Version: cli.BuildVersion(version)},
			Negotiation: daemon.Negotiation{GiveUp: client.Permanent},
		}
		for _, warning := range cfg.Warnings {
			e.Logger.Warn(warning)
		}
		return e
	}
	out := cmd.OutOrStdout()
	if flags.DryRun {
		r, err := daemon.RehearseConnect(cfg, env(cfg, out))
		return flags.WriteDryRun(out, r, err)
	}
	d := program.Daemon[config.Connect]{Config: cfg, Out: out}
	d.Logger = program.NewLogger(cmd.ErrOrStderr(), cfg.LogJSON, cfg.Verbose)
	d.Run = func(ctx context.Context, cfg config.Connect, out io.Writer) error {
		return daemon.Connect(ctx, cfg, env(cfg, out))
	}
	if flags.File != "" {
		d.Read = func() (config.Connect, error) { return readConnect(raw, flags.File) }
	}
	return d.Keep(cmd.Context())
}

// readConnect checks what the flags in raw and the file, if there is one, say.
func readConnect(raw config.Raw, path string) (config.Connect, error) {
	raw = maps.Clone(raw)
	var file config.ConnectFile
	if path != "" {
		var err error
		if file, err = config.ReadConnect(path); err != nil {
			return config.Connect{}, err
		}
		raw.Merge(file.Raw)
	}
	cfg, err := config.CheckConnect(raw, config.NewSecret(os.Getenv("SIXIN4_PASSWORD")))
	cfg.Warnings = slices.Concat(file.Warnings, cfg.Warnings)
	return cfg, err
}
