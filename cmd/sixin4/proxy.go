package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sixin4/cmd/internal/cli"
	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/daemon"
	"sixin4/cmd/internal/exit"
	"sixin4/cmd/internal/program"
	"sixin4/cmd/internal/proxy"
	"sixin4/tsp/client"
)

const proxyHelp = `Get a tunnel from a broker and let programs use it by SOCKS5 and HTTP, without a TUN
device, without root and without any capability: IPv6, TCP and UDP are made in this
process, and packets travel in UDP (v6udpv4), which passes NAT.

Behind -- stands a command that is run with the proxy variables set (all_proxy,
http_proxy, https_proxy, no_proxy, in lower and upper case) as soon as packets can
flow. Signals are passed on to it; when it ends the tunnel ends, with its exit
status. Without a command the proxy runs until SIGINT, SIGTERM or SIGHUP, and says
when packets can flow:

  ready: proxy socks5 127.0.0.1:1080 http 127.0.0.1:1080 v6udpv4 192.0.2.1 -> 192.0.2.2 address 2001:db8:1000::2 mtu 1472

SOCKS5 has CONNECT and UDP ASSOCIATE, HTTP has CONNECT and plain http:// requests;
both are on one port unless --http says otherwise. With a command the port is a free
one unless given. Names are looked up through the tunnel, by the broker's resolvers or
--dns. The tunnel is IPv6 only: what has IPv4 addresses only is refused, or reached
past the tunnel with --direct-ipv4. This host's own and link-local addresses are always
refused.

--publish makes a server of this host reachable at the tunnel's public address.

Exit status: that of the command; without one 0 stopped by a signal, 1 failure, 64
command line, 69 the broker makes no such tunnels, 75 try again, 77 the broker refused
user or password, 78 configuration file.`

const proxyExamples = `  # Everything with one command:
  sixin4 proxy --server broker.example.net -- curl https://ipv6.example.net/

  # A proxy for this host, with an account:
  sixin4 proxy --server 192.0.2.2 --user alice --password-file alice.password
  curl --proxy socks5h://127.0.0.1:1080 https://ipv6.example.net/

  # A web server in a container becomes public:
  sixin4 proxy --server broker.example.net --publish [::]:80=127.0.0.1:8080

  # For others on the network, with a password:
  sixin4 proxy --server broker.example.net --socks5 :1080 --proxy-user lan --proxy-password-file lan.password`

// proxySettings are the flags that are keys of the file too, in the order of --help.
var proxySettings = []cli.Setting{
	cli.Flag(config.Servers, "HOST[:PORT]", "the broker: a name or an IPv4 address; the port is 3653 by default; repeatable, tried in order"),
	cli.Flag(config.Auth, "METHOD", "any, anonymous, plain, digest-md5 or scram-sha-256; any, the default, is the best of both sides, anonymous without a user, never plain", "any", "anonymous", "plain", "digest-md5", "scram-sha-256"),
	cli.Flag(config.User, "NAME", "the account"),
	cli.Flag(config.PasswordFile, "FILE", "its password is the first line of FILE; or else of the variable SIXIN4_PASSWORD"),
	cli.Flag(config.SOCKS5, "ADDRESS:PORT|off", "where the SOCKS5 server listens; default 127.0.0.1:1080"),
	cli.Flag(config.HTTPProxy, "ADDRESS:PORT|off", "where the HTTP proxy listens; default: on the port of --socks5"),
	cli.Flag(config.ProxyUser, "NAME", "what clients must give as user; by default nothing"),
	cli.Flag(config.ProxyPasswordFile, "FILE", "and as password: the first line of FILE"),
	cli.Flag(config.PublishTCP, "[::]:PORT=ADDRESS:PORT", "answer TCP to PORT of the tunnel's address by a server of this host; repeatable", "[::]:80=127.0.0.1:8080"),
	cli.Flag(config.DirectIPv4, "bool", "reach what has IPv4 only directly, past the tunnel"),
	cli.Flag(config.DNS, "ADDRESS", "resolver to ask through the tunnel; default: those of the broker; repeatable"),
	cli.Flag(config.MaxConnections, "N", "connections that clients may have at a time; default 1024"),
	cli.Flag(config.Keepalive, "TIME", "how often to ask whether the far end is there, like 30s, the default; the broker may choose a longer time; 0 for never"),
	cli.Flag(config.RetryDelay, "TIME", "wait before the second attempt; default 30s"),
	cli.Flag(config.RetryMax, "TIME", "what that grows to; default 5m"),
	cli.Flag(config.BrokerList, "FILE", "keeps the brokers of a redirection"),
	cli.Flag(config.LastServer, "FILE", "keeps the broker that worked last"),
	cli.Flag(config.AlwaysSame, "bool", "use only the broker in --last-server, once there is one"),
	cli.Flag(config.MTU, "auto|N", "largest IPv6 packet in bytes; auto, the default, follows the way to the broker, less 28; N, 1280 to 65515, is fixed", "auto", "1280", "1472"),
	cli.Flag(config.Socket, "PATH", "control socket that sixin4 status asks; default: proxy-0.sock or the next free number in /run/sixin4 or $XDG_RUNTIME_DIR/sixin4, none where neither can be written"),
	cli.Flag(config.LogFormat, "text|json", "how the log is written; default text", "text", "json"),
}

