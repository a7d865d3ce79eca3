package daemon

import (
	"cmp"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/control"
	"sixin4/cmd/internal/database"
	"sixin4/cmd/internal/exit"
	"sixin4/encap/engine"
	"sixin4/encap/keepalive"
	"sixin4/tsp/broker"
	"sixin4/tsp/broker/account"
	"sixin4/tsp/broker/pool"
	"sixin4/tsp/broker/store"
)

// A broker goes through these steps:
//
//	findListen     where clients are expected
//	openStore      users and leases
//	openSockets    TCP and UDP: who comes now waits
//	openDevice     the device, its interface made ready
//	openState      what an earlier run was killed before undoing
//	forward        this host must forward packets
//	resume         become a hub with the tunnels that were up when the one before ended
//	openControl    the status socket
//	openMetrics    the address for Prometheus, if there is to be one
//	openWeb        the address of the web pages, if there are to be any
//	serve          sessions, the engine, proofs, expiry

// Serve runs a broker (RFC 5572) until ctx ends, and returns nil then. Everything that
// it changed on this host is undone when it returns. Errors carry the exit status
// (package exit).
func Serve(ctx context.Context, cfg config.Broker, env Env) (err error) {
	if err := checkPrivileges(false); err != nil {
		return err
	}
	b := &brokerage{tunnel: newTunnel(brokerSettings(cfg), env), cfg: cfg}
	defer b.close(&err)
	b.leases = newLeases(b)
	for _, step := range []func(context.Context) error{
		b.findListen, b.openStore, b.openSockets, b.openDevice, b.openState, b.forward, b.resume, b.openServer, b.openControl, b.openMetrics, b.openWeb,
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
	router router
	pages  *pages // nil for none
	// failures are wrong passwords, in whatever way they came.
	failures *account.Failures
	dns      []netip.Addr // that clients are told, at least one

	streams   []net.Listener
	datagrams []net.PacketConn
}

func brokerSettings(cfg config.Broker) settings {
	return settings{
		Common: cfg.Common, invalid: cfg.Invalid,
		hub: true, rate: cfg.TunnelRate, blocked: engine.Ports(cfg.Blocked),
	}
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
func (b *brokerage) node() string { return cmp.Or(b.cfg.Node, b.local().String()) }

func (b *brokerage) openStore(ctx context.Context) error {
	d, err := database.Open(ctx, database.Config{
		Store: b.cfg.Store, Pool: b.cfg.Prefix, Create: true, MakeKey: true, Alone: true, Logger: b.env.Logger,
	})
	if err != nil {
		return err
	}
	b.store = d.Store
	b.undo.Push(d.Close)
	return nil
}

func (b *brokerage) openDevice(context.Context) (err error) {
	if b.name, b.socket, err = chooseName(b.set, b.env); err != nil {
		return err
	}
	b.leases.asker, err = keepalive.NewAsker(keepalive.AskerConfig{
		Interface: b.name, Source: b.ownAddress(), Logger: b.env.Logger,
	})
	if err != nil {
		return err
	}
	if err := b.tunnel.openDevice(b.shape().mtu); err != nil {
		return err
	}
	undo, err := b.iface.SetTxQueueLen(deviceQueue)
	if err != nil {
		b.env.Logger.Warn("packets are lost sooner when this host is busy", "error", err)
		return nil
	}
	b.undo.Push(undo)
	return nil
}

// deviceQueue is how many packets for clients may wait for the broker. The 500 of a new
// device are 25 ms of 20 000 packets a second, and on a busy host the broker may have to
// wait longer than that for a processor. When it has one, it takes 4096 in some 40 ms.
const deviceQueue = 4096

// shape is a hub with the tunnels that there are. One route covers the whole pool:
// what is nobody's is answered by the engine, which knows all tunnels.
func (b *brokerage) shape() shape {
	s := shape{
		hub: true, local: b.local(), wireMTU: usualWireMTU,
		addresses: []netip.Prefix{linkLocal(b.local()), single(b.ownAddress())},
		routes:    []netip.Prefix{b.cfg.Prefix},
		neighbour: allClients,
	}
	if way, link := b.wayOut(); way != 0 {
		s.wireMTU, s.linkMTU = way, link
	}
	s.mtu = b.autoMTU(s.carries(s.wireMTU), 0)
	return s
}

// allClients is the one neighbour that stands for all clients. It is nobody's: as a
// link-local address of RFC 4213, Section 3.7 it would be of 0.0.0.1.
var allClients = netip.MustParseAddr("fe80::1")

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
	live, err := b.live(ctx)
	if err != nil {
		return err
	}
	b.listOwn()
	if err := b.become(b.shape()); err != nil {
		return err
	}
	for _, l := range live {
		b.leases.resume(l)
	}
	b.leases.handOver(ctx)
	if len(live) > 0 {
		b.env.Logger.Info("tunnels of the run before go on", "tunnels", len(live))
	}
	return nil
}

// live are the tunnels that were up. A file is this broker's alone, so that those under
// another name, of a time before --node or --listen changed, are its own as well, and get
// its name; in a database that several share they are others'.
func (b *brokerage) live(ctx context.Context) ([]store.Lease, error) {
	if b.cfg.Postgres() {
		return b.store.Live(ctx, b.node())
	}
	live, err := b.store.Live(ctx, "")
	if err != nil {
		return nil, err
	}
	for i, l := range live {
		if l.Node == b.node() {
			continue
		}
		taken := b.activation(l)
		taken.Epoch++
		live[i], err = b.store.Activate(ctx, taken)
		if err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
	}
	return slices.DeleteFunc(live, func(l store.Lease) bool { return l.ID == "" }), nil
}

// activation is what a lease is, as a session of this broker.
func (b *brokerage) activation(l store.Lease) store.Activation {
	return store.Activation{
		ID: l.ID, Epoch: l.Epoch, Node: b.node(), Type: l.Type,
		Outer: l.Outer, Local: l.Local, Merged: l.Merged, Expires: l.Expires,
	}
}

func (b *brokerage) openServer(context.Context) (err error) {
	b.dns = b.resolvers(b.ownAddress())
	c := broker.Config{
		Provisioner: b.leases,
		Accounts:    accounts{b.store},
		Anonymous:   b.cfg.Anonymous,
		Realm:       b.cfg.Realm,
		Redirect:    b.redirect(),
		Logger:      b.env.Logger,
		Carries:     b.carriedTypes(),
		Merged:      b.short != nil,
		// A client that says proxy and names the address that it has itself is no proxy.
		Proxy: func(_ *broker.User, from netip.AddrPort, end netip.Addr) bool { return end == from.Addr() },
	}
	c.Logins.Iterations = b.cfg.Iterations
	b.failures = account.NewFailures(c.Logins)
	c.Failures = b.failures
	if c.Secret, err = decoySecret(b.cfg.KeyFile); err != nil {
		return hostError(err)
	}
	b.server, err = broker.New(c)
	return err
}

// redirect says who is sent to other brokers: everybody, or who would be one too many.
func (b *brokerage) redirect() broker.Redirect {
	r := broker.Redirect{Brokers: b.cfg.Redirect}
	if b.cfg.RedirectAbove > 0 {
		r.When = b.leases.full
	}
	return r
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
		growQueue(p)
		if p, err = b.carryUDP(p); err != nil {
			return hostError(err)
		}
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
		newTask("new ways", b.leases.rebind),
		newTask("repairs of the database", b.leases.mend),
	)
	tasks = append(tasks, b.webTask()...)
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

const (
	touchInterval  = 30 * time.Second // between notes in the store of who was heard
	expireInterval = time.Minute      // between looks at what is over
	heedInterval   = time.Second      // between looks at what others have ended
)
