package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"syscall"
	"time"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/exit"
	"sixin4/encap"
	"sixin4/encap/engine"
	"sixin4/encap/kernelpath"
	"sixin4/encap/wire"
	"sixin4/tun/ifcfg"
)

// carrier is what the daemon needs of a kernelpath.Path.
type carrier interface {
	Set(*kernelpath.Flow) error
	Intact() bool
	PutPeer(kernelpath.Peer) error
	RemovePeer(local, remote netip.AddrPort) error
	PeerStats(local, remote netip.AddrPort) (kernelpath.Stats, bool)
	Stats() (kernelpath.Stats, error)
	Close() error
}

// shortcut decides whether the kernel itself carries the plain packets. The engine and
// its sockets stay as they are, for all others and for when it does not.
type shortcut struct {
	always   bool // whoever would like to see the packets
	inVain   bool // no client of the hub will be carried
	open     func() (carrier, error)
	flow     func(hops map[[4]byte]wire.Hop) (f *kernelpath.Flow, reason string)
	watchers func(c carrier, link int) (seen []string, err error)
	gone     func() bool // the tunnel's interface, as at the end; nil: never
	log      *slog.Logger

	mu     sync.Mutex
	path   carrier          // nil as long as none was needed
	refuse error            // why there is none
	final  bool             // nor will there be one
	tried  time.Time        // when it was refused
	given  *kernelpath.Flow // what path carries now
	reason string           // why it carries nothing, as was last logged
	age    uint64           // the epoch: how often what is given was withdrawn

	clients clients // of a hub
	trying  bell    // rings when a trial is due
	roving  bell    // rings when the way to a client is to be looked for
}

// newShortcut is nil where the settings want no such thing.
func (t *tunnel) newShortcut() *shortcut {
	if t.set.Wire != config.WireAuto && t.set.Wire != config.WireBPF {
		return nil
	}
	room := 0
	if t.set.hub {
		room = mostClients
	}
	return &shortcut{
		always: t.set.Wire == config.WireBPF,
		inVain: t.set.rate != 0,
		open: func() (carrier, error) {
			return kernelpath.Open(kernelpath.Config{Device: t.iface.Index, Peers: room})
		},
		flow:     t.flow,
		watchers: t.watchers,
		gone:     t.hasNoInterface,
		log:      t.env.Logger,
	}
}

func (t *tunnel) hasNoInterface() bool {
	_, _, err := t.iface.State()
	return errors.Is(err, syscall.ENODEV)
}

// demandShortcut is for those who asked for nothing else.
func (t *tunnel) demandShortcut() error {
	if t.set.Wire != config.WireBPF {
		return nil
	}
	s := t.short
	t.undo.Push(s.close)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened() {
		return nil
	}
	code := exit.TryAgain
	if s.final {
		code = exit.Unavailable
	}
	return exit.With(code, fmt.Errorf("--wire bpf is not possible here (auto uses what is): %w", s.refuse))
}

// smallestWire is what a link carries at least, if no packet needs IPv4 fragments.
const smallestWire = encap.WireMTU(encap.MinTunMTU + encap.HeaderLen)

// flow is the tunnel as the kernel could carry it, or why it cannot.
func (t *tunnel) flow(hops map[[4]byte]wire.Hop) (*kernelpath.Flow, string) {
	t.change.Lock()
	defer t.change.Unlock()
	now := t.now.Load()
	if t.set.hub {
		return t.hubFlow(now)
	}
	if reason := t.unfit(now); reason != "" {
		return nil, reason
	}
	peer := now.peers[0]
	hop, known := hops[peer.Remote.As4()]
	if !known {
		return nil, "no next hop is known that takes packets as they are, as long as those of the link"
	}
	own, err := net.InterfaceByIndex(hop.Link)
	if err != nil || len(own.HardwareAddr) != 6 || len(hop.MAC) != 6 {
		return nil, noEthernet
	}
	f := &kernelpath.Flow{
		Outer: t.outer(now.local, peer.Remote), SrcPort: now.port(), DstPort: peer.port,
		Link: hop.Link, LinkMAC: own.HardwareAddr, HopMAC: hop.MAC,
		MTU:  t.learntMTU(peer.Remote, t.heldMTU(min(now.mtu, now.carries(now.wireMTU)))),
		Ours: t.seen.ours,
		Here: t.here(now),
	}
	if now.inUDP() {
		f.Asks, f.Trial = t.trials.id, !t.trials.hasPassed(now.session)
	}
	return f, ""
}

