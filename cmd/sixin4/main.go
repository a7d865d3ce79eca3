// Command sixin4 makes IPv6-in-IPv4 tunnels (protocol 41, RFC 4213) from user
// space: `up` runs one, `status` shows those that run, `bench` and `demo` make
// their own network namespaces and show what it is worth.
package main

import (
	"context"
	"errors"
	"io"
	"os"

	"sixin4/bench"
	"sixin4/cmd/internal/exit"
	"sixin4/cmd/internal/program"
)

func main() {
	if code, handled := bench.Hidden(os.Args[1:]); handled {
		os.Exit(code)
	}
	ctx, stop := program.UntilSignal(context.Background())
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
		program.Complain(stderr, "sixin4", err)
	}
	return exit.Code(err)
}
