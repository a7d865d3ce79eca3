package tun

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"sixin4/encap/packet"
)

// cutUp splits super with batches of the given size and returns all packets.
func cutUp(t testing.TB, super []byte, seg int, partial bool, size int) [][]byte {
	t.Helper()
	var s splitter
	if !s.begin(super, seg, partial) {
		t.Fatal("not taken for a super-packet")
	}
	var out [][]byte
	b, heads := packet.NewBatch(size), make([]byte, size*headRoom)
	for s.more() {
		b.Reset()
		if n := s.emit(b, heads); n != b.Len() || n == 0 {
			t.Fatalf("emit said %d packets and left %d", n, b.Len())
		}
		for i := range b.Packets {
			out = append(out, whole(&b.Packets[i]))
		}
	}
	return out
}

// checkCut judges the packets that super was cut into: lengths, checksums,
// payload in a row, headers otherwise as they were.
func checkCut(t *testing.T, super []byte, seg int, got [][]byte) {
	t.Helper()
	f, err := locate(super)
	if err != nil {
		t.Fatal(err)
	}
	var payload []byte
	for i, b := range got {
		if err := verify(b); err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
		if n := len(b) - f.data; n != seg && (i != len(got)-1 || n > seg || n == 0) {
			t.Fatalf("packet %d of %d has %d bytes of payload, segments are %d", i, len(got), n, seg)
		}
		if f.proto == 6 {
			want := binary.BigEndian.Uint32(super[f.off+4:]) + uint32(len(payload))
			if seq := binary.BigEndian.Uint32(b[f.off+4:]); seq != want {
				t.Fatalf("packet %d: sequence number %d, want %d", i, seq, want)
			}
		}
		payload = append(payload, b[f.data:]...)
		if a, b := constant(super, f), constant(b, f); !bytes.Equal(a, b) {
			t.Fatalf("packet %d: headers changed:\n%x\n%x", i, a, b)
		}
	}
	if !bytes.Equal(payload, super[f.data:]) {
		t.Fatalf("payload differs: %d bytes, want %d", len(payload), len(super)-f.data)
	}
}

// constant returns the header bytes that every segment shares.
func constant(b []byte, f found) []byte {
	h := slices.Clone(b[:f.data])
	clear(h[4:6])
	clear(h[f.check : f.check+2])
	if f.proto == 6 {
		clear(h[f.off+4 : f.off+8])
		h[f.off+13] &^= 0x89 // CWR, PSH, FIN
	} else {
		clear(h[f.off+4 : f.off+6])
	}
	return h
}

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		name  string
		super []byte
		seg   int
		want  int // packets
	}{
		{"TCP, even", tcp6(1000, pattern(3000, 0)), 1000, 3},
		{"TCP, last one short", tcp6(1000, pattern(3001, 0)), 1000, 4},
		{"TCP, odd segments", tcp6(1000, pattern(4999, 0)), 999, 6},
		{"TCP, segments of one byte", tcp6(1000, pattern(9, 0)), 1, 9},
		{"TCP, one segment only", tcp6(1000, pattern(500, 0)), 1000, 1},
		{"TCP, as large as can be", tcp6(1000, pattern(65535-32, 0)), 1408, 47},
		{"TCP, sequence number wraps", tcp6(0xfffffff0, pattern(3000, 0)), 1000, 3},
		{"TCP, no options", tcp6(1, pattern(3000, 0), set(52, 0x50)), 1001, 3},
		{"TCP, all options", tcp6(1, pattern(3000, 0), set(52, 0xf0)), 1001, 3},
		{"UDP, even", udp6(pattern(3600, 0)), 1200, 3},
		{"UDP, last one short and odd", udp6(pattern(2411, 0)), 1200, 3},
		{"UDP, segments odd", udp6(pattern(2411, 0)), 1201, 3},
		{"UDP, datagrams of one byte", udp6(pattern(64, 0)), 1, 64},
		{"TCP, all bytes ff", tcp6(1, bytes.Repeat([]byte{0xff}, 3000)), 999, 4},
		{"UDP, all bytes zero", udp6(make([]byte, 3000)), 999, 4},
	} {
		for _, partial := range []bool{true, false} {
			name := c.name + ", full checksum"
			super := slices.Clone(c.super)
			if partial {
				name = c.name + ", partial checksum"
				setPartial(super)
			}
			t.Run(name, func(t *testing.T) {
				got := cutUp(t, super, c.seg, partial, 256)
				if len(got) != c.want && c.name != "TCP, all options" && c.name != "TCP, no options" {
					t.Errorf("%d packets, want %d", len(got), c.want)
				}
				checkCut(t, super, c.seg, got)
			})
		}
	}
}

// TestSplitExtensionHeaders: they are repeated in every packet, and where a
// routing header changes the address of the pseudo-header, the checksum still
// holds.
func TestSplitExtensionHeaders(t *testing.T) {
	for _, c := range []struct {
		name    string
		headers [][]byte
	}{
		{"hop-by-hop", [][]byte{hopByHop}},
		{"destination options", [][]byte{dstOpts}},
		{"routing header", [][]byte{routing}},
		{"all of them", [][]byte{hopByHop, dstOpts, routing, dstOpts}},
	} {
		for proto, plain := range map[string][]byte{"TCP": tcp6(5, pattern(2999, 0)), "UDP": udp6(pattern(2999, 0))} {
			t.Run(c.name+", "+proto, func(t *testing.T) {
				super := setPartial(extend(plain, c.headers...))
				checkCut(t, super, 1001, cutUp(t, super, 1001, true, 256))
			})
		}
	}
}

