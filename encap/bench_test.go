package encap

import (
	"testing"

	"sixin4/encap/packet"
)

// The figure for bytes a second is what a loop of nothing else would move.

func benchmark(b *testing.B, n int, f func()) {
	b.ReportAllocs()
	b.SetBytes(int64(n))
	for b.Loop() {
		f()
	}
}

func BenchmarkEncap(b *testing.B) {
	p, h := newSplit(tcp6(ours6, peer6, pattern(1420), full), 60), mustHeader(b, Outer{})
	benchmark(b, p.Len(), func() {
		h.Encap(p, 1)
		p.Pull(HeaderLen)
	})
}

func benchmarkDecap(b *testing.B, outer []byte) {
	buf := append(make([]byte, packet.Headroom), outer...)
	var p packet.Packet
	var d Drop
	benchmark(b, len(outer), func() {
		p.Set(buf, packet.Headroom, nil)
		_, d = Decap(&p)
	})
	if d != Forward {
		b.Fatal(d)
	}
}

func BenchmarkDecap(b *testing.B) {
	inner := tcp6(peer6, ours6, pattern(1420), partial)
	b.Run("tcp", func(b *testing.B) { benchmarkDecap(b, ip4(peer4, inner)) })
	b.Run("merged", func(b *testing.B) { benchmarkDecap(b, ip4(peer4, tcp6(peer6, ours6, pattern(60000), partial))) })
	b.Run("udp64", func(b *testing.B) { benchmarkDecap(b, ip4(peer4, udp6(peer6, ours6, pattern(64), full))) })
	b.Run("icmp", func(b *testing.B) { benchmarkDecap(b, ip4(peer4, echo(peer6))) })
	b.Run("options", func(b *testing.B) { benchmarkDecap(b, withOptions(ip4(peer4, inner), []byte{1, 1, 1, 0})) })
	b.Run("extension", func(b *testing.B) { benchmarkDecap(b, ip4(peer4, extend(inner, 0, hopByHop...))) })
}

func BenchmarkFragment(b *testing.B) {
	p, h := newSplit(udp6(ours6, peer6, pattern(1232), full), 48), mustHeader(b, Outer{})
	batch, room := packet.NewBatch(4), make([]byte, 200)
	benchmark(b, p.Len(), func() {
		batch.Reset()
		h.Encap(p, 1)
		Fragment(p, 1296, batch, room)
		p.Pull(HeaderLen)
	})
}

func BenchmarkCompleteSum(b *testing.B) {
	p := newSplit(tcp6(ours6, peer6, pattern(1420), partial), 60)
	benchmark(b, p.Len(), func() {
		p.Sum = packet.SumPartial
		CompleteSum(p)
	})
}

func BenchmarkAppendPacketTooBig(b *testing.B) {
	p, dst := newPacket(udp6(ours6, peer6, pattern(1452), full)), make([]byte, 0, 1280)
	benchmark(b, 1280, func() { AppendPacketTooBig(dst, 1280, router, p) })
}

// BenchmarkChecks is what a packet costs more that is neither a SYN nor in a tunnel.
func BenchmarkChecks(b *testing.B) {
	var table Sent = sent
	p := newSplit(tcp6(ours6, peer6, pattern(1420), full), 60)
	b.Run("ClampMSS", func(b *testing.B) { benchmark(b, p.Len(), func() { ClampMSS(p, 1220) }) })
	b.Run("ClampMSS of a SYN", func(b *testing.B) {
		opening := newPacket(syn(2, usual(9000), nil, full))
		benchmark(b, opening.Len(), func() {
			opening.Head()[62] = 9
			ClampMSS(opening, 1220)
		})
	})
	b.Run("CheckNesting", func(b *testing.B) { benchmark(b, p.Len(), func() { CheckNesting(p, DefaultNesting, table) }) })
	b.Run("Mapping", func(b *testing.B) {
		inner := IPv6(udp6(ours6, "2002:cb00:7105::1", nil, full))
		benchmark(b, p.Len(), func() { map6to4.Outbound(inner) })
	})
}
