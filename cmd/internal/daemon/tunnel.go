package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/control"
	"sixin4/cmd/internal/metrics"
	"sixin4/encap"
	"sixin4/encap/engine"
	"sixin4/encap/wire"
	"sixin4/tun"
	"sixin4/tun/ifcfg"
)

// settings are what a person chose for a tunnel of any kind.
type settings struct {
	config.Common
	local   bool                                      // the local address was given
	follow  bool                                      // move by oneself when the local address changes
	invalid func(key config.Key, reason string) error // blames a value

	hub     bool         // peers come and go
	rate    int64        // of each peer of a hub, bits a second each way; 0: no limit
	blocked engine.Ports // where peers may not send to
}

// tunnel is a device with its interface, an engine, and a wire that can be
// replaced: what a static and a negotiated tunnel have in common. It is made in
// two steps, openDevice and become, the second of which may be repeated with
// another shape while packets flow.
type tunnel struct {
	set    settings
	env    Env
	name   string // of the interface
	socket string // of the control server
	since  time.Time
	undo   ifcfg.Stack

	wire    *wire.Switch
	conn    atomic.Pointer[wire.Conn] // in the switch; nil when none is, or of another kind
	device  *tun.Device
	iface   *ifcfg.Interface
	engine  *engine.Engine
	server  *control.Server
	metrics *metrics.Server // nil when nobody asked for it
	hopper  *follower       // chooses between the sockets of the wire; nil when there is no choice
	short   *shortcut       // past the engine; nil when that is not wanted
	trials  trials          // of that, in UDP
	beside  lanes           // of a hub, for IPv6 in UDP beside protocol 41
	udp     perhapsUDP      // of another tunnel

	stranger func(engine.Stranger) // hears of packets from where no peer is; nil: nobody does
	begun    chan struct{}         // closed once there is an engine

	change sync.Mutex // held while the tunnel is made to look otherwise
	now    atomic.Pointer[shape]
	bound  ends                                // of the wire
	worn   worn                                // what the interface has by our doing
	claims claims                              // to the pairs of outer addresses
	seen   seen                                // by the watch task
	own    atomic.Pointer[map[netip.Addr]bool] // this host's IPv4 addresses, for a hub; nil: not known

	trouble atomic.Pointer[string] // why packets cannot flow at present, nil when they can
	turns   atomic.Uint64          // how often that has come or gone
	looked  atomic.Bool            // the watch task has looked; before that trouble says nothing
	looks   bell                   // rings when it has

	reshaped bell          // rings when there is another shape
	refusing bell          // rings when a peer says that it does not take protocol 41
	moves    atomic.Uint64 // to other local addresses, by itself
	far      far           // what is known of the far end by asking it
	probed   probed        // what is known of the way to it
}

func newTunnel(set settings, env Env) *tunnel {
	if env.Logger == nil {
		env.Logger = slog.New(slog.DiscardHandler)
	}
	t := &tunnel{set: set, env: env, wire: wire.NewSwitch(), begun: make(chan struct{}), since: time.Now(), claims: make(claims)}
	t.now.Store(&shape{})
	t.trials.id = newTrialID()
	t.short = t.newShortcut()
	if set.Wire != config.WireRaw {
		t.hopper = t.newFollower()
	}
	t.undo.Push(t.wire.Close)
	t.undo.Push(t.claims.close)
	return t
}

// close takes everything back and adds what fails to *err.
func (t *tunnel) close(err *error) {
	if undoErr := t.undo.Undo(); undoErr != nil {
		*err = errors.Join(*err, fmt.Errorf("undo: %w", undoErr))
	}
}

