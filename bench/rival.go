package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"sixin4/bench/child"
	"sixin4/bench/wireguard"
)

// wireguardPort is the UDP port of both ends.
const wireguardPort = 51820

// startWireGuard also does what wg-quick(8) leaves to ip(8).
func startWireGuard(ctx context.Context, self string, e end) (*child.Process, error) {
	p, _, err := startReady(ctx, e.ns, []string{self, command, hiddenWireGuard,
		netip.AddrPortFrom(e.remote, wireguardPort).String(), strconv.FormatBool(e.inner == innerA)})
	if err != nil {
		return nil, err
	}
	err = e.ns.AddAddr(tunnelName, e.inner.String())
	if err == nil {
		err = e.ns.SetUp(tunnelName)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("configure wireguard-go: %w", err), p.Stop())
	}
	return p, nil
}

// wireguardMain is the child process of one end of WireGuard. It runs until a signal
// comes.
func wireguardMain(args []string) int { return exitStatus(runWireGuard(args)) }

func runWireGuard(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("wireguard: %d arguments: need REMOTE FIRST", len(args))
	}
	remote, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return fmt.Errorf("wireguard: remote: %w", err)
	}
	first, err := strconv.ParseBool(args[1])
	if err != nil {
		return fmt.Errorf("wireguard: first: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return wireguard.Run(ctx, wireguard.Config{
		Name: tunnelName, Port: wireguardPort, Remote: remote, Seed: "bench", First: first,
		Ready: func() { fmt.Println("ready") },
	})
}
