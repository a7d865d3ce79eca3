package engine

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"sixin4/encap"
	"sixin4/encap/packet"
	"sixin4/encap/packettest"
)

// flood makes packets without allocating.
type flood struct {
	rnd   *rand.Rand
	outer bool     // outer packets, from the wire; else inner ones, from the TUN
	valid [][]byte // pass every check
}

// newFlood returns packets for an engine with hubTable(3), or with hostTable.
func newFlood(outer bool, table TableConfig) *flood {
	f := &flood{rnd: rand.New(rand.NewPCG(42, 13)), outer: outer}
	for i, p := range table.Peers {
		far := hubHost(i)
		if len(table.Peers) == 1 {
			far = other6
		}
		if !outer {
			f.valid = append(f.valid, solicitation(linkLocal4(ours4), linkLocal4(p.Remote), linkLocal4(p.Remote)))
			f.valid = append(f.valid, floodPackets(host6, far)...)
			continue
		}
		for _, b := range append(floodPackets(far, host6), solicitation(linkLocal4(p.Remote), linkLocal4(ours4), linkLocal4(ours4))) {
			f.valid = append(f.valid, wrapped(p.Remote, b))
		}
	}
	return f
}

// floodPackets are no longer than the smallest tunnel MTU.
func floodPackets(src, dst netip.Addr) [][]byte {
	return slices.DeleteFunc(append(innerPackets(src, dst), udp(src, dst, 3, 1280)), func(b []byte) bool { return len(b) > 1280 })
}

// random appends up to 255 bytes of noise to dst. Every second packet begins like
// one of its kind, and every fourth has a header that is right.
func (f *flood) random(dst []byte) []byte {
	n, kind, start := f.rnd.IntN(256), f.rnd.IntN(4), len(dst)
	for len(dst) < start+n {
		dst = binary.LittleEndian.AppendUint64(dst, f.rnd.Uint64())
	}
	dst = dst[:start+n]
	b := dst[start:]
	switch {
	case kind > 1 || n < 40:
	case !f.outer:
		b[0] = 0x60
		if kind == 1 {
			b[4], b[5] = 0, byte(n-40)
		}
	default:
		b[0] = 0x45
		if kind == 1 {
			b[2], b[3], b[6], b[7], b[9] = 0, byte(n), 0x40, 0, encap.ProtoIPv6
			copy(b[12:16], f.valid[0][12:16])
			fix4(b)
		}
	}
	return dst
}

// mutated appends a packet made of a valid one. Every second one is changed only
// where anything may stand, so that it passes; the others anywhere, in length too.
// dst has room for 4096 bytes.
func (f *flood) mutated(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, f.valid[f.rnd.IntN(len(f.valid))]...)
	b := dst[start:]
	if f.rnd.IntN(2) == 0 {
		f.harmless(b)
		return dst
	}
	for range 1 + f.rnd.IntN(4) {
		b[f.rnd.IntN(min(len(b), 100))] ^= 1 << f.rnd.IntN(8)
	}
	switch f.rnd.IntN(4) {
	case 0:
		b = b[:f.rnd.IntN(len(b))]
	case 1:
		b = append(b, b[:f.rnd.IntN(len(b))]...)
	}
	if f.outer && len(b) >= 20 && f.rnd.IntN(4) != 0 {
		fix4(b)
	}
	return dst[:start+len(b)]
}

// harmless changes what no check looks at.
func (f *flood) harmless(b []byte) {
	r, inner := f.rnd.Uint64(), 0
	if f.outer {
		b[4], b[5], b[8], b[1] = byte(r), byte(r>>8), byte(r>>16), b[1]&3|byte(r>>24)&^3
		fix4(b)
		inner = 20
	}
	b[inner+2], b[inner+3], b[inner+7], b[len(b)-1] = byte(r>>32), byte(r>>40), byte(r>>48), byte(r>>56)
}

// fix4 makes the checksum of an IPv4 header right.
func fix4(b []byte) {
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^packettest.Sum(b[:min(max(int(b[0]&15)*4, 20), len(b))]))
}

// faults are what a judge answers with in turn.
var faults = []error{syscall.ENOBUFS, syscall.EMSGSIZE, syscall.EPERM, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EIO, syscall.EINVAL}

// judge is a Writer that looks at each packet, and fails every hundredth.
type judge struct {
	t            testing.TB
	check        func(p *packet.Packet) bool
	seen, failed int
}

func (j *judge) lane() sink {
	return func(p *packet.Packet) error {
		if !j.check(p) {
			j.t.Errorf("written: % x", p.AppendTo(nil))
		}
		if j.seen++; j.seen%100 == 0 {
			j.failed++
			return faults[j.failed%len(faults)]
		}
		return nil
	}
}

