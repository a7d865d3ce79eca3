package main

import (
	"github.com/spf13/cobra"

	"sixin4/cmd/internal/cli"
	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/daemon"
	"sixin4/cmd/internal/program"
)

const upHelp = `Run a tunnel to a fixed peer, or a hub for several, in the foreground until SIGINT
or SIGTERM. Everything that it changed is undone on exit; who does not want to wait
for that sends another signal.

When packets can flow there is one line on standard output:

  ready: sixin4-0 192.0.2.1 -> 198.51.100.1 mtu 1480

The log goes to standard error. The tunnel needs /dev/net/tun and the
capabilities CAP_NET_ADMIN and CAP_NET_RAW; in a container:

  docker run --device /dev/net/tun --cap-add NET_ADMIN --cap-add NET_RAW \
             --sysctl net.ipv6.conf.all.disable_ipv6=0 ...`

const upExamples = `  # The tunnel of a provider, who gave the two addresses; all IPv6 goes into it:
  sixin4 up --remote 198.51.100.1 --address 2001:db8::2/64 --route ::/0

  # The same from a file (sixin4 help config shows every key); flags win over it:
  sixin4 up --config /etc/sixin4/home.toml -v

  # Show what would be changed, change nothing; this needs no privilege:
  sixin4 up --remote 198.51.100.1 --address 2001:db8::2/64 --dry-run

  # A hub: two peers, each with its prefixes:
  sixin4 up --local 192.0.2.1 --address 2001:db8:0:1::1/64 \
            --peer 198.51.100.1=2001:db8:1::/48 \
            --peer 203.0.113.7=2001:db8:2::/48,2001:db8:3::/48 --route 2001:db8::/32`

// upFlags are the flags of `sixin4 up` that are no settings.
type upFlags struct {
	file   string
	dryRun bool
	json   bool
}

func newUp() *cobra.Command {
	raw := make(config.Raw)
	var flags upFlags
	cmd := &cobra.Command{
		Use:     "up (--remote A.B.C.D | --peer A.B.C.D=PREFIX...) [flags]",
		Short:   "Run a tunnel to a fixed peer, or a hub",
		Long:    upHelp,
		Example: upExamples,
		Args:    cli.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return up(cmd, raw, flags) },
	}
	cli.AddSettings(cmd, raw, upSettings)
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&flags.file, "config", "", "read settings from this `FILE`: TOML, the names of these flags are its keys (sixin4 help config)")
	f.BoolVar(&flags.dryRun, "dry-run", false, "print what would be changed, change nothing")
	f.BoolVar(&flags.json, "json", false, "with --dry-run: print it as JSON")
	return cmd
}

func up(cmd *cobra.Command, raw config.Raw, flags upFlags) error {
	if flags.json && !flags.dryRun {
		return cli.Usage("--json: only with --dry-run; a running tunnel is shown by sixin4 status --json")
	}
	if flags.file != "" {
		file, err := config.ReadFile(flags.file)
		if err != nil {
			return err
		}
		raw.Merge(file)
	}
	cfg, err := config.Check(raw)
	if err != nil {
		return err
	}
	env := daemon.Env{
		Out:        cmd.OutOrStdout(),
		Logger:     program.NewLogger(cmd.ErrOrStderr(), cfg.LogJSON, cfg.Verbose),
		SocketDirs: program.SocketDirs(),
	}
	if !flags.dryRun {
		program.IgnorePipe() // who reads the log may go away; the tunnel stays
		return daemon.Up(cmd.Context(), cfg, env)
	}
	plan, err := daemon.NewPlan(cfg, env)
	if err != nil {
		return err
	}
	if flags.json {
		return cli.WriteJSON(env.Out, plan)
	}
	return plan.WriteText(env.Out)
}