// openDevice makes the device and prepares its interface. With an automatic name
// another process may have taken the name meanwhile: then the next one is tried,
// a few times.
func (t *tunnel) openDevice(mtu encap.TunMTU) (err error) {
	const tries = 8
	for try := 1; ; try++ {
		t.device, err = tun.Open(tun.Config{
			Name:   t.name,
			MTU:    int(mtu),
			Queues: t.set.Queues,
			Logger: t.env.Logger,
		})
		if err == nil || t.set.Name != "" || !isNameTaken(err) || try == tries {
			break
		}
		if t.name, t.socket, err = chooseName(t.set, t.env); err != nil {
			return err
		}
	}
	if err != nil {
		return tunError(t.set, err)
	}
	t.undo.Push(t.device.Close)
	t.undo.Push(t.worn.takeOff)
	t.logDevice()
	if err := t.prepare(); err != nil {
		return err
	}
	return t.demandShortcut()
}

func (t *tunnel) logDevice() {
	t.env.Logger.Debug("device made", "name", t.device.Name(), "offloads", t.device.Features().String())
	if missing := t.device.Features().Missing(); len(missing) > 0 {
		t.env.Logger.Info("this kernel lacks offloads of TUN devices; the tunnel works, with less speed",
			"name", t.device.Name(), "missing", strings.Join(missing, " "))
	}
}

// prepare makes the interface one on which only our addresses will be.
func (t *tunnel) prepare() (err error) {
	if t.iface, err = ifcfg.ByName(t.device.Name()); err != nil {
		return err
	}
	for _, change := range []func() (ifcfg.Undo, error){t.iface.EnableIPv6, t.iface.NoAutoLinkLocal, t.noAutoConfig} {
		if err := t.undo.Keep(change()); err != nil {
			return interfaceError(err)
		}
	}
	return nil
}

// noAutoConfig goes on without when /proc/sys is read-only: the engine takes in no
// router advertisement anyway, only our kernel's solicitations go unanswered.
func (t *tunnel) noAutoConfig() (ifcfg.Undo, error) {
	undo, err := t.iface.NoAutoConfig()
	if errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EACCES) {
		t.env.Logger.Debug("router solicitations stay on", "err", err)
		return func() error { return nil }, nil
	}
	return undo, err
}

// become makes the tunnel look like next: the wire, the interface, the peers. What
// stays the same stays untouched, so that connections through it live on. When
// something fails, the tunnel looks as before.
func (t *tunnel) become(next shape) error {
	t.change.Lock()
	defer t.change.Unlock()
	err := t.reshape(next)
	if t.hopper != nil {
		t.hopper.again.ring()
	}
	return err
}

// reshape is become for those who hold t.change.
func (t *tunnel) reshape(next shape) (err error) {
	t.short.withdraw()
	defer t.short.withdraw() // once more, for who has begun to look meanwhile
	var fresh ifcfg.Stack
	defer func() {
		if err != nil {
			err = errors.Join(err, fresh.Undo())
		}
	}()
	link, err := t.openWire(next, &fresh)
	if err != nil {
		return err
	}
	put, err := t.dress(next, &fresh)
	if err != nil {
		return interfaceError(err)
	}
	if err := t.checkRoutes(next); err != nil {
		return err
	}
	if err := t.engage(next); err != nil {
		return err
	}
	if link != nil {
		if err := t.wire.Set(link); err != nil {
			return err
		}
		conn, _ := link.(*wire.Conn)
		t.bound = t.ends(next)
		t.conn.Store(conn)
	}
	t.worn.add(put)
	t.now.Store(&next)
	t.tellEngine(&next)
	t.reshaped.ring()
	t.noteTrouble("")
	if !next.hub {
		t.claims.become(next.claimed(), func(message string) { t.env.Logger.Warn(message, "name", t.name) })
	}
	if err := t.worn.keepOnly(next); err != nil { // too late to go back
		t.env.Logger.Warn("something of the tunnel before is left", "name", t.name, "error", err)
	}
	return nil
}

// retreat makes the tunnel look like before again. Where that cannot be, as when it
// was at an address that is gone, or there was nothing before, nothing is left of it
// but the empty interface.
func (t *tunnel) retreat(before shape) error {
	if before.local.IsValid() && t.iface != nil {
		if err := t.become(before); err == nil {
			return nil
		}
	}
	return t.strip()
}

