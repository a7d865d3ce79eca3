// Package engine moves packets between one TUN and one wire: out of the TUN, by
// longest prefix to a peer, into an IPv4 header and onto the wire; and back in,
// by outer source address (RFC 4213).
//
// Each direction is a loop that reads a batch, works on it in place and writes
// it, on one thread: no queue, no lock, no copy and no allocation on the way. The
// table of peers is immutable and swapped whole. Every packet that was read is
// either counted as sent on or in exactly one drop counter.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sixin4/encap"
	"sixin4/encap/packet"
)

// BatchSize is how many packets a loop works on at a time.
const BatchSize = 128

// Reader is where packets come from.
type Reader interface {
	// Read waits for at least one packet and replaces the contents of b; the
	// packets are valid until the next Read. A packet with Err set is there only
	// to be counted. It returns os.ErrClosed after Close, and another error only
	// when there will be no more packets.
	Read(b *packet.Batch) error
	// Close ends a Read that waits. It is idempotent.
	Close() error
}

// Writer is where packets go.
type Writer interface {
	// Write writes the packets of b, setting Err on each one that failed, and
	// returns how many it wrote and the first error. It may change their bytes.
	Write(b *packet.Batch) (n int, err error)
}

// Lane is the way of one loop. An engine has one inbound lane and an outbound
// lane for each queue of the TUN.
type Lane struct {
	In  Reader
	Out Writer
	// Back is where ICMPv6 errors to the sender are written: outbound the TUN, inbound
	// the wire. Nil: nowhere.
	Back Writer
	// UDP says that In may bring packets of IPv6 in UDP too, of which the peers have
	// ports. Which kind a packet is its outer headers say: no raw socket of protocol 41
	// brings UDP, and no UDP wire anything else.
	UDP bool
	// Socket is the number of the UDP wire: a peer over UDP is one of the wire that has its
	// number only (Peer.Socket). 0 where there is one.
	Socket uint16
}

// Config describes an engine.
type Config struct {
	Outbound []Lane // from the TUN to the wire; at least one
	Inbound  Lane   // from the wire to the TUN
	More     []Lane // the same, from other wires

	// MTU is the longest inner packet, in bytes, that is sent; a longer one is
	// answered with packet too big (RFC 4443, Section 3.2). For a peer over UDP it is
	// less where WireMTU has no room for the longer headers, unless its Outer.ClearDF
	// is set: then it is the kernel that makes fragments. Required.
	MTU encap.TunMTU
	// WireMTU is the longest IPv4 packet in bytes that the link takes; longer ones
	// are sent in fragments (RFC 4213, Section 3.2). Default: MTU plus the header.
	WireMTU encap.WireMTU
	// Source is the IPv6 address that ICMPv6 errors come from. Required.
	Source netip.Addr
	// ClampMSS is how the maximum segment size that TCP offers is lowered, both ways.
	ClampMSS Clamp
	// Relay is where ICMPv6 errors go that tell inner senders of ICMPv4 errors: the TUN.
	// It belongs to the method ICMP. Nil: nowhere.
	Relay Writer
	// Behind reports whether an IPv6 address outside of TableConfig.Ours is reached from
	// this host otherwise than through the tunnel. It is asked about the senders that
	// ICMPv4 errors name. Nil: none is.
	Behind func(netip.Addr) bool
	// Heard returns when a packet of the peer at an address last came in past the
	// engine; the zero time or nil: never.
	Heard func(netip.Addr) time.Time
	// Stranger, if not nil, is told of packets over UDP that come from elsewhere than the
	// peer that has their source, each of which is dropped. The loops call it: it must not
	// block, nor keep what it is given.
	Stranger func(Stranger)
	// Replies, if not nil, is told of each ICMPv6 echo reply that comes in and may pass:
	// its head, which has all headers at least, and its length in bytes. The loops call
	// it: it must not block, nor keep what it is given.
	Replies func(head encap.IPv6, size int)
	Logger  *slog.Logger // default: discard
}

