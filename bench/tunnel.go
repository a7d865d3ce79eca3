package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"sixin4/bench/child"
	"sixin4/bench/naive"
	"sixin4/bench/traffic"
	"sixin4/tun/nstest"
)

const (
	tunnelName = "six0"
	tunnelMTU  = 1480 // of a link with 1500
	// startTime bounds the start of one tunnel program.
	startTime = 10 * time.Second
	// firstPings wait a second each for a tunnel's answer: WireGuard begins again, when a
	// packet of its handshake was lost or both ends began at once, only after 5 s and a third.
	firstPings = 30
)

// end is one end of a tunnel between two namespaces.
type end struct {
	ns            *nstest.NS
	local, remote netip.Addr   // outer
	inner         netip.Prefix // address of the tunnel interface
	socket        string       // path of the control socket
}

var (
	innerA = netip.MustParsePrefix("2001:db8:1::1/64")
	innerB = netip.MustParsePrefix("2001:db8:1::2/64")
)

// ends returns both ends of a tunnel in t. dir is for control sockets.
func ends(t *nstest.Topology, dir string) (a, b end) {
	a = end{ns: t.A, local: t.AddrA, remote: t.AddrB, inner: innerA, socket: dir + "/a.sock"}
	b = end{ns: t.B, local: t.AddrB, remote: t.AddrA, inner: innerB, socket: dir + "/b.sock"}
	return a, b
}

// starter starts the program of one end and returns once that is ready.
type starter func(ctx context.Context, self string, e end) (*child.Process, error)

// builder makes a column of a topology whose links are ready. dir is for files.
type builder func(ctx context.Context, p *pair, c *column, t *nstest.Topology, dir string) error

// builders are those of all columns but plain IPv4, which needs nothing.
var builders = [columnCount]builder{
	naiveColumn:     bothEnds(startNaive),
	engineColumn:    bothEnds(startEngine),
	packetColumn:    bothEnds(startWire("packet")),
	rawColumn:       bothEnds(startWire("raw")),
	udpColumn:       brokered(startUDP, netip.AddrPort{}),
	proxyColumn:     brokered(startProxy, proxyAddr),
	wireguardColumn: bothEnds(startWireGuard),
}

// bothEnds has two of the same program, each with an address of one network inside.
func bothEnds(start starter) builder {
	return func(ctx context.Context, p *pair, c *column, t *nstest.Topology, dir string) error {
		a, b := ends(t, dir)
		c.addr = innerB.Addr()
		for _, e := range []end{a, b} {
			proc, err := start(ctx, p.self, e)
			if err != nil {
				return err
			}
			c.procs = append(c.procs, proc)
		}
		return p.carries(ctx, c)
	}
}

// carries returns once the far end has answered through the tunnel: two ends that are
// ready may still have to agree on keys, and what is measured must not wait for that.
func (p *pair) carries(ctx context.Context, c *column) error {
	_, err := p.runner().Ping(ctx, c.from, c.addr, traffic.Ping{Count: firstPings})
	return errors.Join(err, c.running())
}

// engineCommand is the product as its users start it.
func engineCommand(self string, e end) []string {
	return []string{self, "up",
		"--remote", e.remote.String(), "--local", e.local.String(),
		"--address", e.inner.String(), "--name", tunnelName, "--socket", e.socket}
}

func startEngine(ctx context.Context, self string, e end) (*child.Process, error) {
	p, _, err := startReady(ctx, e.ns, engineCommand(self, e))
	return p, err
}

// startWire returns what starts the product with one way to send, where the default is
// the fastest that no packet filter would have seen.
func startWire(wire string) starter {
	return func(ctx context.Context, self string, e end) (*child.Process, error) {
		p, _, err := startReady(ctx, e.ns, append(engineCommand(self, e), "--wire", wire))
		return p, err
	}
}

func naiveCommand(self string, e end) []string {
	return []string{self, command, hiddenNaive, e.local.String(), e.remote.String()}
}

// startNaive also does what a C program leaves to ip(8).
func startNaive(ctx context.Context, self string, e end) (*child.Process, error) {
	p, _, err := startReady(ctx, e.ns, naiveCommand(self, e))
	if err != nil {
		return nil, err
	}
	err = e.ns.SetMTU(tunnelName, tunnelMTU)
	if err == nil {
		err = e.ns.AddAddr(tunnelName, e.inner.String())
	}
	if err == nil {
		err = e.ns.SetUp(tunnelName)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("configure naive tunnel: %w", err), p.Stop())
	}
	return p, nil
}

// startReady starts a command and waits for the line that begins with "ready".
func startReady(ctx context.Context, in child.Starter, args []string) (*child.Process, string, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	p, err := child.Start(in, args...)
	if err != nil {
		return nil, "", err
	}
	for {
		line, err := p.Line(ctx)
		if err != nil {
			return nil, "", errors.Join(err, p.Stop())
		}
		if strings.HasPrefix(line, "ready") {
			return p, line, nil
		}
	}
}

// naiveMain is the child process of the naive loop. It runs until its standard
// input ends or a signal comes.
func naiveMain(args []string) int { return exitStatus(runNaive(args)) }

// exitStatus is how a child process ends, which says on standard error why it failed.
func exitStatus(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func runNaive(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("naive: %d arguments: need LOCAL REMOTE", len(args))
	}
	local, err := netip.ParseAddr(args[0])
	if err != nil {
		return fmt.Errorf("naive: local: %w", err)
	}
	remote, err := netip.ParseAddr(args[1])
	if err != nil {
		return fmt.Errorf("naive: remote: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return naive.Run(ctx, naive.Config{
		Name: tunnelName, Local: local, Remote: remote,
		Ready: func() { fmt.Println("ready") },
	})
}
