package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"testing"

	"sixin4/encap"
	"sixin4/encap/packet"
	"sixin4/encap/packettest"
)

// traffic is a Reader of everything that can come: sound packets, changed ones,
// noise, and packets that are only there to be counted. It ends when it is closed
// or has given out n packets.
type traffic struct {
	f      *flood
	fill   func(b *packet.Batch)
	bad    error // what Err some packets have
	read   atomic.Int64
	closed atomic.Bool
}

func newTraffic(outer bool, table TableConfig, seed uint64, n int, bad error) *traffic {
	r := &traffic{f: newFlood(outer, table), bad: bad}
	r.f.rnd = rand.New(rand.NewPCG(seed, 1))
	r.fill = feed(n, func(dst []byte) []byte {
		switch r.f.rnd.IntN(8) {
		case 0:
			return r.f.random(dst)
		case 1: // too long for the tunnel
			return append(dst, udpLong[r.f.rnd.IntN(len(udpLong))]...)
		}
		return r.f.mutated(dst)
	})
	return r
}

var udpLong = [][]byte{udp(host6, hubHost(0), 1, 1281), udp(host6, hubHost(1), 1, 3000), udp(host6, other6, 1, 3000)}

func (r *traffic) Read(b *packet.Batch) error {
	b.Reset()
	if r.closed.Load() {
		return os.ErrClosed
	}
	r.fill(b)
	b.Packets = b.Packets[:min(b.Len(), 1+r.f.rnd.IntN(BatchSize))] // what was cut off was never read
	if b.Len() == 0 {
		return os.ErrClosed
	}
	for i := range b.Packets {
		if r.f.rnd.IntN(50) == 0 {
			b.Packets[i].Err = r.bad
		}
	}
	r.read.Add(int64(b.Len()))
	return nil
}

func (r *traffic) Close() error {
	r.closed.Store(true)
	return nil
}

// TestCountersAddUp: packets of all kinds, both ways at once, with writers that
// fail: each packet that was read is in exactly one counter, each one that was
// written in the totals and in those of its peer, whose bytes are right too.
func TestCountersAddUp(t *testing.T) {
	const n = 20_000
	for _, c := range []struct {
		name  string
		table TableConfig
		wire  encap.WireMTU
		path  uint16 // of the first peer, learnt; 0: that of the link
	}{
		{"host", hostTable(), 0, 0}, {"hub", hubTable(3), 0, 0}, {"hub with a default peer", uplinkTable(), 0, 0},
		{"host, link of 1280", hostTable(), 1280, 0}, {"hub, link of 576", hubTable(3), 576, 0},
		{"host, path of 1200", hostTable(), 0, 1200}, {"hub, path of 576", hubTable(3), 0, 576},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := newTraffic(true, c.table, 1, n, packet.ErrSegmentUnknown)
			out := []*traffic{newTraffic(false, c.table, 2, n, packet.ErrMalformed), newTraffic(false, c.table, 3, n, packet.ErrMalformed)}
			longest := max(int(c.wire), 1300)
			if c.wire != 0 {
				longest = int(c.wire)
			}
			in0, out0, out1 := &judge{t: t, check: soundInner}, &judge{t: t, check: soundOuter(longest)}, &judge{t: t, check: soundOuter(longest)}
			var answers atomic.Uint64
			back := sink(func(p *packet.Packet) error {
				if !soundInner(p) {
					t.Errorf("answer: % x", p.AppendTo(nil))
				}
				answers.Add(1)
				return nil
			})
			e := mustNew(t, Config{
				MTU: 1280, WireMTU: c.wire,
				Inbound:  Lane{In: in, Out: in0.lane()},
				Outbound: []Lane{{In: out[0], Out: out0.lane(), Back: back}, {In: out[1], Out: out1.lane(), Back: back}},
			}, mustTable(t, c.table))
			if c.path != 0 {
				to := c.table.Peers[0]
				dst := to.Prefixes[0].Addr().Next()
				e.ICMP(icmp4(3, 4, c.path, packettest.Outer(ours4, to.Remote, 1, udp(host6, dst, 1, 1280)), 548))
			}
			for i, loop := range []func() error{e.lanes[0].inbound, e.lanes[1].outbound, e.lanes[2].outbound} {
				if err := loop(); err != os.ErrClosed {
					t.Errorf("loop %d: %v", i, err)
				}
			}
			addUp(t, e, int(in.read.Load()), int(out[0].read.Load()), int(out[1].read.Load()))
			s := e.Stats()
			if s.Rx.Packets != uint64(in0.seen-in0.failed) || s.ICMPErrors != answers.Load() || answers.Load() == 0 {
				t.Errorf("%d written to the TUN, %d answers: %+v", in0.seen-in0.failed, answers.Load(), s)
			}
			written := uint64(out0.seen + out1.seen - out0.failed - out1.failed)
			switch {
			case c.path != 0:
				if s.Fragments == 0 || s.Tx.Packets >= written {
					t.Errorf("%d written to the wire: %+v", written, s)
				}
			case c.wire == 0 && (s.Tx.Packets != written || s.Fragments != 0) || c.wire != 0 && s.Fragments != written:
				t.Errorf("%d written to the wire: %+v", written, s)
			}
			for _, d := range []encap.Drop{encap.DropTunMalformed, encap.DropMergedUDP, encap.DropTooBig, encap.DropInnerLength, encap.DropSendNoBufs, encap.DropTunDown} {
				if s.Drops[d] == 0 {
					t.Errorf("%v was not met", d)
				}
			}
		})
	}
}

// byRemote counts the packets that were sent to each peer.
type byRemote struct {
	packets map[[4]byte]uint64
	total   uint64
}