// Clamp says to what the maximum segment size (MSS) that TCP offers is lowered; it is
// never raised. The zero Clamp is what the tunnel carries, where that is less than 1500
// bytes a packet. What is learnt about the path to a peer counts too, unless Off.
type Clamp struct {
	Off bool
	MSS uint16 // bytes; 0: automatic
}

// Engine runs the loops.
type Engine struct {
	cfg    Config
	log    *slog.Logger
	table  atomic.Pointer[Table]
	sizes  atomic.Pointer[sizes]
	source atomic.Pointer[netip.Addr] // of ICMPv6 errors
	lanes  []*lane
	relay  *relay
	learnt atomic.Int64 // until when something about a path may be known; 0: nothing is
	swap   sync.Mutex   // held while the table is replaced, never by a loop

	probing atomic.Pointer[probes] // nil: nothing is searched for
	made    time.Time
}

// sizes is what may be sent at present.
type sizes struct {
	tun  encap.TunMTU
	wire encap.WireMTU
	mss  uint16 // that TCP may offer; 0: whatever it likes

	udp    encap.TunMTU // in place of tun for peers over UDP, whose headers are longer
	udpMSS uint16       // the same of mss
}

// sizesOf is what c and the MTUs come to.
func sizesOf(c Clamp, tun encap.TunMTU, wire encap.WireMTU) *sizes {
	udp := min(tun, max(encap.TunMTU(wire)-encap.UDPHeaderLen, encap.MinTunMTU))
	return &sizes{tun: tun, wire: wire, mss: c.limit(tun), udp: udp, udpMSS: c.limit(udp)}
}

// limit is the MSS that c comes to in a tunnel that carries mtu, 0 if it is off.
func (c Clamp) limit(mtu encap.TunMTU) uint16 {
	switch {
	case c.Off:
		return 0
	case c.MSS != 0:
		return c.MSS
	case mtu < ethernetMTU:
		return mtu.MSS()
	}
	return math.MaxUint16
}

// ethernetMTU is what needs no clamping: the peers of TCP expect no more.
const ethernetMTU = 1500

// fragments reports whether a packet that the tunnel takes may not fit the link.
func (s *sizes) fragments() bool { return s.wire < s.tun.Wire() }

// lane is one loop's configuration and counters.
type lane struct {
	Lane
	e       *Engine
	total   counter // packets that went on
	drops   [encap.NumDrops]atomic.Uint64
	created atomic.Uint64 // ICMPv6 errors written
	frags   atomic.Uint64 // fragments sent
	clamped atomic.Uint64 // packets whose MSS was lowered
	health  health
	touched uint64 // of no meaning: so that what is touched is read
}

