//go:build !race

package engine

import (
	"iter"
	"net/netip"
	"testing"

	"sixin4/encap"
	"sixin4/encap/packet"
	"sixin4/encap/packettest"
)

// The race detector allocates on its own, so that this file is left out there.

// step returns a function that lets a loop of an engine work on one batch, which
// fill makes, up to where it asks for the next.
func step(t testing.TB, cfg Config, table TableConfig, outer bool, lane Lane, fill func(b *packet.Batch)) (next func(), e *Engine) {
	t.Helper()
	resume, stop := iter.Pull(func(yield func(struct{}) bool) {
		lane.In = source(func(b *packet.Batch) {
			if yield(struct{}{}) {
				fill(b)
			}
		})
		if outer {
			e = loops(t, cfg, table, lane, Lane{})
			e.lanes[0].inbound()
		} else {
			e = loops(t, cfg, table, Lane{}, lane)
			e.lanes[1].outbound()
		}
	})
	t.Cleanup(stop)
	resume() // up to the first Read
	return func() { resume() }, e
}

// TestNoAllocations: at steady state a whole batch goes through each loop without
// one, whatever is in it.
func TestNoAllocations(t *testing.T) {
	hub := hubTable(1000)
	mixed := func(outer bool) func(i int) []byte {
		f := newFlood(outer, hubTable(3))
		return func(int) []byte { return f.mutated(make([]byte, 0, 4096)) }
	}
	limited := hubTable(1000)
	limited.Blocked.TCP = []uint16{25}
	for i := range limited.Peers {
		limited.Peers[i].Rate = []int64{1000, 1e10}[i%2]
	}
	refused := limited
	refused.Blocked.UDP = []uint16{5000}
	m, err := encap.Map6to4(ours4)
	if err != nil {
		t.Fatal(err)
	}
	mapped := hubTable(1000)
	mapped.Peers = append(mapped.Peers, mappedPeer(m, of6to4))
	for _, c := range []struct {
		name  string
		cfg   Config
		table TableConfig
		outer bool
		out   sink
		make  func(i int) []byte
		some  bool // not everything passes
		icmp  []byte
	}{
		{"inbound, host", Config{}, hostTable(), true, swallow, func(i int) []byte { return wrapped(peer4, udp(other6, host6, i, 1480)) }, false, nil},
		{"inbound, hub", Config{}, hub, true, swallow, func(i int) []byte { return wrapped(hubAddr(i), udp(hubHost(i), host6, i, 1480)) }, false, nil},
		{"inbound, mixed", Config{}, hub, true, swallow, mixed(true), true, nil},
		{"inbound, TUN fails", Config{}, hub, true, everyThird(), func(i int) []byte { return wrapped(hubAddr(i), udp(hubHost(i), host6, i, 100)) }, true, nil},
		{"inbound, limited", Config{}, limited, true, swallow, func(i int) []byte { return wrapped(hubAddr(i%4), udp(hubHost(i%4), host6, i, 1480)) }, true, nil},
		{"inbound, blocked", Config{}, refused, true, swallow, func(i int) []byte { return wrapped(hubAddr(i), udp(hubHost(i), host6, i, 1480)) }, true, nil},
		{"outbound, limited", Config{}, limited, false, swallow, func(i int) []byte { return udp(host6, hubHost(i%4), i, 1480) }, true, nil},
		{"outbound, host", Config{}, hostTable(), false, swallow, func(i int) []byte { return udp(host6, other6, i, 1480) }, false, nil},
		{"outbound, hub", Config{}, hub, false, swallow, func(i int) []byte { return udp(host6, hubHost(i), i, 1480) }, false, nil},
		{"outbound, mixed", Config{}, hub, false, swallow, mixed(false), true, nil},
		{"outbound, wire fails", Config{}, hub, false, everyThird(), func(i int) []byte { return udp(host6, hubHost(i), i, 100) }, true, nil},
		{"outbound, no peer and too big", Config{}, hub, false, swallow, func(i int) []byte { return udp(host6, []netip.Addr{other6, h0}[i%2], i, 1500) }, true, nil},
		{name: "inbound, SYN", table: hostTable(), outer: true, out: swallow, make: func(i int) []byte { return wrapped(peer4, syn(other6, host6, 1440)) }},
		{name: "outbound, SYN", table: hostTable(), out: swallow, make: func(i int) []byte { return syn(host6, other6, 1440) }},
		{name: "outbound, nested", table: hostTable(), out: swallow, make: func(i int) []byte { return in41(3, udp(host6, other6, i, 100)) }},
		{name: "outbound, mapped", table: mapped, out: swallow, make: func(i int) []byte { return udp(own6to4, site6, i, 1480) }},
		{name: "inbound, mapped", table: mapped, outer: true, out: swallow, make: func(i int) []byte { return wrapped(site4, udp(site6, own6to4, i, 1480)) }},
		{name: "outbound, a path of 1200", table: hostTable(), out: swallow, make: func(i int) []byte { return udp(host6, other6, i, 1200+i%2*100) }, some: true, icmp: fragNeeded(1200)},
		{"outbound, fragments", Config{MTU: 1280, WireMTU: 576}, hub, false, swallow, func(i int) []byte { return udp(host6, hubHost(i), i, 1280) }, false, nil},
	} {
		var batch [][]byte
		for i := range BatchSize {
			batch = append(batch, c.make(i))
		}
		i := 0
		one := func(dst []byte) []byte { i++; return append(dst, batch[i%BatchSize]...) }
		next, e := step(t, c.cfg, c.table, c.outer, Lane{Out: c.out, Back: sink(swallow)}, feed(1<<40, one))
		if c.icmp != nil {
			e.ICMP(c.icmp)
		}
		next() // buffers that are made when they are needed, and logs
		next()
		if n := testing.AllocsPerRun(50, next); n != 0 {
			t.Errorf("%s: %v allocations for a batch", c.name, n)
		}
		s, read := e.Stats(), 53*BatchSize // AllocsPerRun has a run of its own before
		if c.outer {
			addUp(t, e, read, 0)
		} else {
			addUp(t, e, 0, read)
		}
		if passed := s.Tx.Packets + s.Rx.Packets; (passed < uint64(read)) != c.some {
			t.Errorf("%s: %d packets passed; %v", c.name, passed, s.Drops)
		}
	}
}

