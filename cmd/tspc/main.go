// Command tspc is the client of the Tunnel Setup Protocol (RFC 5572) under its old
// name: the flags, the files, the lines and the exit statuses of Freenet6's tspc and
// of gogoCLIENT, and the code of `sixin4 connect`. The numbers and formats are what
// those programs were seen to do; RFC 5572 has nothing about them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/daemon"
	"sixin4/cmd/internal/metrics"
	"sixin4/cmd/internal/program"
	"sixin4/tsp/client"
)

func main() {
	ctx, stop := program.UntilSignal(context.Background())
	defer stop()
	program.IgnorePipe() // who reads the transcript may go away; the tunnel stays
	p := process{
		stdout:   &locked{w: os.Stdout},
		stderr:   &locked{w: os.Stderr},
		password: config.NewSecret(os.Getenv(config.PasswordVariable)),
		connect:  daemon.Connect,
	}
	os.Exit(p.run(ctx, os.Args[1:]))
}

// process is what one run of the program has around it.
type process struct {
	stdout, stderr io.Writer     // for several goroutines at a time
	password       config.Secret // of the environment
	connect        func(context.Context, config.Connect, daemon.Env) error
}

// run executes one command line and returns the exit status.
func (p process) run(ctx context.Context, args []string) int {
	opts, err := parseOptions(args)
	var unknown unknownOption
	switch {
	case errors.As(err, &unknown):
		fmt.Fprintf(p.stderr, "tspc: %v\n%s", err, usage)
		return statusFine
	case err != nil:
		program.Complain(p.stderr, "tspc", err)
		return statusOf(err, situation{})
	case opts.help:
		fmt.Fprint(p.stdout, help)
		return statusFine
	}
	t := &transcript{out: p.stdout, verbose: opts.verbose}
	t.say("tspc - Tunnel Server Protocol Client")
	status := p.tunnel(ctx, opts, t)
	t.say("Exiting with return code : %d (0 = no error)", status)
	return status
}

// tunnel runs a tunnel to its end and returns the exit status.
func (p process) tunnel(ctx context.Context, opts options, t *transcript) int {
	t.more("Loading configuration file")
	set, err := load(opts, p.password)
	if err == nil {
		t.set = set
		err = p.runTunnel(ctx, opts, t)
	}
	if err != nil {
		program.Complain(p.stderr, "tspc", err)
	}
	at := situation{anonymous: set.Auth == config.AuthAnonymous, up: t.up, stopped: ctx.Err() != nil}
	if err == nil && at.stopped && !at.up {
		err = t.failure // the programs of old say at last why there was no tunnel
	}
	return statusOf(err, at)
}

func (p process) runTunnel(ctx context.Context, opts options, t *transcript) error {
	log, done, err := p.openLog(opts.verbose, t.set)
	if err != nil {
		return err
	}
	defer done()
	t.log = log
	announce(log, opts, t.set)
	env := daemon.Env{
		Out:         io.Discard, // its ready line; the transcript has another
		Logger:      log,
		SocketDirs:  program.SocketDirs(),
		Build:       metrics.Build{Program: "tspc"},
		Negotiation: daemon.Negotiation{Classic: true, Verbose: min(opts.verbose, maxVerbose), Home: t.set.home, Teller: t},
	}
	if opts.bail {
		env.GiveUp = client.Always
	}
	if opts.verbose >= maxVerbose {
		env.Trace = t.trace
	}
	return p.connect(ctx, t.set.Connect, env)
}

// announce says what is not as somebody who knows the old programs would expect it.
func announce(log *slog.Logger, opts options, set settings) {
	for _, w := range set.Warnings {
		log.Warn(w)
	}
	if opts.accept {
		log.Warn("-y has no meaning here: no mechanism with keys of servers is spoken")
	}
	if set.Router && set.Script == "" {
		log.Warn("this version sends no router advertisements, and leaves the interface of if_prefix alone")
	}
	if !opts.foreground {
		log.Info("this program carries the packets itself: it stays in the foreground, with -n or without")
	}
}
