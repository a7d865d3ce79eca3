package engine

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"sixin4/encap"
	"sixin4/encap/packet"
)

// manyPeers is a hub of n peers with a /64 each; outer addresses are whatever is
// unicast.
func manyPeers(n int) TableConfig {
	c := TableConfig{Ours: hostTable().Ours}
	for i := range n {
		a := [16]byte{0x20, 0x01, 0x0d, 0xb8, 0x10 + byte(i>>16), byte(i >> 8), byte(i), 15: 7}
		c.Peers = append(c.Peers, Peer{
			Remote:   netip.AddrFrom4([4]byte{198, 18 + byte(i>>16), byte(i >> 8), byte(i)}),
			Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom16(a), 64).Masked()},
			Outer:    encap.Outer{Src: ours4},
		})
	}
	return c
}

// The lookups go round through a thousand peers spread over the table, so that
// its memory is touched as by a hub's traffic.

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1, 1000, 100_000} {
		c := manyPeers(n)
		if n == 1 {
			c = hostTable()
		}
		table := mustTable(b, c)
		var in, out []encap.IPv6
		var from [][4]byte
		for i := range min(n, 1000) {
			p := c.Peers[i*(n/min(n, 1000))]
			far := p.Prefixes[0].Addr().Next()
			if n == 1 {
				far = other6
			}
			in, out, from = append(in, echo(far, host6)), append(out, echo(host6, far)), append(from, p.Remote.As4())
		}
		b.Run(fmt.Sprintf("outbound/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			k := 0
			for b.Loop() {
				if _, d := table.outbound(out[k]); d != encap.Forward {
					b.Fatal(d)
				}
				if k++; k == len(out) {
					k = 0
				}
			}
		})
		b.Run(fmt.Sprintf("inbound/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			k := 0
			for b.Loop() {
				if _, d := table.inbound(keyOf(from[k]), in[k]); d != encap.Forward {
					b.Fatal(d)
				}
				if k++; k == len(in) {
					k = 0
				}
			}
		})
	}
}

// BenchmarkTable is how long it takes to make a table, and how large it is.
func BenchmarkTable(b *testing.B) {
	for _, n := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := manyPeers(n)
			b.ReportAllocs()
			for b.Loop() {
				runtime.KeepAlive(mustTable(b, c))
			}
		})
	}
}

// perPacket runs a loop of an engine over copies of the packets, batch by batch.
// Copying into the slot is part of the figure, as a reader's work would be.
func perPacket(b *testing.B, cfg Config, table TableConfig, outer bool, packets [][]byte) {
	slots, k, over := make([][]byte, BatchSize), 0, false
	for i := range slots {
		slots[i] = make([]byte, packet.Headroom, packet.Headroom+2048)
	}
	lane := Lane{Out: sink(swallow), In: source(func(dst *packet.Batch) {
		for !over && !dst.Full() {
			if over = !b.Loop(); over {
				return
			}
			i := dst.Len()
			slots[i] = append(slots[i][:packet.Headroom], packets[k]...)
			dst.Next().Set(slots[i], packet.Headroom, nil)
			if k++; k == len(packets) {
				k = 0
			}
		}
	})}
	b.ReportAllocs()
	b.SetBytes(int64(len(packets[0])))
	var e *Engine
	if outer {
		e = loops(b, cfg, table, lane, Lane{})
		e.lanes[0].inbound()
	} else {
		e = loops(b, cfg, table, Lane{}, lane)
		e.lanes[1].outbound()
	}
	s := e.Stats()
	if lost := b.N - int(s.Tx.Packets+s.Rx.Packets); lost != 0 {
		b.Errorf("%d of %d packets lost", lost, b.N)
	}
}

func BenchmarkOutbound(b *testing.B) {
	for _, c := range []struct {
		name  string
		cfg   Config
		table TableConfig
		size  int
	}{
		{"host/1480", Config{}, hostTable(), 1480},
		{"host/100", Config{}, hostTable(), 100},
		{"hub1000/1480", Config{}, hubTable(1000), 1480},
		{"fragments/1280", Config{MTU: 1280, WireMTU: 1280}, hostTable(), 1280},
	} {
		b.Run(c.name, func(b *testing.B) {
			var packets [][]byte
			for i := range len(c.table.Peers) {
				packets = append(packets, udp(host6, hubHost(i), i, c.size))
			}
			perPacket(b, c.cfg, c.table, false, packets)
		})
	}
}

func BenchmarkInbound(b *testing.B) {
	for _, c := range []struct {
		name  string
		table TableConfig
		size  int
	}{
		{"host/1480", hostTable(), 1480}, {"host/100", hostTable(), 100}, {"hub1000/1480", hubTable(1000), 1480},
	} {
		b.Run(c.name, func(b *testing.B) {
			var packets [][]byte
			for i, p := range c.table.Peers {
				packets = append(packets, wrapped(p.Remote, udp(hubHost(i), host6, i, c.size)))
			}
			perPacket(b, Config{}, c.table, true, packets)
		})
	}
}

// BenchmarkPeers is what a packet costs in a hub with one peer and with many, all of
// which send and get in turn: as many different packets in both, so that only the table
// differs.
func BenchmarkPeers(b *testing.B) {
	const most = 20_000
	for _, n := range []int{1, most} {
		c := manyPeers(n)
		c.Hub, c.Self = true, ours6
		c.Blocked.TCP = []uint16{25}
		for i := range c.Peers {
			c.Peers[i].Rate = 1e12
		}
		var out, in [][]byte
		for i := range most {
			p := c.Peers[i*7919%n] // not in the order of the table
			far := p.Prefixes[0].Addr().Next()
			out = append(out, udp(host6, far, i, 100))
			in = append(in, wrapped(p.Remote, udp(far, host6, i, 100)))
		}
		b.Run(fmt.Sprintf("outbound/%d", n), func(b *testing.B) { perPacket(b, Config{}, c, false, out) })
		b.Run(fmt.Sprintf("inbound/%d", n), func(b *testing.B) { perPacket(b, Config{}, c, true, in) })
	}
}