func (c *byRemote) sink() sink {
	return func(p *packet.Packet) error {
		c.packets[encap.IPv4(p.Head()).Dst4()]++
		c.total++
		return nil
	}
}

// swapped is the table of round i: peers 0 and 2 are always there, but at other
// places, while 1 and 3 come and go.
func swapped(i int) TableConfig {
	c := TableConfig{Ours: hostTable().Ours}
	for k := range 3 {
		if k == 1 || i>>k&1 == 0 {
			c.Peers = append(c.Peers, Peer{Remote: hubAddr(k + 1), Prefixes: []netip.Prefix{hubPrefix(k + 1)}, Outer: encap.Outer{Src: ours4}})
		}
	}
	always := Peer{Remote: hubAddr(0), Prefixes: []netip.Prefix{hubPrefix(0)}, Outer: encap.Outer{Src: ours4}}
	if i%2 == 0 {
		c.Peers = append(c.Peers, always)
	} else {
		c.Peers = append([]Peer{always}, c.Peers...)
	}
	return c
}

// TestSetTableUnderLoad: tables are swapped while packets flow both ways. A peer
// that stays keeps its counters and its place in the count of identifications, one
// that left begins anew, and no packet is uncounted.
func TestSetTableUnderLoad(t *testing.T) {
	endless := 1 << 40
	in, out := newTraffic(true, hubTable(4), 1, endless, nil), newTraffic(false, hubTable(4), 2, endless, nil)
	sent, ids, last := &byRemote{packets: map[[4]byte]uint64{}}, 0, uint16(0)
	count := sent.sink()
	var arrived uint64
	e := mustNew(t, Config{
		MTU:     1280,
		Inbound: Lane{In: in, Out: sink(func(*packet.Packet) error { arrived++; return nil })},
		Outbound: []Lane{{In: out, Out: sink(func(p *packet.Packet) error {
			if b := encap.IPv4(p.Head()); b.Dst4() == hubAddr(0).As4() {
				if last != 0 && b.ID() != encap.NextID(last) {
					ids++
				}
				last = b.ID()
			}
			return count(p)
		})}},
	}, mustTable(t, swapped(0)))
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- e.Run(ctx) }()
	rounds := 0
	for ; rounds < 100 || in.read.Load() < 30_000 || out.read.Load() < 30_000; rounds++ {
		e.SetTable(mustTable(t, swapped(rounds)))
		if s := e.Stats(); s.Tx.Packets > uint64(out.read.Load()) {
			t.Errorf("%d sent, %d read", s.Tx.Packets, out.read.Load())
		}
		runtime.Gosched()
	}
	e.SetTable(mustTable(t, swapped(0))) // all peers
	cancel()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	s := e.Stats()
	if got := s.Tx.Packets + dropped(e.lanes[1]); s.Tx.Packets != sent.total || got != uint64(out.read.Load()) {
		t.Errorf("outbound: %d read, %d in counters, %d of %d sent", out.read.Load(), got, s.Tx.Packets, sent.total)
	}
	if got := s.Rx.Packets + dropped(e.lanes[0]); s.Rx.Packets != arrived || got != uint64(in.read.Load()) {
		t.Errorf("inbound: %d read, %d in counters, %d of %d arrived", in.read.Load(), got, s.Rx.Packets, arrived)
	}
	for _, p := range s.Peers {
		n := sent.packets[p.Remote.As4()]
		stays := p.Remote == hubAddr(0) || p.Remote == hubAddr(2)
		if n == 0 || stays && p.Tx.Packets != n || p.Tx.Packets > n {
			t.Errorf("peer %v: %d counted, %d sent", p.Remote, p.Tx.Packets, n)
		}
	}
	if len(s.Peers) != 4 || ids != 0 {
		t.Errorf("%d peers, %d jumps of identifications", len(s.Peers), ids)
	}
	t.Log(fmt.Sprint(rounds, " tables, ", out.read.Load(), " packets out, ", in.read.Load(), " in"))
}

// TestSetTable in peace: what stays, what goes, and that the new rules hold.
func TestSetTable(t *testing.T) {
	bubble(t, "swap", func(t *testing.T) {
		r := newRig(t, Config{}, hubTable(2)).start(t)
		r.out(udp(host6, h0, 1, 100), udp(host6, h1, 1, 100))
		r.in(wrapped(p0, echo(h0, host6)), wrapped(p1, echo(h1, host6)))
		before := r.Stats()
		c := hubTable(3)
		c.Peers = []Peer{c.Peers[2], c.Peers[1]}
		r.SetTable(mustTable(t, c))
		r.out(udp(host6, h0, 1, 100), udp(host6, hubHost(2), 1, 100))
		r.in(wrapped(p0, echo(h0, host6)))
		wantDrops(t, r.Engine, map[encap.Drop]uint64{encap.DropNoPeer: 1, encap.DropNotPeer: 1})
		s := r.Stats()
		if len(s.Peers) != 2 || s.Peers[1].Tx != before.Peers[1].Tx || s.Peers[1].Rx != before.Peers[1].Rx || s.Peers[1].LastHeard != before.Peers[1].LastHeard {
			t.Errorf("before %+v, after %+v", before.Peers, s.Peers)
		}
		if s.Peers[0].Tx.Packets != 1 || s.Tx.Packets != 3 || s.Rx.Packets != 2 {
			t.Errorf("%+v", s)
		}
		want := packettest.Outer(ours4, p1, 2, udp(host6, h1, 1, 100))
		equalPackets(t, "identification goes on", r.out(udp(host6, h1, 1, 100)), want)
	})
}
