// Command sixin4 makes IPv6-in-IPv4 tunnels (protocol 41, RFC 4213) from user
// space: `up` runs one, `status` shows those that run, `bench` and `demo` make
// their own network namespaces and show what it is worth.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"sixin4/bench"
	"sixin4/cmd/internal/exit"
)

func main() {
	if code, handled := bench.Hidden(os.Args[1:]); handled {
		os.Exit(code)
	}
	ctx, stop := untilSignal(context.Background())
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command line and returns the exit status. An error is a line
// on stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && !errors.Is(err, errSaid) {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(stderr, "sixin4: %s\n", strings.TrimSuffix(line, "\n"))
		}
	}
	return exit.Code(err)
}

// untilSignal returns a context that ends with the first SIGINT, SIGTERM or
// SIGHUP (the terminal is gone). Everything is undone then; who does not want to
// wait for it sends a second one.
func untilSignal(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(exit.Failure)
	}()
	return ctx, cancel
}
