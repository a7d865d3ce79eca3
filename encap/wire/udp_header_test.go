package wire

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"sixin4/encap/packet"
	"sixin4/encap/packettest"
)

// TestUDPHeader: the headers byte for byte, and their checksum for every length.
func TestUDPHeader(t *testing.T) {
	h := newUDPHeader(endpoint{[4]byte{192, 0, 2, 1}, 40000}, endpoint{[4]byte{198, 51, 100, 2}, 3653}, 0xb9)
	b := make([]byte, UDPHeaderLen)
	h.put(b, 100)
	want, err := hex.DecodeString("45b9008000000000" + "40110000" + "c0000201" + "c6336402" + "9c400e45006c0000")
	if err != nil {
		t.Fatal(err)
	}
	copy(want[10:12], b[10:12]) // is computed another way below
	if !bytes.Equal(b, want) {
		t.Errorf("% x\nwant % x", b, want)
	}
	for range 1000 {
		h := newUDPHeader(endpoint{[4]byte{byte(rand.Uint32()), byte(rand.Uint32())}, 1}, endpoint{[4]byte{255, 255, byte(rand.Uint32())}, 2}, byte(rand.Uint32()))
		n := rand.IntN(maxUDPPayload + 1)
		h.put(b, n)
		if packettest.Sum(b[:20]) != 0xffff || int(b[2])<<8|int(b[3]) != n+UDPHeaderLen {
			t.Fatalf("%d bytes: % x", n, b)
		}
		p := newPacket(b)
		if f, ok := flowOf(p); !ok || f.tos != b[1] || f.ttl != 64 || f.dst() != (endpoint{[4]byte(b[16:]), 2}) || f.src4() != [4]byte(b[12:]) {
			t.Fatalf("%+v of % x", f, b)
		}
	}
	if _, ok := flowOf(newPacket(b[:UDPHeaderLen-1])); ok {
		t.Error("headers that are not all there")
	}
	if _, ok := flowOf(newPacket(fromOuter1())); ok {
		t.Error("protocol 41 is no UDP")
	}
}

func fromOuter1() []byte { return packettest.Outer(outer1, outer2, 1, udp(10)) }

func TestUDPKind(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want udpKind
	}{
		"nothing":                 {"", udpJunk},
		"IPv6":                    {"\x60", udpData}, // the engine counts what is wrong with it
		"IPv6, flow label of 0xF": {"\x60\x00\x00\xf0\x00\x00\x00\x00", udpData},
		"IPv4":                    {"\x45\x00\x00\xf0\x00\x00\x00\x00", udpJunk},
		"control":                 {"\xf0\x00\x00\xf0\x00\x00\x00\x00VERSION=2.0.2", udpControl},
		"control, bare":           {"\xff\xff\xff\xff\x00\x00\x00\x00", udpControl},
		"control, little-endian":  {"\x01\x00\x00\xf0\x00\x00\x00\x00", udpControl},
		"control, cut":            {"\xf0\x00\x00\xf0\x00\x00\x00", udpJunk},
		"text":                    {"ECHO REQUEST", udpJunk},
	} {
		if got := kindOf([]byte(c.text)); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestHeadLen: the head has all headers, and of ordinary packets nothing else.
func TestHeadLen(t *testing.T) {
	withOptions := tcp(100)
	withOptions[40+12] = 0x80
	badOffset := tcp(100)
	badOffset[40+12] = 0x10
	long := behindOptions(udp(3000))
	for name, c := range map[string]struct {
		b    []byte
		want int
	}{
		"TCP": {tcp(100), 60}, "TCP with options": {withOptions, 72}, "UDP": {udp(100), 48},
		"TCP that lies": {badOffset, 160}, "extension header": {behindOptions(udp(100)), 156}, "a long one": {long, udpFront},
		"cut": {tcp(100)[:59], 59}, "cut UDP": {udp(1)[:47], 47}, "nothing": {nil, 0},
	} {
		if got := headLen(c.b); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// FuzzUDPHead: whatever arrives, head and payload are the datagram, with the head even
// where a payload follows.
func FuzzUDPHead(f *testing.F) {
	f.Add(tcp(10))
	f.Add(udp(0))
	f.Fuzz(func(t *testing.T, d []byte) {
		n := headLen(d)
		if n < 0 || n > len(d) || n > packet.Headroom+udpFront || n < len(d) && n%2 != 0 {
			t.Errorf("%d of %d bytes", n, len(d))
		}
		kindOf(d)
	})
}