func everyThird() sink {
	i := 0
	return func(*packet.Packet) error { i++; return []error{nil, nil, faults[i%len(faults)]}[i%3] }
}

// TestNoAllocationsUDP: the same over UDP, with echo replies that are told.
func TestNoAllocationsUDP(t *testing.T) {
	table := behindNAT()
	from := netip.AddrPortFrom(hubAddr(0), 4000)
	reply := packettest.ICMPv6(hubHost(1), host6, 129, 0, make([]byte, 20))
	for name, c := range map[string]struct {
		outer bool
		make  func(i int) []byte
	}{
		"inbound":  {true, func(i int) []byte { return overUDP(from, 0, [][]byte{udp(hubHost(1), host6, i, 1472), reply}[i%2]) }},
		"outbound": {false, func(i int) []byte { return udp(host6, hubHost(1+i%2), i, 1472) }},
	} {
		told := 0
		cfg := Config{Replies: func(encap.IPv6, int) { told++ }}
		var batch [][]byte
		for i := range BatchSize {
			batch = append(batch, c.make(i))
		}
		i := 0
		one := func(dst []byte) []byte { i++; return append(dst, batch[i%BatchSize]...) }
		next, e := step(t, cfg, table, c.outer, Lane{Out: sink(swallow), Back: sink(swallow), UDP: true}, feed(1<<40, one))
		next()
		if n := testing.AllocsPerRun(50, next); n != 0 {
			t.Errorf("%s: %v allocations for a batch", name, n)
		}
		if s := e.Stats(); s.Tx.Packets+s.Rx.Packets < 50*BatchSize || c.outer != (told > 0) {
			t.Errorf("%s: %+v, %d told", name, s, told)
		}
	}
}
