package encap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"sixin4/encap/packet"
)

// reassemble is RFC 791's reassembly with a bitmap, for fragments in any order;
// it fails the test for anything a receiver could complain about.
func reassemble(t testing.TB, fragments []packet.Packet) []byte {
	t.Helper()
	var data [65536]byte
	var seen [65536]bool
	end, id := -1, IPv4(whole(&fragments[0])).ID()
	for i := range fragments {
		b := IPv4(whole(&fragments[i]))
		flags := int(binary.BigEndian.Uint16(b[6:]))
		at, more := flags&0x1fff*8, flags&0x2000 != 0
		if d := b.Check(); d != Forward || b.TotalLen() != len(b) || b.ID() != id || b.DF() {
			t.Fatalf("fragment %d: %v, header % x", i, d, b[:20])
		}
		if more && (len(b)-20)%8 != 0 {
			t.Fatalf("fragment %d: %d bytes, and more follow", i, len(b)-20)
		}
		for j, x := range b[20:] {
			if seen[at+j] {
				t.Fatalf("byte %d comes twice", at+j)
			}
			data[at+j], seen[at+j] = x, true
		}
		if !more {
			end = at + len(b) - 20
		}
	}
	for i := range max(end, 0) {
		if !seen[i] {
			t.Fatalf("byte %d is missing", i)
		}
	}
	return data[:max(end, 0)]
}

// checkFragments cuts an inner packet, head bytes of which are in the head.
func checkFragments(t testing.TB, inner []byte, head int, mtu WireMTU, id uint16) {
	t.Helper()
	p, h := newSplit(inner, head), mustHeader(t, Outer{ClearDF: id%2 == 0})
	h.Encap(p, id)
	p.Mark = 5
	dst, room := packet.NewBatch(140), make([]byte, 140*packet.Headroom+head)
	rest, ok := Fragment(p, mtu, dst, room)
	if !ok {
		t.Fatalf("no room for %d fragments", dst.Len())
	}
	mtu = max(mtu, MinFragmentMTU)
	if n := len(inner) + 20; n <= int(mtu) {
		if dst.Len() != 1 || len(rest) != len(room) || !bytes.Equal(whole(&dst.Packets[0]), whole(p)) {
			t.Fatalf("%d bytes fit, but became %d fragments", n, dst.Len())
		}
		return
	}
	for i := range dst.Packets {
		f := &dst.Packets[i]
		if f.Len() > int(mtu) || i < dst.Len()-1 && f.Len() <= int(mtu)-8 || f.Mark != 5 || f.Sum != packet.SumFull {
			t.Errorf("fragment %d of %d: %d bytes for an MTU of %d, mark %d", i, dst.Len(), f.Len(), mtu, f.Mark)
		}
		if f.Off < packet.Headroom-HeaderLen {
			t.Errorf("fragment %d: headroom of %d", i, f.Off)
		}
	}
	equalBytes(t, "reassembled", reassemble(t, dst.Packets), inner)
}

func TestFragment(t *testing.T) {
	for _, mtu := range []WireMTU{0, 400, 552, 553, 559, 560, 576, 1280, 1299} {
		for _, n := range []int{500, 532, 533, 1280, 1500, 9000} {
			inner := udp6(ours6, peer6, pattern(n-48), full)
			for _, head := range []int{48, 60, min(527, n), min(528, n), min(529, n), min(1111, n), n} {
				t.Run(fmt.Sprintf("mtu %d, %d bytes, head %d", mtu, n, head), func(t *testing.T) {
					checkFragments(t, inner, head, mtu, 9)
				})
			}
		}
	}
	t.Run("longest", func(t *testing.T) {
		checkFragments(t, udp6(ours6, peer6, pattern(65515-48), full), 48, 552, 10)
	})
}

// TestFragmentRefuses: with too little room, or too few places in the batch,
// nothing has changed.
func TestFragmentRefuses(t *testing.T) {
	inner := udp6(ours6, peer6, pattern(2000), full)
	h := mustHeader(t, Outer{})
	for _, c := range []struct {
		name         string
		head         int
		places, room int
		ok           bool
	}{
		{"enough", 48, 4, 3 * packet.Headroom, true},
		{"room too small by one", 48, 4, 3*packet.Headroom - 1, false},
		{"one place too few", 48, 3, 1000, false},
		{"straddling, enough", 700, 4, 3*packet.Headroom + 172, true},
		{"straddling, too small by one", 700, 4, 3*packet.Headroom + 171, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newSplit(inner, c.head)
			h.Encap(p, 4)
			before := whole(p)
			dst := packet.NewBatch(c.places)
			rest, ok := Fragment(p, 552, dst, make([]byte, c.room))
			if ok != c.ok {
				t.Fatalf("ok = %v", ok)
			}
			if ok {
				if len(rest) != 0 {
					t.Errorf("%d bytes of room left", len(rest))
				}
				equalBytes(t, "reassembled", reassemble(t, dst.Packets), inner)
				return
			}
			if dst.Len() != 0 || len(rest) != c.room {
				t.Errorf("%d fragments, %d bytes of room left", dst.Len(), len(rest))
			}
			equalBytes(t, "packet", whole(p), before)
		})
	}
}

// TestFragmentsKeepApart: two packets share one room, and neither pushing a link
// header onto a fragment nor appending to it touches another.
func TestFragmentsKeepApart(t *testing.T) {
	h, dst, room := mustHeader(t, Outer{}), packet.NewBatch(8), make([]byte, 500)
	inner := udp6(ours6, peer6, pattern(1232), full)
	for id := range uint16(2) {
		p := newPacket(inner)
		h.Encap(p, id+1)
		var ok bool
		if room, ok = Fragment(p, 576, dst, room); !ok {
			t.Fatal("no room")
		}
	}
	for i := range dst.Packets {
		clear(dst.Packets[i].Push(14))
		dst.Packets[i].Pull(14)
		_ = append(dst.Packets[i].Buf, make([]byte, packet.Headroom)...)
	}
	if dst.Len() != 6 {
		t.Fatalf("%d fragments", dst.Len())
	}
	equalBytes(t, "first", reassemble(t, dst.Packets[:3]), inner)
	equalBytes(t, "second", reassemble(t, dst.Packets[3:]), inner)
}
