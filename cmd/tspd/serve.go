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

const serveHelp = `Run the broker in the foreground until SIGINT or SIGTERM. SIGHUP reads --config FILE
again, and the broker begins anew if it has changed; without a file SIGHUP is the end
too. Clients are served over TCP and UDP on port 3653, and their tunnels are carried
by protocol 41 or in UDP.
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

  # Show what would be changed, change nothing; this needs no privilege:
  tspd serve --prefix 2001:db8:1000::/36 --dry-run

  # With web pages for everybody, where the operator approves who signs up:
  tspd serve --prefix 2001:db8:1000::/36 --web 192.0.2.2:443 --web-cert cert.pem --web-key key.pem --web-url https://broker.example.net

  # From a file (tspd help config shows every key); flags win over it:
  tspd serve --config /etc/sixin4/tspd.toml --verbose`

// serveSettings are the flags that are keys of the file too, in the order of --help.
var serveSettings = append([]cli.Setting{
	prefixSetting,
	cli.Flag(config.Listen, "A.B.C.D[:PORT]", "where clients are expected, TCP and UDP, and where their tunnels end (of several: in UDP at the one that is asked at, else at the first); default: the address of the IPv4 default route, port 3653; repeatable"),
	cli.Flag(config.Anonymous, "bool", "let in who has no account: an address, never a prefix"),
	cli.Flag(config.ConfigureHost, "bool", "set what this host needs to forward packets, and set it back at the end"),
	stateSetting,
	keySetting,
	cli.Flag(config.Node, "NAME", "what this broker is called in a database that several share; default: the address that tunnels end at"),
	cli.Flag(config.Name, "INTERFACE", "name of the interface; default tspd0"),
	cli.Flag(config.DNS, "ADDRESS", "IPv6 address of a resolver that clients are told; repeatable, at most 8"),
	cli.Flag(config.Redirect, "HOST[,HOST...]", "send clients to these brokers, on port 3653, instead of serving them; repeatable"),
	cli.Flag(config.RedirectAbove, "N", "send them on only while there are N tunnels here; who has one here is served; default 0, always"),
	cli.Flag(config.TunnelRate, "RATE", "how much a tunnel may carry each way, in bits a second like 10mbit; default 0, no limit"),
	cli.Flag(config.BlockPorts, "PORT[/tcp|/udp][,...]", "destination ports that clients may not send to; default 25/tcp; none for none"),
	cli.Flag(config.Lifetime, "TIME", "how long a client may use what it got before it must ask again; default 7d"),
	cli.Flag(config.Keepalive, "TIME", "shortest time between echo requests that clients are told; default 30s"),
	cli.Flag(config.Silence, "TIME", "take down a tunnel that was not heard for so long; its owner keeps address and prefix; default 15m"),
	cli.Flag(config.AnonymousLease, "TIME", "how long the address of nobody is kept after its tunnel was heard last; default 24h"),
	quarantineSetting,
	iterationsSetting,
	realmSetting,
	cli.Flag(config.Web, "ADDRESS[:PORT]", "serve web pages there; others than this host need --web-cert or --web-proxy; default: none; port 8080"),
	cli.Flag(config.WebCert, "FILE", "certificate of the web pages with its chain, PEM; read again when it changes"),
	cli.Flag(config.WebKey, "FILE", "its key, PEM"),
	cli.Flag(config.WebURL, "URL", "where people find the web pages, for links in mails; default: the address of --web"),
	cli.Flag(config.WebProxy, "ADDRESS", "address of a reverse proxy, whose X-Forwarded-For is believed; repeatable"),
	cli.Flag(config.SignUp, "closed|approve|mail", "who may sign up: nobody, who the operator approves, who reads the e-mail; default: mail with --smtp-server, otherwise approve", "closed", "approve", "mail"),
	cli.Flag(config.SignUpPrefix, "N", "length of the prefix of who signs up, 48 to 64; default 64; 0 for none", "48", "56", "64"),
	cli.Flag(config.SMTPServer, "HOST[:PORT]", "send mails by this server"),
	cli.Flag(config.SMTPFrom, "E-MAIL", "the sender of mails"),
	cli.Flag(config.SMTPUser, "NAME", "log in at the mail server"),
	cli.Flag(config.SMTPPassword, "FILE", "with the password in the first line of FILE"),
	cli.Flag(config.SMTPTLS, "starttls|tls|none", "how the mail server is spoken to; default starttls", "starttls", "tls", "none"),
}, cli.Common...)

func newServe() *cobra.Command {
	raw := make(config.Raw)
	var flags cli.Running
	cmd := &cobra.Command{
		Use:     "serve --prefix PREFIX [flags]",
		Short:   "Run the broker",
		Long:    serveHelp,
		Example: serveExamples,
		Args:    cli.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return serve(cmd, raw, flags) },
	}
	cmd.Flags().SortFlags = false
	addConfig(cmd, &flags.File)
	cli.AddSettings(cmd, raw, serveSettings)
	flags.AddDryRun(cmd)
	return cmd
}

func serve(cmd *cobra.Command, raw config.Raw, flags cli.Running) error {
	if err := flags.CheckDryRun(); err != nil {
		return err
	}
	cfg, err := readServe(raw, flags.File)
	if err != nil {
		return err
	}
	env := func(cfg config.Broker, out io.Writer) daemon.Env {
		return daemon.Env{
			Out:        out,
			Logger:     program.NewLogger(cmd.ErrOrStderr(), cfg.LogJSON, cfg.Verbose),
			SocketDirs: program.SocketDirs(),
			Build:      metrics.Build{Program: "tspd", Version: cli.BuildVersion(version)},
		}
	}
	out := cmd.OutOrStdout()
	if flags.DryRun {
		r, err := daemon.RehearseServe(cfg, env(cfg, out))
		return flags.WriteDryRun(out, r, err)
	}
	d := program.Daemon[config.Broker]{Config: cfg, Out: out, Logger: env(cfg, out).Logger}
	d.Run = func(ctx context.Context, cfg config.Broker, out io.Writer) error {
		return daemon.Serve(ctx, cfg, env(cfg, out))
	}
	if flags.File != "" {
		d.Read = func() (config.Broker, error) { return readServe(raw, flags.File) }
	}
	return d.Keep(cmd.Context())
}

// readServe checks what the flags in raw and the file, if there is one, say.
func readServe(raw config.Raw, path string) (config.Broker, error) {
	raw = maps.Clone(raw)
	if err := merge(raw, path); err != nil {
		return config.Broker{}, err
	}
	return config.CheckBroker(raw)
}