// New checks cfg and returns an engine that is not running yet.
func New(cfg Config, t *Table) (*Engine, error) {
	lanes := slices.Concat([]Lane{cfg.Inbound}, cfg.More, cfg.Outbound)
	switch {
	case len(cfg.Outbound) == 0:
		return nil, errors.New("engine: no outbound lane")
	case slices.ContainsFunc(lanes, func(l Lane) bool { return l.In == nil || l.Out == nil }):
		return nil, errors.New("engine: a lane has no reader or no writer")
	case t == nil:
		return nil, errors.New("engine: the peer table is missing")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Engine{cfg: cfg, log: cfg.Logger, made: time.Now()}
	for _, l := range lanes {
		e.lanes = append(e.lanes, &lane{Lane: l, e: e, health: health{log: cfg.Logger, now: e.monotonic}})
	}
	e.relay = newRelay(e, cfg.Relay)
	e.table.Store(t)
	if err := e.SetSource(cfg.Source); err != nil {
		return nil, err
	}
	return e, e.SetMTU(cfg.MTU, cfg.WireMTU)
}

// SetSource replaces Config.Source. It fails for what is no IPv6 address.
func (e *Engine) SetSource(a netip.Addr) error {
	if !a.Is6() || a.Is4In6() {
		return fmt.Errorf("engine: source %v of ICMPv6 errors is not an IPv6 address", a)
	}
	e.source.Store(&a)
	return nil
}

// SetMTU replaces Config.MTU and Config.WireMTU, with the same meaning and the
// same default, from the next batch on. Another WireMTU is another link: what was
// learnt about the paths to peers is forgotten. It fails for an MTU out of range.
func (e *Engine) SetMTU(tun encap.TunMTU, wire encap.WireMTU) error {
	if tun < encap.MinTunMTU || tun > encap.MaxTunMTU {
		return fmt.Errorf("engine: MTU %d is not between %d and %d", tun, encap.MinTunMTU, encap.MaxTunMTU)
	}
	if wire == 0 {
		wire = tun.Wire()
	}
	before := e.sizes.Swap(sizesOf(e.cfg.ClampMSS, tun, wire))
	if before != nil && before.wire != wire {
		e.forget()
	}
	return nil
}

// SetTable replaces the peers. Packets being worked on still see the old table;
// the counters of a remote address that stays go on.
func (e *Engine) SetTable(t *Table) {
	e.swap.Lock()
	defer e.swap.Unlock()
	t.adopt(e.table.Load())
	e.table.Store(t)
}

// Change is Table.Change on the table in use, which it replaces.
func (e *Engine) Change(without []netip.Addr, with []Peer) []Refusal {
	return e.change(func(t *Table) (*Table, []Refusal) { return t.Change(without, with) })
}

// ChangeAt is Table.ChangeAt on the table in use, which it replaces.
func (e *Engine) ChangeAt(without []End, with []Peer) []Refusal {
	return e.change(func(t *Table) (*Table, []Refusal) { return t.ChangeAt(without, with) })
}

func (e *Engine) change(with func(*Table) (*Table, []Refusal)) []Refusal {
	e.swap.Lock()
	defer e.swap.Unlock()
	t, refused := with(e.table.Load())
	e.table.Store(t)
	return refused
}

// SetOurs is Table.WithOurs on the table in use, which it replaces.
func (e *Engine) SetOurs(list []netip.Prefix) {
	e.swap.Lock()
	defer e.swap.Unlock()
	e.table.Store(e.table.Load().WithOurs(list))
}

// Run moves packets until ctx is cancelled, which returns nil, or a reader fails.
// It closes the readers.
func (e *Engine) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	closed := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(closed)
		e.closeReaders()
	})
	var (
		wg    sync.WaitGroup
		once  sync.Once
		first error
	)
	for i, l := range e.lanes {
		loop := l.outbound
		if e.isInbound(i) {
			loop = l.inbound
		}
		wg.Go(func() {
			// Its own thread: a wake-up from the kernel then goes straight to it.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			if err := loop(); !errors.Is(err, os.ErrClosed) {
				once.Do(func() { first = err })
			}
			cancel()
		})
	}
	wg.Wait()
	<-closed // the last loop has cancelled ctx
	return first
}

// isInbound reports whether a lane leads from a wire to the TUN.
func (e *Engine) isInbound(lane int) bool { return lane <= len(e.cfg.More) }

func (e *Engine) closeReaders() {
	for _, l := range e.lanes {
		if err := l.In.Close(); err != nil {
			e.log.Warn("closing failed", "err", err)
		}
	}
}

// write writes b to w, which marks what failed. A writer that took nothing, as a
// closed one, may have marked nothing either.
func write(w Writer, b *packet.Batch) (n int) {
	n, err := w.Write(b)
	if n > 0 || err == nil {
		return n
	}
	b.Fail(err)
	return 0
}

// drop counts n packets that were refused.
func (l *lane) drop(d encap.Drop, n int) { l.drops[d].Add(uint64(n)) }

// compact keeps the packets of b for which keep returns true, in order.
func compact(b *packet.Batch, keep func(p *packet.Packet) bool) {
	n := 0
	for i := range b.Packets {
		if !keep(&b.Packets[i]) {
			continue
		}
		if n != i {
			b.Packets[n] = b.Packets[i]
		}
		n++
	}
	b.Packets = b.Packets[:n]
}

// monotonic is a clock for limits, in nanoseconds.
func (e *Engine) monotonic() int64 { return int64(time.Since(e.made)) }