// TestSplitFlags: PSH and FIN go with the last byte, CWR with the first, the
// rest with all (RFC 9293, Section 3.9.1; RFC 3168, Section 6.1.2).
func TestSplitFlags(t *testing.T) {
	for _, c := range []struct {
		name                string
		in                  byte
		first, middle, last byte
	}{
		{"ACK", 0x10, 0x10, 0x10, 0x10},
		{"PSH", 0x18, 0x10, 0x10, 0x18},
		{"FIN", 0x11, 0x10, 0x10, 0x11},
		{"FIN and PSH", 0x19, 0x10, 0x10, 0x19},
		{"CWR", 0x90, 0x90, 0x10, 0x10},
		{"CWR and PSH", 0x98, 0x90, 0x10, 0x18},
		{"ECE stays", 0x50, 0x50, 0x50, 0x50},
		{"all", 0xd9, 0xd0, 0x50, 0x59},
	} {
		t.Run(c.name, func(t *testing.T) {
			super := setPartial(tcp6(1, pattern(3000, 0), flags(c.in)))
			got := cutUp(t, super, 1000, true, 256)
			checkCut(t, super, 1000, got)
			for i, want := range []byte{c.first, c.middle, c.last} {
				if f := got[i][53]; f != want {
					t.Errorf("packet %d has flags %#02x, want %#02x", i, f, want)
				}
			}
		})
	}
	t.Run("one segment keeps all", func(t *testing.T) {
		super := setPartial(tcp6(1, pattern(1000, 0), flags(0x99)))
		if f := cutUp(t, super, 1000, true, 256)[0][53]; f != 0x99 {
			t.Errorf("flags %#02x, want 0x99", f)
		}
	})
}

// TestSplitResumes: a super-packet larger than the batch goes on in the next one.
func TestSplitResumes(t *testing.T) {
	super := setPartial(tcp6(1, pattern(10_001, 0), flags(0x18)))
	want := cutUp(t, super, 100, true, 256)
	checkCut(t, super, 100, want)
	for _, size := range []int{1, 7, 100, 101} {
		same(t, cutUp(t, super, 100, true, size), want)
	}
}

func TestSplitRefuses(t *testing.T) {
	long := append([]byte{60, 250, 1, 12}, make([]byte, 8+250*8-4)...)
	for _, c := range []struct {
		name    string
		super   []byte
		seg     int
		partial bool
	}{
		{"segment size zero", tcp6(1, pattern(100, 0)), 0, true},
		{"segment size negative", tcp6(1, pattern(100, 0)), -1, true},
		{"ICMPv6", ip6(58, make([]byte, 100)), 10, true},
		{"cut short", tcp6(1, nil)[:50], 10, true},
		{"nothing", nil, 10, true},
		{"more headers than room", extend(tcp6(1, pattern(100, 0)), long), 10, true},
		{"routing header with a full checksum", extend(tcp6(1, pattern(100, 0)), routing), 10, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s splitter
			if s.begin(c.super, c.seg, c.partial) {
				t.Error("taken for a super-packet")
			}
		})
	}
}

// TestSplitCopiesNoPayload: payloads are views of the super-packet.
func TestSplitCopiesNoPayload(t *testing.T) {
	super := setPartial(udp6(pattern(3000, 0)))
	var s splitter
	s.begin(super, 1000, true)
	b := packet.NewBatch(4)
	s.emit(b, make([]byte, 4*headRoom))
	for i := range b.Packets {
		if got, want := &b.Packets[i].Payload[0], &super[48+1000*i]; got != want {
			t.Errorf("the payload of packet %d was copied", i)
		}
	}
}

// TestSplitBufferGoesOnAfterError: for writers whose device takes no merged
// packets, one part that fails costs no other.
func TestSplitBufferGoesOnAfterError(t *testing.T) {
	super := setPartial(udp6(pattern(64*100*2+50, 0)))
	p := batchOf(super).Packets[0]
	p.Seg, p.Sum = 100, packet.SumPartial
	var sb splitBuffer
	var got [][]byte
	err := sb.each(&p, func(part *packet.Packet) error {
		got = append(got, whole(part))
		if len(got) == 3 {
			return bytes.ErrTooLarge
		}
		return nil
	})
	if err != bytes.ErrTooLarge {
		t.Errorf("error %v, want that of the third part", err)
	}
	checkCut(t, super, 100, got)
	p.Seg = 0
	if err := sb.each(&p, func(*packet.Packet) error { return nil }); err != packet.ErrMalformed {
		t.Errorf("segment size 0: %v, want %v", err, packet.ErrMalformed)
	}
}

// TestComplete finishes partial checksums in packets of one and two pieces.
func TestComplete(t *testing.T) {
	for _, c := range []struct {
		name string
		b    []byte
		head int
	}{
		{"TCP", tcp6(1, pattern(999, 0)), 2000},
		{"TCP in two pieces", tcp6(1, pattern(999, 0)), 72},
		{"UDP", udp6(pattern(1000, 0)), 2000},
		{"UDP in two pieces", udp6(pattern(1001, 0)), 48},
		{"UDP whose sum is zero", zeroSum(), 2000},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := setFull(slices.Clone(c.b))
			var p packet.Packet
			put(&p, setPartial(c.b), c.head)
			p.Sum = packet.SumPartial
			if complete(&p); p.Sum != packet.SumFull {
				t.Error("still marked as partial")
			}
			same(t, [][]byte{whole(&p)}, [][]byte{want})
		})
	}
}

// zeroSum is a UDP packet whose checksum comes out as zero, which is sent as ffff.
func zeroSum() []byte {
	b := udp6([]byte{0, 0, 1, 2, 3, 4})
	c := binary.BigEndian.Uint16(b[46:])
	binary.BigEndian.PutUint16(b[48:], c) // what the checksum was, now in the data
	if setFull(b); b[46] != 0xff || b[47] != 0xff {
		panic("the sum is not zero")
	}
	return b
}
