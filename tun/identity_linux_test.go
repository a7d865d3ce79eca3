package tun

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"sixin4/encap/packet"
)

// traffic makes a batch of several flows of all kinds, some of it damaged.
func traffic(r *rand.Rand, n int) *packet.Batch {
	seqs := [4]uint32{1, 0xfffff000, 5, 77}
	b := packet.NewBatch(n)
	for b.Len() < n {
		flow := r.IntN(8)
		size := []int{1000, 1000, 1000, 1000, 999, 1, 0, 1400}[r.IntN(8)]
		port := set(41, byte(flow))
		var raw []byte
		switch {
		case flow < 4:
			f := []byte{0x10, 0x10, 0x10, 0x10, 0x10, 0x18, 0x11, 0x50, 0x90}[r.IntN(9)]
			raw = tcp6(seqs[flow], pattern(size, int(seqs[flow])), port, flags(f))
			seqs[flow] += uint32(size)
		case flow < 7:
			raw = udp6(pattern(size, r.IntN(999)), port)
		default:
			raw = ip6(58, pattern(size, 0))
		}
		put(b.Next(), raw, len(raw))
		p := &b.Packets[b.Len()-1]
		damage(r, p)
		if f, err := locate(p.Head()); err == nil && r.IntN(3) == 0 { // as splitting leaves it
			n := min(f.data, len(p.Head()))
			p.Payload = p.Buf[p.Off+n:]
			p.Buf = p.Buf[: p.Off+n : p.Off+n]
		}
	}
	return b
}

// damage does to some packets what a network or a sender may do.
func damage(r *rand.Rand, p *packet.Packet) {
	h := p.Head()
	if _, err := locate(h); err != nil {
		return
	}
	switch r.IntN(12) {
	case 0:
		wrong(h)
	case 1, 2, 3:
		setPartial(h)
		p.Sum = packet.SumPartial
	case 4:
		h = extend(h, dstOpts)
		put(p, h, len(h))
	case 5:
		h[7]--
	}
}

// byFlow sorts packets by addresses, protocol and ports, in order within each.
func byFlow(packets [][]byte) map[string][][]byte {
	flows := map[string][][]byte{}
	for _, b := range packets {
		key := ""
		if len(b) >= 40 {
			key = string(b[8:40])
		}
		if f, err := locate(b); err == nil {
			key += string(f.proto) + string(b[f.off:f.off+4])
		}
		flows[key] = append(flows[key], b)
	}
	return flows
}

// checkJoin writes b and compares what comes out of the kernel's other side.
func checkJoin(t testing.TB, w *vnetWriter, k *kernel, b *packet.Batch) (joined bool) {
	t.Helper()
	var want [][]byte
	for i := range b.Packets {
		raw := whole(&b.Packets[i])
		if b.Packets[i].Sum == packet.SumPartial {
			setFull(raw)
		}
		want = append(want, raw)
	}
	k.writes = k.writes[:0]
	if n, err := w.Write(b); n != b.Len() || err != nil {
		t.Fatalf("wrote %d of %d, %v", n, b.Len(), err)
	}
	got, wanted := byFlow(k.packets()), byFlow(want)
	for key, packets := range wanted {
		if !slices.EqualFunc(got[key], packets, bytes.Equal) {
			t.Fatalf("flow % x: %d packets became %d others, or their order changed", key, len(packets), len(got[key]))
		}
	}
	if len(got) != len(wanted) {
		t.Fatalf("%d flows became %d", len(wanted), len(got))
	}
	return len(k.writes) < b.Len()
}

// TestSplitOfJoinIsIdentity: whatever is joined, the network stack sees the same
// packets, each flow in its order.
func TestSplitOfJoinIsIdentity(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 4))
	rounds, joined := 400, 0
	if testing.Short() {
		rounds = 50
	}
	var k kernel
	w := newTestWriter(t, &k)
	for range rounds {
		if checkJoin(t, w, &k, traffic(r, 1+r.IntN(BatchSize))) {
			joined++
		}
	}
	if joined < rounds*8/10 {
		t.Errorf("only %d of %d batches had anything to join", joined, rounds)
	}
}