// here are this host's addresses that the kernel may take packets in for: those of the
// tunnel, and of all others as many as there is room for.
func (t *tunnel) here(now *shape) []netip.Addr {
	here := now.here()
	return append(here, t.seen.here[:min(len(t.seen.here), max(kernelpath.MaxHere-len(here), 0))]...)
}

const noEthernet = "the link is not Ethernet"

// unfit says why the kernel cannot carry a tunnel that is no hub, or nothing.
func (t *tunnel) unfit(now *shape) string {
	smallest := smallestWire
	if now.inUDP() {
		smallest = shortestUDP
	}
	switch {
	case now.hub || len(now.peers) != 1 || now.peers[0].mapping != nil || !slices.Equal(now.peers[0].Prefixes, []netip.Prefix{everything}):
		return "the tunnel has not one peer for all addresses"
	case now.inUDP() && !now.peers[0].merged:
		return "the broker takes no merged packets in UDP"
	case now.inUDP() && len(now.here()) == 0:
		return "the tunnel's addresses are its script's, and a trial in UDP needs one"
	case t.trouble.Load() != nil:
		return "the peer cannot be reached"
	case now.wireMTU < smallest || t.cutsFor(now.peers[0].Remote):
		return fmt.Sprintf("the link or path carries less than %d bytes", smallest)
	}
	return ""
}

// watchers are those who would not see packets that the kernel carries.
func (t *tunnel) watchers(c carrier, link int) ([]string, error) {
	p, ok := c.(*kernelpath.Path)
	if !ok {
		return nil, fmt.Errorf("watchers: %w", errors.ErrUnsupported)
	}
	ours, err := p.Programs(link)
	if err != nil {
		return nil, err
	}
	for _, look := range []func() ([]string, error){
		p.Others,
		func() ([]string, error) { return ifcfg.Bypassed(t.iface.Index, link) },
		func() ([]string, error) { return ifcfg.Ingress(link, ours...) },
	} {
		if seen, err := look(); len(seen) > 0 || err != nil {
			return seen, err
		}
	}
	return nil, nil
}

// epoch changes with the tunnel: what was found out since an epoch began is of the tunnel
// that is, for as long as the epoch lasts.
func (s *shortcut) epoch() uint64 {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.age
}

// look decides anew. hops were found in the epoch age, and unfit is why they may not be
// used, or nothing.
func (s *shortcut) look(age uint64, hops map[[4]byte]wire.Hop, unfit string) {
	f, reason := s.flow(hops)
	s.mu.Lock()
	defer s.mu.Unlock()
	if age != s.age {
		return // hops or f are of a tunnel that was
	}
	if unfit != "" {
		f, reason = nil, unfit
	}
	if f != nil {
		f, reason = s.allowed(f)
	}
	if f != nil && reflect.DeepEqual(f, s.given) && s.path.Intact() {
		return
	}
	if s.path != nil && (f != nil || s.given != nil) {
		if err := s.path.Set(f); err != nil {
			f, reason = nil, err.Error()
			if s.gone != nil && s.gone() {
				reason = noDevice
			}
		}
	}
	s.note(f, reason)
}

// allowed returns f, or why the kernel may not carry it.
func (s *shortcut) allowed(f *kernelpath.Flow) (*kernelpath.Flow, string) {
	if !s.opened() {
		return nil, s.refuse.Error()
	}
	if s.always {
		return f, ""
	}
	links := []int{f.Link}
	if f.Hub != nil {
		links = f.Hub.Links
	}
	for _, link := range links {
		if seen, err := s.watchers(s.path, link); len(seen) > 0 || err != nil {
			return nil, whoLooks(seen, err)
		}
	}
	return f, ""
}

// openRetry is how long after a failure the kernel is asked again.
const openRetry = 10 * time.Second

