package tun

import (
	"testing"

	"sixin4/encap/packet"
)

// benchBatch is 44 segments of one flow, as a full batch from the wire has them.
func benchBatch() *packet.Batch {
	var packets [][]byte
	for i := range 44 {
		packets = append(packets, tcp6(uint32(1408*i), pattern(1408, i)))
	}
	return batchOf(packets...)
}

func bytesIn(b *packet.Batch) (n int64) {
	for i := range b.Packets {
		n += int64(b.Packets[i].Len())
	}
	return n
}

// BenchmarkJoin is what joining costs, without the write: most of it is looking
// at checksums, which partial ones save.
func BenchmarkJoin(b *testing.B) {
	for _, c := range []struct {
		name    string
		partial bool
	}{{"full checksums", false}, {"partial checksums", true}} {
		b.Run(c.name, func(b *testing.B) {
			k := kernel{discard: true}
			w := newTestWriter(b, &k)
			batch := benchBatch()
			for i := range batch.Packets {
				if c.partial {
					setPartial(batch.Packets[i].Head())
					batch.Packets[i].Sum = packet.SumPartial
				}
			}
			first := append([]byte(nil), batch.Packets[0].Head()[:72]...)
			b.SetBytes(bytesIn(batch))
			b.ReportAllocs()
			for b.Loop() {
				copy(batch.Packets[0].Head(), first)
				w.Write(batch)
			}
			if s := w.d.Stats(); s.Joined != 44*s.JoinedInto || s.Joined == 0 {
				b.Errorf("%+v: not all were joined", s)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*44), "ns/packet")
		})
	}
}

// BenchmarkSplit cuts a super-packet of 62 KiB into 44 packets.
func BenchmarkSplit(b *testing.B) {
	super := setPartial(tcp6(1, pattern(44*1408, 0)))
	var s splitter
	out, heads := packet.NewBatch(BatchSize), make([]byte, BatchSize*headRoom)
	b.SetBytes(int64(len(super)))
	b.ReportAllocs()
	for b.Loop() {
		s.begin(super, 1408, true)
		out.Reset()
		s.emit(out, heads)
	}
	if out.Len() != 44 {
		b.Errorf("%d packets, want 44", out.Len())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*44), "ns/packet")
}
