package tun

import (
	"encoding/binary"
	"testing"
)

// TestVnetHdrLayout pins the bytes of struct virtio_net_hdr in the byte order of
// the machine.
func TestVnetHdrLayout(t *testing.T) {
	h := vnetHdr{flags: 1, gsoType: gsoUDP, hdrLen: 0x0102, gsoSize: 0x0304, csumStart: 0x0506, csumOffset: 0x0708}
	var got, want [vnetLen]byte
	h.encode(got[:])
	want[0], want[1] = 1, 5
	for i, v := range []uint16{0x0102, 0x0304, 0x0506, 0x0708} {
		binary.NativeEndian.PutUint16(want[2+2*i:], v)
	}
	if got != want {
		t.Errorf("encoded % x, want % x", got, want)
	}
	var back vnetHdr
	if back.decode(got[:]); back != h {
		t.Errorf("decoded %+v, want %+v", back, h)
	}
}

func TestVnetDescribesPacket(t *testing.T) {
	for _, c := range []struct {
		name   string
		packet []byte
		seg    int
		want   vnetHdr
	}{
		{"TCP, one", tcp6(1, pattern(100, 0)), 0, vnetHdr{flags: 1, gsoType: 0, hdrLen: 72, csumStart: 40, csumOffset: 16}},
		{"TCP, several", tcp6(1, pattern(100, 0)), 30, vnetHdr{flags: 1, gsoType: 4, hdrLen: 72, gsoSize: 30, csumStart: 40, csumOffset: 16}},
		{"UDP, one", udp6(pattern(100, 0)), 0, vnetHdr{flags: 1, gsoType: 0, hdrLen: 48, csumStart: 40, csumOffset: 6}},
		{"UDP, several", udp6(pattern(100, 0)), 30, vnetHdr{flags: 1, gsoType: 5, hdrLen: 48, gsoSize: 30, csumStart: 40, csumOffset: 6}},
		{"TCP behind options", extend(tcp6(1, pattern(100, 0)), hopByHop), 30, vnetHdr{flags: 1, gsoType: 4, hdrLen: 80, gsoSize: 30, csumStart: 48, csumOffset: 16}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr, ok := findTransport(c.packet)
			if !ok {
				t.Fatal("no transport header found")
			}
			if got := tr.vnet(c.seg); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestFindTransport(t *testing.T) {
	short := func(n int) []byte { return tcp6(1, nil)[:n] }
	for _, c := range []struct {
		name string
		b    []byte
		ok   bool
		off  int
		hlen int
	}{
		{"TCP", tcp6(1, nil), true, 40, 72},
		{"UDP", udp6(nil), true, 40, 48},
		{"all extension headers", extend(udp6(nil), hopByHop, routing, dstOpts), true, 40 + 8 + 24 + 16, 40 + 48 + 8},
		{"ICMPv6", ip6(58, make([]byte, 20)), false, 0, 0},
		{"no next header", ip6(59, nil), false, 0, 0},
		{"fragment", ip6(44, append([]byte{6, 0, 0, 1, 0, 0, 0, 1}, tcp6(1, nil)[40:]...)), false, 0, 0},
		{"empty", nil, false, 0, 0},
		{"IPv6 header cut short", short(39), false, 0, 0},
		{"IPv4", append([]byte{0x45}, make([]byte, 60)...), false, 0, 0},
		{"TCP header cut short", short(59), false, 0, 0},
		{"TCP options cut short", short(71), false, 0, 0},
		{"TCP data offset under five", tcp6(1, nil, set(52, 0x40)), false, 0, 0},
		{"UDP header cut short", udp6(nil)[:47], false, 0, 0},
		{"extension header cut short", ip6(60, []byte{6, 0, 1}), false, 0, 0},
		{"extension header longer than the packet", ip6(60, []byte{6, 9, 1, 4, 0, 0, 0, 0}), false, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr, ok := findTransport(c.b)
			if ok != c.ok || ok && (tr.off != c.off || tr.hlen != c.hlen) {
				t.Errorf("%+v %t, want offset %d, headers of %d, %t", tr, ok, c.off, c.hlen, c.ok)
			}
		})
	}
}
