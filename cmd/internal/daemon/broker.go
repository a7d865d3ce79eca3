package daemon

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/control"
	"sixin4/cmd/internal/exit"
	"sixin4/encap"
	"sixin4/tsp/broker"
	"sixin4/tsp/broker/pool"
	"sixin4/tsp/broker/store"
	"sixin4/tsp/broker/store/sqlite"
)

// A broker goes through these steps:
//
//	findListen     where clients are expected
//	openStore      users and leases
//	openSockets    TCP and UDP: who comes now waits
//	openDevice     the device, its interface made ready
//	forward        this host must forward packets
//	resume         become a hub with the tunnels that were up when the one before ended
//	openControl    the status socket
//	serve          sessions, the engine, proofs, expiry

// Serve runs a broker (RFC 5572) until ctx ends, and returns nil then. Everything that
// it changed on this host is undone when it returns. Errors carry the exit status
// (package exit).
func Serve(ctx context.Context, cfg config.Broker, env Env) (err error) {
	if err := checkPrivileges(); err != nil {
		return err
	}
	b := &brokerage{tunnel: newTunnel(brokerSettings(cfg), env), cfg: cfg}
	defer b.close(&err)
	b.leases = newLeases(b)
	for _, step := range []func(context.Context) error{
		b.findListen, b.openStore, b.openSockets, b.openDevice, b.forward, b.resume, b.openServer, b.openControl,
	} {
		if err := step(ctx); err != nil || ctx.Err() != nil {
			return err
		}
	}
	return serve(ctx, b.tasks(), b.printReady)
}

// brokerage is a broker with the hub that carries its tunnels.
type brokerage struct {
	*tunnel
	cfg    config.Broker
	listen []netip.AddrPort
	store  store.Store
	leases *leases
	server *broker.Server
	dns    []netip.Addr // that clients are told, at least one

	streams   []net.Listener
	datagrams []net.PacketConn
}

func brokerSettings(cfg config.Broker) settings {
	return settings{Common: cfg.Common, invalid: cfg.Invalid}
}

// anywhere is an address whose route is the default one on every host that has one.
var anywhere = netip.AddrFrom4([4]byte{1, 0, 0, 1})

// findListen takes the address of the default route unless others were given.
func (b *brokerage) findListen(context.Context) error {
	if b.listen = b.cfg.Listen; len(b.listen) > 0 {
		return nil
	}
	route, err := b.env.host().RouteTo(anywhere)
	if err != nil || !route.Source.Is4() {
		return exit.With(exit.TryAgain, errors.New("no address to listen at: this host has no IPv4 default route (give --listen A.B.C.D)"))
	}
	b.listen = []netip.AddrPort{netip.AddrPortFrom(route.Source, config.DefaultPort)}
	return nil
}

// local is the address that tunnels end at.
func (b *brokerage) local() netip.Addr { return b.listen[0].Addr() }

// node is what this broker is called in the store.
func (b *brokerage) node() string { return b.local().String() }

func (b *brokerage) openStore(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(b.cfg.State), 0o700); err != nil {
		return hostError(err)
	}
	key, err := store.OpenKey(b.cfg.KeyFile)
	if err != nil {
		return hostError(err)
	}
	quarantine := b.cfg.Quarantine
	if quarantine == 0 {
		quarantine = -1 // that is how the store says none
	}
	b.store, err = sqlite.Open(ctx, sqlite.Config{Path: b.cfg.State, Config: store.Config{
		Pool: b.cfg.Prefix, Key: key, Quarantine: quarantine, Logger: b.env.Logger,
	}})
	if err != nil {
		return hostError(err)
	}
	b.undo.Push(b.store.Close)
	return nil
}

func (b *brokerage) openDevice(context.Context) (err error) {
	if b.name, b.socket, err = chooseName(b.set, b.env); err != nil {
		return err
	}
	return b.tunnel.openDevice(b.shape().mtu)
}

// shape is a hub with the tunnels that there are. One route covers the whole pool:
// what is nobody's is answered by the engine, which knows all tunnels.
func (b *brokerage) shape() shape {
	s := shape{
		hub: true, local: b.local(), wireMTU: usualWireMTU,
		addresses: []netip.Prefix{linkLocal(b.local()), single(b.ownAddress())},
		routes:    []netip.Prefix{b.cfg.Prefix},
		peers:     b.leases.peers(),
	}
	if route, err := b.env.host().RouteTo(anywhere); err == nil && !route.Local {
		s.wireMTU, s.linkMTU = encap.WireMTU(route.MTU), route.LinkMTU
	}
	s.mtu = b.autoMTU(s.wireMTU, 0)
	return s
}

// ownAddress is the broker's end of all tunnels.
func (b *brokerage) ownAddress() netip.Addr {
	p, err := pool.New(b.cfg.Prefix, nil)
	if err != nil {
		return netip.IPv6Unspecified() // the configuration was checked, so it does not come to this
	}
	return p.Server()
}

