package encap

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"testing"

	"sixin4/encap/packet"
)

// flood makes packets without allocating. Each is valid until the next.
type flood struct {
	rnd    *rand.Rand
	valid  [][]byte // outer packets that pass every check
	buf    [packet.Headroom + 2048]byte
	packet packet.Packet
}

func newFlood(t testing.TB) *flood {
	f := &flood{rnd: rand.New(rand.NewPCG(4, 213))}
	for _, b := range seeds(t) {
		if _, d := Decap(newPacket(b)); d == Forward {
			f.valid = append(f.valid, b)
		}
	}
	return f
}

func (f *flood) set(n int) *packet.Packet {
	f.packet.Set(f.buf[:packet.Headroom+n], packet.Headroom, nil)
	return &f.packet
}

// random returns up to 255 bytes of noise. Every second packet begins like an
// IPv4 header, and every fourth has one that is right, with noise inside.
func (f *flood) random() *packet.Packet {
	n, kind := f.rnd.IntN(256), f.rnd.IntN(4)
	b := f.buf[packet.Headroom:][:n]
	for i := range b {
		b[i] = byte(f.rnd.Uint32())
	}
	if n < 20 || kind > 1 {
		return f.set(n)
	}
	b[0] = 0x45
	if kind == 1 {
		b[2], b[3], b[6], b[7], b[9] = 0, byte(n), 0x40, 0, ProtoIPv6
		f.fix(b)
	}
	return f.set(n)
}

// mutated returns a packet made of a valid one. Every second one is changed only
// where anything may stand, so that it passes; the others anywhere, in length
// too.
func (f *flood) mutated() *packet.Packet {
	b := f.buf[packet.Headroom:][:copy(f.buf[packet.Headroom:], f.valid[f.rnd.IntN(len(f.valid))])]
	if f.rnd.IntN(2) == 0 {
		return f.harmless(b)
	}
	for range 1 + f.rnd.IntN(4) {
		b[f.rnd.IntN(min(len(b), 100))] ^= 1 << f.rnd.IntN(8)
	}
	if f.rnd.IntN(4) == 0 {
		b = b[:f.rnd.IntN(len(b))]
	}
	if len(b) >= 20 && f.rnd.IntN(4) != 0 {
		f.fix(b)
	}
	return f.set(len(b))
}

// harmless changes identification, TTL, DSCP, the flow label, and the last byte.
func (f *flood) harmless(b []byte) *packet.Packet {
	r, inner := f.rnd.Uint64(), int(b[0]&15)*4
	b[4], b[5], b[8], b[1] = byte(r), byte(r>>8), byte(r>>16), b[1]&3|byte(r>>24)&^3
	b[inner+2], b[inner+3], b[len(b)-1] = byte(r>>32), byte(r>>40), byte(r>>48)
	f.fix(b)
	return f.set(len(b))
}

// fix is fix4 without the oracle's patience.
func (f *flood) fix(b []byte) {
	header := b[:min(max(int(b[0]&15)*4, 20), len(b))]
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^packet.Fold(packet.AddBytes(0, header)))
}

// TestDecapSurvives pushes 1 000 000 random and 1 000 000 mutated packets through
// Decap: no panic, no allocation, nothing passed that is not a sound IPv6 packet,
// and half of the mutated ones passed, so that all of it was tested. It takes a
// tenth of them with -short, and under the race detector, which is slow.
func TestDecapSurvives(t *testing.T) {
	n := 1_000_000
	if testing.Short() || raceEnabled {
		n /= 10
	}
	f := newFlood(t)
	for _, c := range []struct {
		name     string
		next     func() *packet.Packet
		from, to int // how many pass, in percent
	}{
		{"random", f.random, 0, 10},
		{"mutated", f.mutated, 50, 90},
	} {
		t.Run(c.name, func(t *testing.T) {
			var counts [NumDrops]int
			allocs := countAllocs(func() {
				for range n {
					counts[survive(t, c.next())]++
				}
			})
			if passed := counts[Forward] * 100; passed < c.from*n || passed > c.to*n {
				t.Errorf("%d of %d packets passed", counts[Forward], n)
			}
			// The runtime's own work may allocate now and then.
			if !raceEnabled && allocs > uint64(n/1000) {
				t.Errorf("%d allocations for %d packets", allocs, n)
			}
			t.Log(counts)
		})
	}
}

func survive(t *testing.T, p *packet.Packet) Drop {
	before := p.Len()
	_, d := Decap(p)
	if int(d) >= NumDrops {
		t.Fatalf("verdict %d", d)
	}
	if d != Forward {
		return d
	}
	if b := IPv6(p.Head()); b.Check() != Forward || len(b) != 40+b.PayloadLen() || p.Len() > before-20 || p.Off < packet.Headroom+20 {
		t.Fatalf("passed: % x", b)
	}
	return d
}

func countAllocs(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.Mallocs - before.Mallocs
}

// TestDecapAgainstOracle compares verdict and bytes for a part of the same flood,
// as the oracle is slow.
func TestDecapAgainstOracle(t *testing.T) {
	n := 100_000
	if testing.Short() || raceEnabled {
		n /= 4
	}
	f := newFlood(t)
	var seen [NumDrops]int
	for range n {
		for _, p := range []*packet.Packet{f.random(), f.mutated()} {
			b := bytes.Clone(p.Head())
			compareWithOracle(t, b)
			seen[oracleDecap(b).drop]++
		}
	}
	for d := DropOuterShort; d <= DropECN; d++ {
		if seen[d] == 0 && d != DropNotPeer {
			t.Errorf("the flood never meets %v", d)
		}
	}
}
