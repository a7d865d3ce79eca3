package wire

import (
	"testing"

	"sixin4/encap/packet"
)

// asking makes a connection at A for which the kernel is being asked already.
func asking(t *testing.T) (a *Conn, send func(packets ...[]byte)) {
	t.Helper()
	top := pair(t)
	a = listen(t, top.A, Config{Local: top.AddrA})
	mac := macOf(t, top.A, top.LinkA)
	send = func(packets ...[]byte) {
		t.Helper()
		inject(t, top.B, top.LinkB, mac, 60, packets...)
	}
	got := collector(a, 2)
	for i := range 2 {
		send(fromB(uint16(i+1), partial(tcp(i))))
		within(t, "packet", got)
	}
	return a, send
}

// undone is datagrams that leave their checksum to be done.
func undone(from, n int) (packets [][]byte) {
	for i := from; i < from+n; i++ {
		packets = append(packets, fromB(uint16(i+100), partial(udp(i%1000))))
	}
	return packets
}

// TestHintsAreInTime: the kernel's word about a packet is there when the packet
// is, however quick the reader.
func TestHintsAreInTime(t *testing.T) {
	a, send := asking(t)
	const count = 20_000
	got := collector(a, count)
	for i := 0; i < count; i += 50 {
		send(undone(i, 50)...)
		for range 50 {
			if r := within(t, "packet", got); r.err != nil || !r.part || r.seg != 0 {
				t.Fatalf("after %d packets: %v, partial %t, segments of %d", i, r.err, r.part, r.seg)
			}
		}
	}
}

// TestHintsBehindLongQueue: more packets wait than hints are remembered.
func TestHintsBehindLongQueue(t *testing.T) {
	a, send := asking(t)
	const count = 2000
	send(undone(0, count)...)
	b := packet.NewBatch(BatchSize)
	for n := 0; n < count; n += b.Len() {
		if err := a.Reader().Read(b); err != nil {
			t.Fatal(err)
		}
		for i := range b.Packets {
			if p := &b.Packets[i]; p.Err != nil || p.Sum != packet.SumPartial || p.Seg != 0 {
				t.Fatalf("packet %d: %v, sum %d, segments of %d", n+i, p.Err, p.Sum, p.Seg)
			}
		}
	}
}
