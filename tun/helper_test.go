package tun

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"sixin4/encap/packet"
)

// Everything here is written apart from the package on purpose: it is what the
// package is judged by.

// sum16 is RFC 1071's sum, two bytes at a time, not complemented.
func sum16(b []byte) uint16 {
	var s uint32
	for i, c := range b {
		if i%2 == 0 {
			s += uint32(c) << 8
		} else {
			s += uint32(c)
		}
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// found is what locate finds in a packet.
type found struct {
	proto  byte
	off    int // of the transport header
	data   int // of the payload
	check  int // of the checksum field
	dst    []byte
	pseudo []byte
}

// locate walks the headers of a sound packet. The address in a routing header
// with segments left is the one that counts (RFC 8200, Section 8.1).
func locate(b []byte) (f found, err error) {
	if len(b) < 40 || b[0]>>4 != 6 || len(b) != 40+int(b[4])<<8+int(b[5]) {
		return f, fmt.Errorf("no IPv6 packet of %d bytes: % x", len(b), b[:min(len(b), 40)])
	}
	f.proto, f.off, f.dst = b[6], 40, b[24:40]
	for f.proto == 0 || f.proto == 43 || f.proto == 60 {
		if len(b) < f.off+24 {
			return f, fmt.Errorf("headers go on behind the end")
		}
		if f.proto == 43 && b[f.off+3] > 0 {
			f.dst = b[f.off+8 : f.off+24]
		}
		f.proto, f.off = b[f.off], f.off+8+8*int(b[f.off+1])
	}
	switch {
	case f.proto == 6 && len(b) >= f.off+20:
		f.data, f.check = f.off+int(b[f.off+12]>>4)*4, f.off+16
	case f.proto == 17 && len(b) >= f.off+8:
		f.data, f.check = f.off+8, f.off+6
	default:
		return f, fmt.Errorf("protocol %d at %d of %d", f.proto, f.off, len(b))
	}
	if f.data > len(b) || f.data < f.check {
		return f, fmt.Errorf("%d bytes of headers in %d", f.data, len(b))
	}
	f.pseudo = slices.Concat(b[8:24], f.dst, make([]byte, 3), []byte{0, 0, 0, 0, f.proto})
	binary.BigEndian.PutUint32(f.pseudo[32:], uint32(len(b)-f.off))
	copy(f.pseudo[36:], []byte{0, 0, 0, f.proto})
	return f, nil
}

// setFull and setPartial store the checksum as it is on a wire, and as the
// kernel leaves it for others to complete.
func setFull(b []byte) []byte {
	f, err := locate(b)
	if err != nil {
		panic(err)
	}
	b[f.check], b[f.check+1] = 0, 0
	c := ^sum16(append(f.pseudo[:40:40], b[f.off:]...))
	if c == 0 && f.proto == 17 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b[f.check:], c)
	return b
}

func setPartial(b []byte) []byte {
	f, err := locate(b)
	if err != nil {
		panic(err)
	}
	binary.BigEndian.PutUint16(b[f.check:], sum16(f.pseudo[:40]))
	return b
}

// verify checks lengths and checksum of a packet.
func verify(b []byte) error {
	f, err := locate(b)
	if err != nil {
		return err
	}
	if f.proto == 17 && int(b[f.off+4])<<8+int(b[f.off+5]) != len(b)-f.off {
		return fmt.Errorf("UDP length %d in a packet with %d", int(b[f.off+4])<<8+int(b[f.off+5]), len(b)-f.off)
	}
	if s := sum16(append(f.pseudo[:40:40], b[f.off:]...)); s != 0xffff {
		return fmt.Errorf("checksum is wrong by %#04x", ^s)
	}
	return nil
}

// pattern is n bytes that show where they come from.
func pattern(n, from int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(from + i + (from+i)>>8*7)
	}
	return b
}

type edit = func(b []byte)

// ip6 puts an IPv6 header before the transport packet.
func ip6(proto byte, rest []byte) []byte {
	b := append(make([]byte, 40), rest...)
	b[0], b[6], b[7] = 0x60, proto, 64
	binary.BigEndian.PutUint16(b[4:], uint16(len(rest)))
	copy(b[8:], []byte{0x20, 0x01, 0x0d, 0xb8, 15: 1})
	copy(b[24:], []byte{0x20, 0x01, 0x0d, 0xb8, 15: 2})
	return b
}

// tcp6 builds a TCP packet with timestamps whose flags are ACK; edits come
// before the checksum.
func tcp6(seq uint32, payload []byte, edits ...edit) []byte {
	h := make([]byte, 32)
	binary.BigEndian.PutUint16(h, 4000)
	binary.BigEndian.PutUint16(h[2:], 5000)
	binary.BigEndian.PutUint32(h[4:], seq)
	binary.BigEndian.PutUint32(h[8:], 77)
	h[12], h[13], h[14], h[15] = 0x80, 0x10, 0x12, 0x34
	copy(h[20:], []byte{1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8})
	b := ip6(6, append(h, payload...))
	for _, e := range edits {
		e(b)
	}
	return setFull(b)
}

// udp6 builds a UDP packet.
func udp6(payload []byte, edits ...edit) []byte {
	h := make([]byte, 8)
	binary.BigEndian.PutUint16(h, 4000)
	binary.BigEndian.PutUint16(h[2:], 5000)
	binary.BigEndian.PutUint16(h[4:], uint16(8+len(payload)))
	b := ip6(17, append(h, payload...))
	for _, e := range edits {
		e(b)
	}
	return setFull(b)
}

// set is an edit that changes bytes from at on.
func set(at int, v ...byte) edit { return func(b []byte) { copy(b[at:], v) } }

// flags replaces the TCP flags.
func flags(f byte) edit { return set(40+13, f) }

// extend inserts extension headers, each given as its number and its bytes
// without the first, and makes the checksum right again.
func extend(b []byte, headers ...[]byte) []byte {
	proto, chain := b[6], []byte(nil)
	for i := len(headers) - 1; i >= 0; i-- {
		h := slices.Clone(headers[i])
		h[0], proto = proto, h[0]
		chain = append(h, chain...)
	}
	b = slices.Concat(b[:40], chain, b[40:])
	b[6] = proto
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return setFull(b)
}

// Extension headers for extend: the number stands where the next one's belongs.
var (
	hopByHop = []byte{0, 0, 1, 4, 0, 0, 0, 0}
	dstOpts  = []byte{60, 1, 0x1e, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	routing  = slices.Concat([]byte{43, 2, 2, 1, 0, 0, 0, 0}, []byte{0x20, 0x01, 0x0d, 0xb8, 9: 7, 15: 9})
)

// put makes p the packet b, cut into head and payload at n.
func put(p *packet.Packet, b []byte, n int) {
	n = min(n, len(b))
	p.Set(append(make([]byte, packet.Headroom), b[:n]...), packet.Headroom, nil)
	if n < len(b) {
		p.Payload = bytes.Clone(b[n:])
	}
}

// batchOf makes a batch of whole packets.
func batchOf(packets ...[]byte) *packet.Batch {
	b := packet.NewBatch(max(len(packets), 1))
	for _, raw := range packets {
		put(b.Next(), raw, len(raw))
	}
	return b
}

func whole(p *packet.Packet) []byte { return p.AppendTo(nil) }

// same fails the test where two lists of packets differ.
func same(t *testing.T, got, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d packets, want %d", len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("packet %d:\n got % x\nwant % x", i, got[i][:min(len(got[i]), 120)], want[i][:min(len(want[i]), 120)])
		}
	}
}