// opened makes the path when there is none yet, and reports whether there is one. A
// kernel that cannot is not asked again, one that lacked something may have it later.
func (s *shortcut) opened() bool {
	if s.path != nil || s.final || s.refuse != nil && time.Since(s.tried) < openRetry {
		return s.path != nil
	}
	path, err := s.open()
	if err != nil {
		s.refuse, s.tried = err, time.Now()
		s.final = errors.Is(err, errors.ErrUnsupported)
		return false
	}
	s.path, s.refuse = path, nil
	s.clients.addAll(s)
	return true
}

// inEarnest reports whether the kernel carries more of a tunnel than a trial.
func inEarnest(f *kernelpath.Flow) bool { return f != nil && !f.Trial }

// Reasons that are no surprise to who asked for nothing but the kernel's way.
const (
	noSocket = "the tunnel has no socket now"
	noClient = "no client takes merged packets"
	noDevice = "the interface is gone" // at the end, or the engine says so
)

// note remembers what is given now, and logs when the kernel begins or ends to carry.
// That it does not at the start is no change, unless it was asked for.
func (s *shortcut) note(f *kernelpath.Flow, reason string) {
	was := inEarnest(s.given)
	if s.given = f; f != nil {
		s.trying.ring()
	}
	if f != nil && f.Trial {
		reason = "what the kernel sends does not arrive"
	}
	switch now := inEarnest(f); {
	case now && !was:
		s.log.Info("packets are carried by the kernel")
	case !now && was:
		s.log.Info("packets are not carried by the kernel any more", "reason", reason)
	case f == nil && reason != s.reason && s.always && !slices.Contains([]string{noSocket, noClient, noDevice}, reason):
		s.log.Warn("packets are not carried by the kernel", "reason", reason)
	case f == nil && reason != s.reason:
		s.log.Debug("packets are not carried by the kernel", "reason", reason)
	}
	s.reason = reason
}

// withdraw makes the kernel carry nothing until the next look: the tunnel is about to
// look otherwise.
func (s *shortcut) withdraw() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.age++
	if s.given == nil {
		return
	}
	s.given = nil
	if err := s.path.Set(nil); err != nil {
		s.log.Warn("the kernel may go on carrying packets of the tunnel before", "error", err)
	}
}

// active reports whether the kernel carries packets now, of a hub those of any client.
func (s *shortcut) active() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return inEarnest(s.given) && (s.given.Hub == nil || s.clients.any())
}

// close gives the path up. It is idempotent.
func (s *shortcut) close() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given = nil
	s.refuse, s.final = errors.New("closed"), true
	if s.path == nil {
		return nil
	}
	return s.path.Close()
}

// stats are what the kernel has carried.
func (s *shortcut) stats() (k kernelpath.Stats) {
	if s == nil {
		return k
	}
	s.mu.Lock()
	path := s.path
	s.mu.Unlock()
	if path == nil {
		return k
	}
	k, err := path.Stats()
	if err != nil {
		s.log.Debug("the kernel's counters cannot be read", "error", err)
	}
	return k
}

// addTotals adds what the kernel has carried to what the engine has.
func (s *shortcut) addTotals(e *engine.Stats) {
	k := s.stats()
	e.Tx, e.Rx = sum(e.Tx, k.Tx), sum(e.Rx, k.Rx)
	e.Drops[encap.DropSendError] += k.TxLost
	e.Drops[encap.DropTunError] += k.RxLost
}

// addPeer does the same for the one peer of a tunnel.
func (s *shortcut) addPeer(p *engine.PeerStats) {
	include(p, s.stats())
}

// include adds what the kernel has carried of a peer to what the engine has.
func include(p *engine.PeerStats, k kernelpath.Stats) {
	p.Tx, p.Rx = sum(p.Tx, k.Tx), sum(p.Rx, k.Rx)
	if k.LastHeard.After(p.LastHeard) {
		p.LastHeard = k.LastHeard
	}
}

func sum(a engine.Count, b kernelpath.Count) engine.Count {
	return engine.Count{Packets: a.Packets + b.Packets, Bytes: a.Bytes + b.Bytes}
}
