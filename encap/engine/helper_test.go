package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"

	"sixin4/encap"
	"sixin4/encap/packet"
	"sixin4/encap/packettest"
)

var (
	ours4  = netip.MustParseAddr("192.0.2.1")
	peer4  = netip.MustParseAddr("192.0.2.2")
	other4 = netip.MustParseAddr("203.0.113.9")

	ours6  = netip.MustParseAddr("2001:db8:1::1") // ours, at the end of the tunnel
	peer6  = netip.MustParseAddr("2001:db8:1::2")
	host6  = netip.MustParseAddr("2001:db8:aaaa::5") // behind us
	other6 = netip.MustParseAddr("2001:db8:ffff::1") // nobody's
	all    = netip.MustParsePrefix("::/0")
)

// hubAddr is the outer address of peer i of a hub, i < 1000. The ranges for
// documentation hold only 762, so these are of the benchmarks' 198.18.0.0/15.
func hubAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 18, byte(i>>8) + 1, byte(i)})
}

// hubPrefix is what peer i of a hub has, and hubHost a host there.
func hubPrefix(i int) netip.Prefix { return netip.PrefixFrom(hubHost(i), 48).Masked() }

func hubHost(i int) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 4: 0x10 + byte(i>>8), 5: byte(i), 15: 7})
}

// linkLocal4 is the link-local address that is made of an IPv4 address (RFC 4213,
// Section 3.7).
func linkLocal4(a netip.Addr) netip.Addr {
	b := [16]byte{0: 0xfe, 1: 0x80}
	v4 := a.As4()
	copy(b[12:], v4[:])
	return netip.AddrFrom16(b)
}

func hostTable() TableConfig {
	return TableConfig{
		Peers: []Peer{{Remote: peer4, Prefixes: []netip.Prefix{all}, Outer: encap.Outer{Src: ours4}}},
		Ours:  []netip.Prefix{netip.PrefixFrom(ours6, 128), netip.MustParsePrefix("2001:db8:aaaa::/64")},
	}
}

func hubTable(n int) TableConfig {
	c := TableConfig{Ours: hostTable().Ours}
	for i := range n {
		c.Peers = append(c.Peers, Peer{Remote: hubAddr(i), Prefixes: []netip.Prefix{hubPrefix(i)}, Outer: encap.Outer{Src: ours4}})
	}
	return c
}

// doubtful is a hub of three whose first peer has not shown where it is.
func doubtful() TableConfig {
	c := hubTable(3)
	c.Peers[0].Unproven, c.Self = true, ours6
	return c
}

func mustTable(t testing.TB, c TableConfig) *Table {
	t.Helper()
	table, err := NewTable(c)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// rig is an engine over queues. The kernel's side of its TUN is fromTUN and toTUN.
type rig struct {
	*Engine
	fromTUN, toTUN, fromWire, toWire *packettest.Queue
	log                              *records
}

// newRig completes cfg with queues.
func newRig(t testing.TB, cfg Config, table TableConfig) *rig {
	t.Helper()
	r := &rig{
		fromTUN: packettest.NewQueue(), toTUN: packettest.NewQueue(),
		fromWire: packettest.NewQueue(), toWire: packettest.NewQueue(),
		log: new(records),
	}
	cfg.Outbound = []Lane{{In: r.fromTUN, Out: r.toWire, Back: r.toTUN}}
	cfg.Inbound.In, cfg.Inbound.Out = r.fromWire, r.toTUN
	cfg.Logger = slog.New(r.log)
	r.Engine = mustNew(t, cfg, mustTable(t, table))
	return r
}

func mustNew(t testing.TB, cfg Config, table *Table) *Engine {
	t.Helper()
	if cfg.MTU == 0 {
		cfg.MTU = 1480
	}
	if !cfg.Source.IsValid() {
		cfg.Source = ours6
	}
	e, err := New(cfg, table)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// start runs the engine until the test ends, when Run has to return nil.
func (r *rig) start(t testing.TB) *rig {
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error)
	go func() { result <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-result; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r
}

// out lets the kernel send packets into the TUN and returns what is on the wire
// once all is quiet; in is the other way.
func (r *rig) out(packets ...[]byte) [][]byte {
	r.fromTUN.Push(packets...)
	synctest.Wait()
	return drain(r.toWire)
}

func (r *rig) in(packets ...[]byte) [][]byte {
	r.fromWire.Push(packets...)
	synctest.Wait()
	return drain(r.toTUN)
}

func drain(q *packettest.Queue) (all [][]byte) {
	for _, e := range q.Drain() {
		all = append(all, e.Bytes)
	}
	return all
}

// bubble is synctest.Test as a subtest: its clock stands still, and a goroutine
// that is left over fails it.
func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// wantDrops checks that there were these drops and no others.
func wantDrops(t testing.TB, e *Engine, want map[encap.Drop]uint64) {
	t.Helper()
	for d, n := range e.Stats().Drops {
		if n != want[encap.Drop(d)] {
			t.Errorf("%d packets counted as %v, want %d", n, encap.Drop(d), want[encap.Drop(d)])
		}
	}
}

func equalPackets(t testing.TB, what string, got [][]byte, want ...[]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d packets, want %d", what, len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("%s: packet %d is\n%s\nwant\n%s", what, i, hex.Dump(got[i]), hex.Dump(want[i]))
		}
	}
}