// resume takes up the tunnels that were up when the process before this one ended.
// Each must show anew that it is there, which it does within a round trip, or later,
// when the network was away too.
func (b *brokerage) resume(ctx context.Context) error {
	live, err := b.store.Live(ctx, b.node())
	if err != nil {
		return err
	}
	for _, l := range live {
		b.leases.resume(l)
	}
	if err := b.become(b.shape()); err != nil {
		return err
	}
	if len(live) > 0 {
		b.env.Logger.Info("tunnels of the run before go on", "tunnels", len(live))
	}
	return nil
}

func (b *brokerage) openServer(context.Context) (err error) {
	b.dns = b.resolvers(b.ownAddress())
	c := broker.Config{
		Provisioner: b.leases,
		Accounts:    accounts{b.store},
		Anonymous:   b.cfg.Anonymous,
		Realm:       b.cfg.Realm,
		Redirect:    broker.Redirect{Brokers: b.cfg.Redirect},
		Logger:      b.env.Logger,
		// A client that says proxy and names the address that it has itself is no proxy.
		Proxy: func(_ *broker.User, from netip.AddrPort, end netip.Addr) bool { return end == from.Addr() },
	}
	c.Logins.Iterations = b.cfg.Iterations
	if c.Secret, err = decoySecret(b.cfg.KeyFile); err != nil {
		return hostError(err)
	}
	b.server, err = broker.New(c)
	return err
}

// decoySecret is what the broker makes the salts of users that do not exist from. It
// is the same after a restart, as those of users are, and so comes from the key file.
func decoySecret(keyFile string) ([]byte, error) {
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	return hkdf.Key(sha256.New, key, nil, "sixin4 tspd decoys", sha256.Size)
}

func (b *brokerage) openSockets(ctx context.Context) error {
	for _, at := range b.listen {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp4", at.String())
		if err != nil {
			return b.listenError(err)
		}
		b.undo.Push(ignoreClosed(l.Close))
		b.streams = append(b.streams, l)
		p, err := lc.ListenPacket(ctx, "udp4", at.String())
		if err != nil {
			return b.listenError(err)
		}
		b.undo.Push(ignoreClosed(p.Close))
		b.datagrams = append(b.datagrams, p)
	}
	return nil
}

// ignoreClosed is for what the server closes as well.
func ignoreClosed(close func() error) func() error {
	return func() error {
		if err := close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

func (b *brokerage) openControl(context.Context) error {
	return b.tunnel.openControl(b.status, b.drain)
}

// drain refuses new tunnels, or takes them again. Those that are up go on.
func (b *brokerage) drain(on bool) {
	b.server.SetDraining(on)
	what := "new tunnels are given again"
	if on {
		what = "no new tunnels are given"
	}
	b.env.Logger.Info(what, "name", b.name)
}

func (b *brokerage) status() control.Tunnel {
	s := b.tunnel.status("broker")
	s.Prefixes = []string{b.cfg.Prefix.String()}
	if b.server.Draining() {
		s.Reason = "draining: no new tunnels"
	}
	return s
}

func (b *brokerage) tasks() []Task {
	tasks := append(b.tunnel.tasks(),
		newTask("tunnels", b.leases.run),
		newTask("records", b.leases.keep),
		newTask("proofs", b.leases.prove),
	)
	for i := range b.listen {
		at := b.listen[i].String()
		tasks = append(tasks,
			newTask("TCP on "+at, func(ctx context.Context, ready func()) error {
				ready()
				return b.server.ServeTCP(ctx, b.streams[i])
			}),
			newTask("UDP on "+at, func(ctx context.Context, ready func()) error {
				ready()
				return b.server.ServeUDP(ctx, b.datagrams[i])
			}))
	}
	return tasks
}

func (b *brokerage) printReady() error {
	b.env.Logger.Info("broker is up", "name", b.name, "listen", b.listen[0], "prefix", b.cfg.Prefix)
	_, err := fmt.Fprintf(b.env.Out, "ready: tspd %s prefix %s\n", b.listen[0], b.cfg.Prefix)
	return err
}

// forwarding is the switch without which this host is no router (net.ipv6.conf.all).
const forwarding = "/proc/sys/net/ipv6/conf/all/forwarding"

// forward looks whether this host forwards IPv6, and turns that on if it may.
func (b *brokerage) forward(context.Context) error {
	now, err := os.ReadFile(forwarding)
	if err != nil {
		return hostError(err)
	}
	if string(now) != "0\n" {
		return nil
	}
	if !b.cfg.ConfigureHost {
		b.env.Logger.Warn("this host does not forward IPv6, so that clients reach nothing but it " +
			"(sysctl -w net.ipv6.conf.all.forwarding=1, or --configure-host)")
		return nil
	}
	if err := os.WriteFile(forwarding, []byte("1\n"), 0); err != nil {
		return hostError(fmt.Errorf("--configure-host: %w", err))
	}
	b.undo.Push(func() error { return os.WriteFile(forwarding, now, 0) })
	b.env.Logger.Info("this host forwards IPv6 from now on, until the end")
	return nil
}

const (
	touchInterval  = 30 * time.Second // between notes in the store of who was heard
	expireInterval = time.Minute      // between looks at what is over
)
