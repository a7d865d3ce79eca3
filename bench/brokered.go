package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"sixin4/bench/child"
	"sixin4/tun/nstest"
)

// proxyAddr is where the proxy of a column listens.
var proxyAddr = netip.MustParseAddrPort("127.0.0.1:1080")

// clientStarter starts a client of the broker and returns its line for when packets can
// flow.
type clientStarter func(ctx context.Context, self string, e end) (*child.Process, string, error)

// brokered has the broker at the second host, and what makes a tunnel of it at the first.
// Packets go to an address of the second host that is not the tunnel's, streams through
// the proxy via, if there is one.
func brokered(start clientStarter, via netip.AddrPort) builder {
	return func(ctx context.Context, p *pair, c *column, t *nstest.Topology, dir string) error {
		if _, err := os.Stat(p.broker); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("no program %s (make build makes it)", p.broker)
		}
		c.addr, c.via = worldAddr, via
		if err := t.B.AddAddr("lo", worldAddr.String()+"/128"); err != nil {
			return err
		}
		// So that what is forged gets answers.
		if err := t.B.AddRoute(crowdNet.String(), t.AddrA.String()); err != nil {
			return err
		}
		tspd, _, err := startReady(ctx, t.B, []string{p.broker, "serve",
			"--prefix", crowdPool.String(), "--listen", t.AddrB.String(), "--anonymous",
			"--state", filepath.Join(dir, "tspd.db"), "--key-file", filepath.Join(dir, "tspd.key"),
			"--socket", filepath.Join(dir, "tspd.sock")})
		if err != nil {
			return err
		}
		c.procs = append(c.procs, tspd)
		a, _ := ends(t, dir)
		client, line, err := start(ctx, p.self, a)
		if err != nil {
			return err
		}
		c.procs = append(c.procs, client)
		if via.IsValid() {
			return nil
		}
		c.outerFrom, c.outerTo = t.AddrA, t.AddrB
		c.inner, err = addressIn(line)
		return err
	}
}

// addressIn is the IPv6 address in a client's line.
func addressIn(ready string) (netip.Addr, error) {
	_, rest, _ := strings.Cut(ready, " address ")
	word, _, _ := strings.Cut(rest, " ")
	a, err := netip.ParseAddr(word)
	if err != nil {
		return a, fmt.Errorf("the client said %q: %w", ready, err)
	}
	return a, nil
}

// startUDP starts a client whose tunnel goes in UDP.
func startUDP(ctx context.Context, self string, e end) (*child.Process, string, error) {
	return startReady(ctx, e.ns, []string{self, "connect", "--server", e.remote.String(),
		"--mode", "v6udpv4", "--name", tunnelName, "--socket", e.socket})
}

// startProxy starts a client without a tunnel interface.
func startProxy(ctx context.Context, self string, e end) (*child.Process, string, error) {
	return startReady(ctx, e.ns, []string{self, "proxy", "--server", e.remote.String(),
		"--socks5", proxyAddr.String()})
}