// soundInner is what the TUN gets.
func soundInner(p *packet.Packet) bool {
	b := encap.IPv6(p.Head())
	return p.Payload == nil && b.Check() == encap.Forward && len(b) == 40+b.PayloadLen()
}

// soundOuter is what the wire gets, longest bytes at most.
func soundOuter(longest int) func(p *packet.Packet) bool {
	return func(p *packet.Packet) bool {
		b := encap.IPv4(p.Head())
		if len(b) < 20 || p.Len() > longest || b.TotalLen() != p.Len() || b.Protocol() != encap.ProtoIPv6 || b.Src4() != [4]byte{192, 0, 2, 1} {
			return false
		}
		return b.ID() != 0 && b.HeaderLen() == 20 && packettest.Sum(b[:20]) == 0xffff && (continues(p) || b[20]>>4 == 6)
	}
}

// addUp checks that every packet that a lane has read is in one counter, and that
// those of peers are the whole.
func addUp(t testing.TB, e *Engine, read ...int) {
	t.Helper()
	for i, l := range e.lanes {
		if got := l.total.packets.Load() + dropped(l); got != uint64(read[i]) {
			t.Errorf("lane %d: %d read, %d passed, %d dropped", i, read[i], l.total.packets.Load(), dropped(l))
		}
	}
	s := e.Stats()
	var tx, rx Count
	for _, p := range s.Peers {
		tx, rx = tx.plus(p.Tx), rx.plus(p.Rx)
	}
	if tx != s.Tx || rx != s.Rx {
		t.Errorf("peers have %+v and %+v, the engine %+v and %+v", tx, rx, s.Tx, s.Rx)
	}
}

// TestEngineSurvives pushes 1 000 000 random and 1 000 000 mutated packets through
// each loop: no panic, no allocation, nothing written that is not sound, and every
// packet in one counter. Half of the mutated ones pass, so that all was tested.
func TestEngineSurvives(t *testing.T) {
	n := 1_000_000
	if testing.Short() || raceEnabled {
		n /= 20
	}
	hub, host := hubTable(3), hostTable()
	for _, c := range []struct {
		name          string
		table         TableConfig
		outer, random bool
		wire          encap.WireMTU
		n, from, to   int // how many packets, and how many percent pass
	}{
		{"inbound, random", hub, true, true, 0, n, 0, 10},
		{"inbound, mutated", hub, true, false, 0, n, 50, 90},
		{"outbound, random", hub, false, true, 0, n, 0, 10},
		{"outbound, mutated", hub, false, false, 0, n, 50, 90},
		{"host inbound, random", host, true, true, 0, n / 10, 0, 20},
		{"host inbound, mutated", host, true, false, 0, n / 10, 50, 90},
		{"host outbound, random, small link", host, false, true, 576, n / 10, 10, 40},
		{"host outbound, mutated, small link", host, false, false, 576, n / 10, 50, 95},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFlood(c.outer, c.table)
			next := f.mutated
			if c.random {
				next = f.random
			}
			lane := Lane{In: source(feed(c.n, next)), Back: sink(swallow)}
			j := &judge{t: t, check: soundInner}
			if !c.outer {
				longest := 1300
				if c.wire != 0 {
					longest = int(c.wire)
				}
				j.check = soundOuter(longest)
			}
			lane.Out = j.lane()
			survive(t, c.table, c.wire, c.outer, lane, c.n, c.from, c.to)
		})
	}
}

func survive(t *testing.T, table TableConfig, wire encap.WireMTU, outer bool, lane Lane, n, from, to int) {
	cfg := Config{MTU: 1280, WireMTU: wire}
	var e *Engine
	var loop func() error
	read := []int{0, n}
	if outer {
		read = []int{n, 0}
		e = loops(t, cfg, table, lane, Lane{})
		loop = e.lanes[0].inbound
	} else {
		e = loops(t, cfg, table, Lane{}, lane)
		loop = e.lanes[1].outbound
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	loop()
	runtime.ReadMemStats(&after)
	addUp(t, e, read...)
	s := e.Stats()
	passed := int(s.Tx.Packets + s.Rx.Packets)
	if percent := passed * 100; percent < from*n || percent > to*n {
		t.Errorf("%d of %d packets passed", passed, n)
	}
	// The loop's own buffers, and the runtime's work now and then.
	if allocs := after.Mallocs - before.Mallocs; !raceEnabled && allocs > 1500 {
		t.Errorf("%d allocations for %d packets", allocs, n)
	}
	t.Log(passed, s.Drops, s.ICMPErrors, fmt.Sprint(s.Fragments, " fragments"))
}
