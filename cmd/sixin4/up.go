package main

import (
	"context"
	"io"
	"maps"

	"github.com/spf13/cobra"

	"sixin4/cmd/internal/cli"
	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/daemon"
	"sixin4/cmd/internal/metrics"
	"sixin4/cmd/internal/program"
)

const upHelp = `Run a tunnel to a fixed peer, or a hub for several, in the foreground until SIGINT
or SIGTERM. Everything that it changed is undone on exit; who does not want to wait
for that sends another signal. SIGHUP reads --config FILE again, and the tunnel
begins anew if it has changed; without a file SIGHUP is the end too.

When packets can flow there is one line on standard output:

  ready: sixin4-0 192.0.2.1 -> 198.51.100.1 mtu 1480

While no route leads to a peer, which the log says, it waits for one.

When the local address or the interface that packets leave by changes, the tunnel
moves by itself, unless --local names an address: then it waits until that is back.

6to4 (--peer 6to4) reaches other 6to4 sites only: the public relays to native IPv6
are gone (RFC 7526), so the rest takes a gateway of one's own (6to4=GATEWAY4).

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

  # The far end is asked every 10 seconds; a program hears when it comes and goes:
  sixin4 up --remote 198.51.100.1 --address 2001:db8::2/64 --route ::/0 \
            --keepalive 2001:db8::1,10s --on-up '/usr/local/bin/tell up' --on-down '/usr/local/bin/tell down'

  # Somebody on the way drops long packets and filters ICMP:
  sixin4 up --remote 198.51.100.1 --address 2001:db8::2/64 --route ::/0 --mtu probe

  # One of two uplinks:
  sixin4 up --remote 198.51.100.1 --address 2001:db8::2/64 --bind-interface eth1

  # 6rd as a provider gives it: the prefix, bits of IPv4 left out, the border relay:
  sixin4 up --peer 6rd=2001:db8::/32,0,198.51.100.1 --address 2001:db8:c000:201::1/64 --route ::/0

  # A hub: two peers, each with its prefixes:
  sixin4 up --local 192.0.2.1 --address 2001:db8:0:1::1/64 \
            --peer 198.51.100.1=2001:db8:1::/48 \
            --peer 203.0.113.7=2001:db8:2::/48,2001:db8:3::/48 --route 2001:db8::/32`

func newUp() *cobra.Command {
	raw := make(config.Raw)
	var flags cli.Running
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
	f.StringVar(&flags.File, "config", "", "read settings from this `FILE`: TOML, the names of these flags are its keys (sixin4 help config)")
	flags.AddDryRun(cmd)
	return cmd
}

func up(cmd *cobra.Command, raw config.Raw, flags cli.Running) error {
	if err := flags.CheckDryRun(); err != nil {
		return err
	}
	cfg, err := readUp(raw, flags.File)
	if err != nil {
		return err
	}
	env := func(cfg config.Config, out io.Writer) daemon.Env {
		return daemon.Env{
			Out:        out,
			Logger:     program.NewLogger(cmd.ErrOrStderr(), cfg.LogJSON, cfg.Verbose),
			SocketDirs: program.SocketDirs(),
			Build:      metrics.Build{Program: "sixin4", Version: cli.BuildVersion(version)},
		}
	}
	out := cmd.OutOrStdout()
	if flags.DryRun {
		plan, err := daemon.NewPlan(cfg, env(cfg, out))
		return flags.WriteDryRun(out, plan, err)
	}
	d := program.Daemon[config.Config]{Config: cfg, Out: out, Logger: env(cfg, out).Logger}
	d.Run = func(ctx context.Context, cfg config.Config, out io.Writer) error {
		return daemon.Up(ctx, cfg, env(cfg, out))
	}
	if flags.File != "" {
		d.Read = func() (config.Config, error) { return readUp(raw, flags.File) }
	}
	return d.Keep(cmd.Context())
}

// readUp checks what the flags in raw and the file, if there is one, say.
func readUp(raw config.Raw, path string) (config.Config, error) {
	raw = maps.Clone(raw)
	if path != "" {
		file, err := config.ReadFile(path)
		if err != nil {
			return config.Config{}, err
		}
		raw.Merge(file)
	}
	return config.Check(raw)
}