// strip takes everything off the interface, and the wire away.
func (t *tunnel) strip() error {
	t.change.Lock()
	defer t.change.Unlock()
	t.short.withdraw()
	t.now.Store(&shape{})
	t.conn.Store(nil)
	t.bound = ends{}
	return errors.Join(t.worn.takeOff(), t.wire.Set(nil))
}

// openWire opens what next needs of the network, or returns nil when what there
// is will do.
func (t *tunnel) openWire(next shape, fresh *ifcfg.Stack) (wire.Link, error) {
	if t.ends(next) == t.bound {
		return nil, nil
	}
	if next.inUDP() {
		return t.openCarried(next, fresh)
	}
	link, err := wire.Listen(wire.Config{
		Local:     next.local,
		Interface: t.set.Bind,
		LinkMTU:   next.linkMTU,
		Direct:    t.set.Wire != config.WireRaw,
		Logger:    t.env.Logger,
	})
	if err != nil {
		return nil, wireError(t.set, err)
	}
	fresh.Push(link.Close)
	return link, nil
}

// dress gives the interface what it lacks of next. Addresses need it to be up:
// the kernel makes their routes then.
func (t *tunnel) dress(next shape, fresh *ifcfg.Stack) (put worn, err error) {
	changes := []func() (ifcfg.Undo, error){t.iface.Up}
	if t.engine == nil {
		changes = slices.Insert(changes, 0, func() (ifcfg.Undo, error) { return t.iface.SetMTU(int(next.mtu)) })
	}
	for _, change := range changes {
		if err := fresh.Keep(change()); err != nil {
			return put, err
		}
	}
	if put.addresses, err = t.worn.missing(t.worn.addresses, next.addresses, t.iface.AddAddress, fresh); err != nil {
		return put, err
	}
	if put.routes, err = t.worn.missing(t.worn.routes, next.routes, t.routeAdder(next), fresh); err != nil {
		return put, err
	}
	spare, err := t.worn.missing(t.worn.routes, next.spare, t.addSpare, fresh)
	maps.Copy(put.routes, spare)
	return put, err
}

// addSpare adds a route that may be missing when another has its place.
func (t *tunnel) addSpare(p netip.Prefix) (ifcfg.Undo, error) {
	undo, err := t.iface.AddRoute(p)
	if errors.Is(err, syscall.EEXIST) {
		t.env.Logger.Warn("another route stays in place", "error", err)
		return func() error { return nil }, nil
	}
	return undo, err
}

// engage makes the engine, or gives it what is new in next.
func (t *tunnel) engage(next shape) error {
	ours, here, err := t.ours(next)
	if err != nil {
		return err
	}
	table, err := t.newTable(next, ours)
	if err != nil {
		return err
	}
	if t.engine == nil {
		if err := t.makeEngine(next, table); err != nil {
			return err
		}
		close(t.begun)
	} else {
		if err := t.setMTU(t.now.Load().mtu, next.mtu, next.wireMTU); err != nil {
			return err
		}
		if err := t.engine.SetSource(next.source()); err != nil {
			return err
		}
		t.engine.SetTable(table)
	}
	t.seen.ours, t.seen.here, t.seen.wireMTU = ours, here, next.wireMTU
	return nil
}

// checkRoutes refuses a peer that is reached through the tunnel itself. One that
// is reached through another tunnel of ours is fine, and one that is not reached
// at all may come back.
func (t *tunnel) checkRoutes(next shape) error {
	if next.hub {
		return nil
	}
	for _, p := range next.peers {
		route, err := t.routeTo(p.way())
		if err == nil && route.Index == t.iface.Index {
			return p.blame(t.selfRoute(p))
		}
	}
	return nil
}

func (t *tunnel) selfRoute(p PlannedPeer) string {
	return fmt.Sprintf("is routed into its own tunnel %s; it needs a route over another interface (ip route get %s shows it)",
		t.name, p.way())
}
