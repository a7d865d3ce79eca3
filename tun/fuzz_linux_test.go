package tun

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"sixin4/encap/packet"
)

// FuzzSplit: whatever the kernel says of a packet, splitting never panics, and
// what it cuts adds up to what there was.
func FuzzSplit(f *testing.F) {
	for _, b := range [][]byte{
		tcp6(1, pattern(80, 0)), udp6(pattern(79, 0)), extend(tcp6(9, pattern(99, 0), flags(0x99)), routing, hopByHop),
		ip6(58, nil), tcp6(1, nil)[:50],
	} {
		f.Add(b, uint16(20), true)
		f.Add(b, uint16(33), false)
	}
	f.Fuzz(func(t *testing.T, super []byte, seg uint16, partial bool) {
		if len(super) > maxTotal || int(seg)*64 < len(super) {
			return // not more packets than anybody has time for
		}
		var s splitter
		if !s.begin(super, int(seg), partial) {
			return
		}
		var payload []byte
		for _, b := range cutUp(t, super, int(seg), partial, 16) {
			if len(b) > s.t.hlen+int(seg) || int(binary.BigEndian.Uint16(b[4:]))+40 != len(b) {
				t.Fatalf("a packet of %d bytes from segments of %d", len(b), seg)
			}
			payload = append(payload, b[s.t.hlen:]...)
			if err := verify(b); err != nil && !partial {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(payload, super[s.t.hlen:]) {
			t.Fatal("payload changed")
		}
	})
}

// parse cuts fuzzed bytes into packets: each is two bytes, a flag byte and the
// length of what follows in units of eight, and then its own bytes.
func parse(data []byte) *packet.Batch {
	b := packet.NewBatch(BatchSize)
	for len(data) >= 2 && !b.Full() {
		kind, n := data[0], min(int(data[1])*8, len(data)-2)
		raw := slices.Clone(data[2 : 2+n])
		data = data[2+n:]
		if kind&1 != 0 && len(raw) >= 40 { // make it sound
			raw[0] = 0x60 | raw[0]&15
			binary.BigEndian.PutUint16(raw[4:], uint16(len(raw)-40))
			if kind&2 != 0 {
				raw[6] = 6
				if len(raw) < 60 || int(raw[52]>>4)*4 > len(raw)-40 || raw[52] < 0x50 {
					raw = tcp6(1, raw)
				}
				setFull(raw)
			}
		}
		p := b.Next()
		put(p, raw, len(raw))
		if f, err := locate(raw); err == nil && kind&4 != 0 && kind&2 != 0 && f.proto == 6 {
			setPartial(p.Head())
			p.Sum = packet.SumPartial
		}
	}
	return b
}

func unparse(packets ...[]byte) (data []byte) {
	for _, b := range packets {
		data = append(append(data, 0, byte(len(b)/8)), b[:len(b)&^7]...)
	}
	return data
}

// FuzzJoin: whatever is joined comes out of the kernel's other side as it was.
func FuzzJoin(f *testing.F) {
	f.Add(unparse(tcp6(0, pattern(96, 0)), tcp6(96, pattern(96, 0)), tcp6(192, pattern(96, 0), flags(0x18))))
	f.Add(unparse(udp6(pattern(96, 0)), udp6(pattern(96, 0)), udp6(pattern(48, 0)), udp6(pattern(96, 0))))
	f.Add(append(unparse(seg(0), seg(1)), 7, 12, 0x60, 1, 2, 3))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := parse(data)
		var k kernel
		w := newTestWriter(t, &k)
		if b.Len() > 0 {
			checkJoin(t, w, &k, b)
		}
	})
}