func newProxy() *cobra.Command {
	raw := make(config.Raw)
	var file string
	cmd := &cobra.Command{
		Use:     "proxy (--server HOST[:PORT] | --config FILE) [flags] [-- COMMAND [ARGUMENT...]]",
		Short:   "Use a tunnel by SOCKS5 and HTTP, without root and without an interface",
		Long:    proxyHelp,
		Example: proxyExamples,
		Args:    commandOnly,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runProxy(cmd, raw, file, args)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&file, "config", "", "read settings from this TOML `FILE` (sixin4 help proxy-config)")
	cli.AddSettings(cmd, raw, proxySettings)
	return cmd
}

// commandOnly refuses arguments that do not stand behind --, where a misspelt flag
// would become a command.
func commandOnly(cmd *cobra.Command, args []string) error {
	if dash := cmd.ArgsLenAtDash(); len(args) > 0 && dash != 0 {
		return cli.Usage("proxy: unexpected %q: a command stands behind --, and every other value belongs to a flag", args[0])
	}
	return nil
}

func runProxy(cmd *cobra.Command, raw config.Raw, file string, command []string) (err error) {
	cfg, err := readProxy(raw, file)
	if err != nil {
		return err
	}
	ctx, env := cmd.Context(), daemon.Env{
		Out:         cmd.OutOrStdout(),
		Logger:      program.NewLogger(cmd.ErrOrStderr(), cfg.LogJSON, cfg.Verbose),
		SocketDirs:  program.SocketDirs(),
		Negotiation: daemon.Negotiation{GiveUp: client.Permanent},
	}
	if len(command) > 0 {
		if !cfg.ListenGiven {
			cfg.SOCKS5, cfg.HTTP = "127.0.0.1:0", "127.0.0.1:0" // several commands at a time
		}
		env.Out = io.Discard // standard output is the command's
		own := newOwner(ctx)
		ctx, env.Begun = own.ctx, own.handOver
		defer func() { err = own.unbegun(err) }()
	}
	for _, warning := range cfg.Warnings {
		env.Logger.Warn(warning)
	}
	program.IgnorePipe()
	status, err := daemon.Proxy(ctx, cfg, env, command)
	switch {
	case err != nil && status != 0:
		return exit.With(status, err)
	case err != nil:
		return err
	case status != 0:
		return exit.With(status, errSaid) // the command has told the user itself
	}
	return nil
}

// owner has the signals until there is a command that they are for: it may live on after
// them, as an interactive one does after SIGINT.
type owner struct {
	ctx   context.Context // ends as the parent's, but only before the command begins
	stop  func() bool     // leaves the parent
	came  chan os.Signal
	begun bool
}

func newOwner(parent context.Context) *owner {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	o := &owner{ctx: ctx, stop: context.AfterFunc(parent, cancel), came: make(chan os.Signal, 1)}
	signal.Notify(o.came, syscall.SIGINT, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(o.came, syscall.SIGHUP)
	}
	return o
}

// handOver leaves the signals to the command.
func (o *owner) handOver() {
	signal.Reset(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	o.begun = o.stop() // else a signal was first, and the context has ended
}

// signalTime is how much later than others we may hear of a signal.
const signalTime = time.Second

// unbegun is the status of a command that a signal came before, as if it had ended that.
func (o *owner) unbegun(err error) error {
	if err != nil || o.begun {
		return err
	}
	status := exit.Failure
	select { // the others that hear of a signal may have heard first
	case s := <-o.came:
		status = proxy.Signalled + int(s.(syscall.Signal))
	case <-time.After(signalTime):
	}
	return exit.With(status, errSaid)
}

// readProxy checks what the flags in raw and the file, if there is one, say.
func readProxy(raw config.Raw, path string) (config.ProxySettings, error) {
	if path != "" {
		file, err := config.ReadProxy(path)
		if err != nil {
			return config.ProxySettings{}, err
		}
		raw.Merge(file)
	}
	return checkOn(config.CheckProxy(raw, config.NewSecret(os.Getenv("SIXIN4_PASSWORD"))))
}

// checkOn refuses a proxy of which everything is off.
func checkOn(cfg config.ProxySettings, err error) (config.ProxySettings, error) {
	if err == nil && cfg.SOCKS5 == "" && cfg.HTTP == "" && len(cfg.Publish) == 0 {
		err = exit.With(exit.Usage, errors.New("nothing to do: --socks5 and --http are off, and there is no --publish"))
	}
	return cfg, err
}