// udp returns a datagram whose data begins with the number i.
func udp(src, dst netip.Addr, i, size int) []byte {
	data := packettest.Pattern(i, max(size-48, 4))
	binary.BigEndian.PutUint32(data, uint32(i))
	return packettest.UDP(netip.AddrPortFrom(src, 4000), netip.AddrPortFrom(dst, 5000), data)
}

// numberOf is the number that udp put into the packet b.
func numberOf(b []byte) int { return int(binary.BigEndian.Uint32(b[48:])) }

func echo(src, dst netip.Addr) []byte {
	return packettest.ICMPv6(src, dst, 128, 0, []byte{0, 1, 0, 2, 'a', 'b', 'c'})
}

func solicitation(src, dst, target netip.Addr) []byte {
	a := target.As16()
	return packettest.ICMPv6(src, dst, 135, 0, append(make([]byte, 4), a[:]...))
}

// wrapped is inner as it comes from a peer.
func wrapped(from netip.Addr, inner []byte) []byte { return packettest.Outer(from, ours4, 1, inner) }

// records is a log handler that keeps "LEVEL message reason".
type records struct {
	mu    sync.Mutex
	lines []string
}

func (r *records) Enabled(context.Context, slog.Level) bool { return true }
func (r *records) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *records) WithGroup(string) slog.Handler            { return r }

func (r *records) Handle(_ context.Context, rec slog.Record) error {
	line := fmt.Sprint(rec.Level, " ", rec.Message)
	rec.Attrs(func(a slog.Attr) bool {
		if a.Key == "reason" {
			line += ": " + a.Value.String()
		}
		return true
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
	return nil
}

// take returns the lines since the last time.
func (r *records) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	return lines
}

// source is a Reader that asks a function for its batches. It ends the loop, as a
// closed reader does, when the function adds nothing.
type source func(b *packet.Batch)

func (f source) Close() error { return nil }

func (f source) Read(b *packet.Batch) error {
	b.Reset()
	f(b)
	if b.Len() == 0 {
		return os.ErrClosed
	}
	return nil
}

// feed makes a source of n packets that next appends to what it is given. It does
// not allocate after its first batch.
func feed(n int, next func(dst []byte) []byte) func(b *packet.Batch) {
	var slots [BatchSize][]byte
	for i := range slots {
		slots[i] = make([]byte, packet.Headroom, packet.Headroom+4096)
	}
	return func(b *packet.Batch) {
		for ; !b.Full() && n > 0; n-- {
			k := b.Len()
			slots[k] = next(slots[k][:packet.Headroom])
			b.Next().Set(slots[k], packet.Headroom, nil)
		}
	}
}

// sink is a Writer that gives each packet to a function and marks it with what
// that returns.
type sink func(p *packet.Packet) error

func (f sink) Write(b *packet.Batch) (n int, err error) {
	for i := range b.Packets {
		p := &b.Packets[i]
		if p.Err = f(p); p.Err == nil {
			n++
		} else if err == nil {
			err = p.Err
		}
	}
	return n, err
}

func swallow(*packet.Packet) error { return nil }

// loops returns an engine whose loops a test calls itself, one inbound and one
// outbound. What a lane leaves out is empty.
func loops(t testing.TB, cfg Config, table TableConfig, in, out Lane) *Engine {
	t.Helper()
	for _, l := range []*Lane{&in, &out} {
		if l.In == nil {
			l.In = source(func(*packet.Batch) {})
		}
		if l.Out == nil {
			l.Out = sink(swallow)
		}
	}
	cfg.Inbound, cfg.Outbound = in, []Lane{out}
	return mustNew(t, cfg, mustTable(t, table))
}
