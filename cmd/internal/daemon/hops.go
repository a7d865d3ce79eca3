package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"sixin4/cmd/internal/config"
	"sixin4/encap/wire"
	"sixin4/tun/ifcfg"
)

const (
	// egressInterval is how often --wire auto looks whether something on this host
	// wants to see what leaves. It is also the longest time for which packets pass
	// by a rule that has just been made.
	egressInterval = time.Second
	// hopInterval is how often the next hops of the packet wire are asked for, a
	// multiple of egressInterval. It is also the longest time for which packets go
	// to a neighbour that has been replaced by one with another link-layer address.
	hopInterval = 2 * time.Second
)

// newFollower makes what tells the wire, where it may hand packets to the link, how
// each peer is reached.
func (t *tunnel) newFollower() *follower {
	return &follower{
		always: t.set.Wire == config.WirePacket || t.set.Wire == config.WireBPF,
		egress: ifcfg.Egress,
		conn: func() hopSetter {
			if conn := t.conn.Load(); conn != nil {
				return conn
			}
			if session := t.now.Load().session; session != nil {
				return routedUDP{session}
			}
			return nil
		},
		hops:   func() map[[4]byte]wire.Hop { return t.hops(t.now.Load()) },
		kernel: t.short,
		log:    t.env.Logger,
	}
}

// mostHops is for how many peers the next hop is asked for: each costs a question to
// the kernel every hopInterval. A hub with more sends through the raw socket.
const mostHops = 256

func (t *tunnel) hops(now *shape) map[[4]byte]wire.Hop {
	if len(now.peers) > mostHops {
		return nil
	}
	hops := make(map[[4]byte]wire.Hop, len(now.peers))
	for _, p := range now.peers {
		if p.mapping != nil {
			continue // they are anywhere
		}
		hop, err := ifcfg.NextHopVia(now.local, p.Remote, t.set.Bind)
		switch {
		case err == nil && hop.Link != t.iface.Index:
			hops[p.Remote.As4()] = wire.Hop{Link: hop.Link, MAC: hop.MAC}
		case err != nil && !errors.Is(err, ifcfg.ErrUnresolved):
			t.env.Logger.Debug("next hop not known", "peer", p.Remote, "error", err)
		}
	}
	return hops
}

// hopSetter is what the follower needs of a wire.Conn.
type hopSetter interface {
	SetHops(map[[4]byte]wire.Hop)
}

// routedUDP is a tunnel in UDP, whose engine leaves the next hop to the kernel.
type routedUDP struct{ session *sessionConn }

// SetHops has nothing to do.
func (routedUDP) SetHops(map[[4]byte]wire.Hop) {}

// follower chooses between the two sockets of a wire. A peer whose next hop the
// wire does not know is sent to through the raw socket, where this host's packet
// filter sees what leaves; so with no hops the wire is the raw one.
type follower struct {
	always bool // hand packets to the link whoever would like to see them
	egress func() (seen []string, err error)
	conn   func() hopSetter // nil while there is no connection
	hops   func() map[[4]byte]wire.Hop
	kernel *shortcut // nil: never
	log    *slog.Logger
	again  bell // rings when somebody wants a look before the next one is due

	direct atomic.Bool // the wire has next hops now
	asked  bool        // whether something wants to see what leaves
	free   bool        // nothing does, as was last known
	looks  string      // who does
	last   hopSetter   // has the hops
	known  map[[4]byte]wire.Hop
}

// inUse is what packets go through now, as --wire calls it.
func (f *follower) inUse() string {
	if f.kernel.active() {
		return config.WireBPF
	}
	if f.direct.Load() {
		return config.WirePacket
	}
	return config.WireRaw
}

func (f *follower) run(ctx context.Context, ready func()) error {
	tick := time.NewTicker(egressInterval)
	defer tick.Stop()
	defer f.kernel.close()
	due := true
	for n := 1; ; {
		again := f.again.wait()
		f.look(due)
		ready()
		select {
		case <-ctx.Done():
			return nil
		case <-again:
			due = false
		case <-tick.C:
			due = n%int(hopInterval/egressInterval) == 0
			n++
		}
	}
}

// look decides anew. When the decision and the connection are those of last time,
// the next hops are asked for only if they are due. The kernel is given packets by the
// same hops, as long as there is a connection for the others.
func (f *follower) look(due bool) {
	age := f.kernel.epoch() // before anything of the tunnel is looked at
	was, conn := f.free, f.conn()
	f.free = f.always || f.nobodyLooks(conn)
	same := conn == f.last && was == f.free
	f.last = conn
	if conn != nil && (!same || f.free && due) {
		f.known = nil
		if f.free {
			f.known = f.hops()
		}
		conn.SetHops(maps.Clone(f.known))
		f.direct.Store(len(f.known) > 0)
	}
	if f.kernel != nil {
		f.kernel.look(age, f.known, f.unfit(conn))
	}
}

// unfit says why the kernel may not be given packets by the hops there are, or nothing.
func (f *follower) unfit(conn hopSetter) string {
	switch {
	case !f.free:
		return f.looks
	case conn == nil:
		return noSocket
	}
	return ""
}

// nobodyLooks asks whether packets may pass by all that wants to see them, and
// logs when that changes. At the start the raw socket is no change. A tunnel in UDP has
// none: what changes for it says the shortcut.
func (f *follower) nobodyLooks(conn hopSetter) bool {
	seen, err := f.egress()
	free := len(seen) == 0 && err == nil
	_, inUDP := conn.(routedUDP)
	switch {
	case inUDP:
	case free && !f.free:
		f.log.Info("packets are handed to the link directly")
	case !free && f.free:
		f.log.Info("packets go through the raw socket", "reason", whoLooks(seen, err))
	case !free && !f.asked:
		f.log.Debug("packets go through the raw socket", "reason", whoLooks(seen, err))
	}
	f.asked = true
	if f.looks = ""; !free {
		f.looks = whoLooks(seen, err)
	}
	return free
}

// whoLooks says in one line what wants to see packets, or why there is no telling.
func whoLooks(seen []string, err error) string {
	const most = 3
	if err != nil {
		return fmt.Sprintf("something may look at them: %v", err)
	}
	more := ""
	if len(seen) > most {
		more = fmt.Sprintf(" and %d more", len(seen)-most)
		seen = seen[:most]
	}
	return "seen by " + strings.Join(seen, ", ") + more
}
