// Command tspd is a broker of IPv6 tunnels for clients of the Tunnel Setup Protocol
// (RFC 5572): `serve` runs it, the other commands show and change its users, tunnels
// and pool in the same database, also while it runs.
package main

import (
	"context"
	"io"
	"os"

	"sixin4/cmd/internal/exit"
	"sixin4/cmd/internal/program"
)

func main() {
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
	if err != nil {
		program.Complain(stderr, "tspd", err)
	}
	return exit.Code(err)
}
