package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// What the tunnels of the demo are called, and what a broker has to give.
const (
	demoTunnel   = "sixin4-0"
	demoHub      = "tspd0"
	demoNetwork  = "2001:db8:1000::/36"
	demoPassword = "correct horse battery staple"
)

// up starts the two ends of a tunnel without a broker.
func (d *demo) up(ctx context.Context) error {
	d.step("1. A tunnel by hand: each end is told the other's IPv4 address, and its own IPv6 address.")
	for _, end := range []struct {
		h      *demoHost
		remote netip.Addr
		inner  netip.Prefix
	}{
		{d.home, d.topo.AddrB, innerA},
		{d.broker, d.topo.AddrA, innerB},
	} {
		line := fmt.Sprintf("sixin4 up --remote %v --address %v --socket tunnel.sock", end.remote, end.inner)
		if _, err := d.start(ctx, end.h, line); err != nil {
			return err
		}
		end.h.addr = end.inner.Addr()
	}
	return nil
}

func (d *demo) between(ctx context.Context) error { return d.talk(ctx, d.home, d.broker) }

func (d *demo) down(context.Context) error {
	for _, h := range []*demoHost{d.home, d.broker} {
		if err := d.stop(h, demoTunnel); err != nil {
			return err
		}
	}
	d.say("(both are stopped)")
	return nil
}

// serve makes an account and starts the broker.
func (d *demo) serve(ctx context.Context) error {
	d.step("2. A broker: it has an IPv6 network, and gives tunnels to its users. alice is one;")
	d.say("# her password is in the file alice, on both hosts.")
	for _, h := range []*demoHost{d.home, d.broker} {
		if err := os.WriteFile(filepath.Join(h.dir, "alice"), []byte(demoPassword+"\n"), 0o600); err != nil {
			return err
		}
	}
	err := d.command(ctx, d.broker, "tspd user add alice --password-file alice --prefix-length 48 --state tspd.db")
	if err != nil {
		return err
	}
	_, err = d.start(ctx, d.broker, fmt.Sprintf("tspd serve --prefix %s --listen %v --state tspd.db --socket tspd.sock",
		demoNetwork, d.topo.AddrB))
	return err
}

// connect gets the tunnel, and gives a piece of the prefix to the LAN.
func (d *demo) connect(ctx context.Context) error {
	d.step("At home alice asks for a tunnel and a prefix. She needs her name, her password and the broker's address.")
	ready, err := d.start(ctx, d.home, fmt.Sprintf(
		"sixin4 connect --server %v --user alice --password-file alice --router --socket tunnel.sock", d.topo.AddrB))
	if err != nil {
		return err
	}
	if d.home.addr, err = netip.ParseAddr(wordAfter(ready, "address")); err != nil {
		return fmt.Errorf("line %q: %w", ready, err)
	}
	prefix, err := netip.ParsePrefix(wordAfter(ready, "prefix"))
	if err != nil {
		return fmt.Errorf("line %q: %w", ready, err)
	}
	d.laptop, err = d.attach("laptop", d.home, netip.PrefixFrom(prefix.Addr(), 64))
	return err
}

// wordAfter returns the word that follows another one in a line, or "".
func wordAfter(line, word string) string {
	_, rest, _ := strings.Cut(line, " "+word+" ")
	value, _, _ := strings.Cut(rest, " ")
	return value
}

// world begins when the broker has seen that home is there, which takes a moment:
// before it, nothing comes back.
func (d *demo) world(ctx context.Context) error {
	d.step("home, which had IPv4 only, is in the IPv6 world now: it is %v.", d.home.addr)
	if err := d.answered(ctx, d.home, d.server); err != nil {
		return err
	}
	return d.talk(ctx, d.home, d.server)
}

func (d *demo) delegated(ctx context.Context) error {
	d.step("The prefix is for what is behind home. laptop has an address of it, %v, and the world reaches it.", d.laptop.addr)
	return d.talk(ctx, d.server, d.laptop)
}

// counters shows both sides' view, and checks home's.
func (d *demo) counters(ctx context.Context) error {
	d.step("What the tunnel has carried, and what the broker knows of it.")
	if err := d.command(ctx, d.home, "sixin4 status --socket tunnel.sock"); err != nil {
		return err
	}
	if err := d.command(ctx, d.broker, "tspd tunnel list --state tspd.db"); err != nil {
		return err
	}
	t, err := readStatus(ctx, statusCommand(d.self, end{socket: filepath.Join(d.home.dir, "tunnel.sock")}))
	if err != nil {
		return err
	}
	if carried := uint64(2 * d.bytes); t.Tx.Bytes < carried || t.Rx.Bytes < carried {
		return fmt.Errorf("status: more was carried than it says: %v", t)
	}
	return nil
}

func (d *demo) end(context.Context) error {
	d.step("SIGTERM ends both; their interfaces, addresses and routes are gone.")
	if err := d.stop(d.home, demoTunnel); err != nil {
		return err
	}
	if err := d.stop(d.broker, demoHub); err != nil {
		return err
	}
	d.say("done")
	return nil
}
