package encap

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"sixin4/encap/packet"
)

// encapped returns the outer packet that o makes of inner.
func encapped(t *testing.T, o Outer, id uint16, inner []byte) IPv4 {
	t.Helper()
	p, h := newPacket(inner), mustHeader(t, o)
	h.Encap(p, id)
	b := IPv4(whole(p))
	if d := b.Check(); d != Forward {
		t.Fatalf("the outer packet is refused: %v", d)
	}
	equalBytes(t, "inner packet", b[HeaderLen:], inner)
	return b
}

// innerWith returns a packet with the traffic class and hop limit.
func innerWith(class, hop byte) []byte {
	b := udp6(ours6, peer6, pattern(33), full)
	b[0], b[1], b[7] = 6<<4|class>>4, class<<4|0x0a, hop
	return b
}

// The rows of the table of outbound cases that are about bytes.

func TestOutboundOuterTTL(t *testing.T) {
	cases := []struct {
		name      string
		outer     Outer
		hop, want byte
	}{
		{"default is 64", Outer{}, 7, 64},
		{"fixed 1", Outer{TTL: 1}, 7, 1},
		{"fixed 255", Outer{TTL: 255}, 7, 255},
		{"inherit 7", Outer{InheritTTL: true}, 7, 7},
		{"inherit 255", Outer{InheritTTL: true}, 255, 255},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := encapped(t, c.outer, 1, innerWith(0, c.hop)).TTL(); got != c.want {
				t.Errorf("TTL %d, want %d", got, c.want)
			}
		})
	}
}

func TestOutboundDSCPAndECN(t *testing.T) {
	const ef = 46 << 2
	cases := []struct {
		name  string
		outer Outer
		dscp  func(inner byte) byte
	}{
		{"DSCP/ECN, default", Outer{}, func(byte) byte { return 0 }},
		{"tos fixed", Outer{DSCP: ef}, func(byte) byte { return ef }},
		{"tos inherit", Outer{InheritDSCP: true}, func(inner byte) byte { return inner & 0xfc }},
	}
	for _, c := range cases {
		for class := range 256 {
			want := c.dscp(byte(class)) | byte(class)&3
			t.Run(fmt.Sprintf("%s/%#02x", c.name, class), func(t *testing.T) {
				if got := encapped(t, c.outer, 1, innerWith(byte(class), 64)).TOS(); got != want {
					t.Errorf("TOS %#02x, want %#02x", got, want)
				}
			})
		}
	}
}

func TestOutboundDFAndIdentification(t *testing.T) {
	for _, id := range []uint16{1, 2, 0x1234, 65535} {
		df := encapped(t, Outer{}, id, innerWith(0, 64))
		clear := encapped(t, Outer{ClearDF: true}, id, innerWith(0, 64))
		if !df.DF() || clear.DF() || df.Fragment() || clear.Fragment() {
			t.Errorf("id %d: DF %v by default and %v with ClearDF", id, df.DF(), clear.DF())
		}
		if df.ID() != id || clear.ID() != id {
			t.Errorf("identification %d and %d, want %d", df.ID(), clear.ID(), id)
		}
	}
}

func TestOutboundHeaderFields(t *testing.T) {
	for _, n := range []int{40, 41, 1280, 1480, 65515} {
		b := encapped(t, Outer{}, 9, ip6(ours6, peer6, 59, pattern(n-40)))
		if b.TotalLen() != n+20 || b.HeaderLen() != 20 || b.Protocol() != 41 || b.Src() != ours || b.Dst() != peer {
			t.Errorf("inner length %d: header % x", n, b[:20])
		}
	}
}

func TestOutboundHeadAndPayload(t *testing.T) {
	inner := tcp6(ours6, peer6, pattern(1000), full)
	p, h := newSplit(inner, 60), mustHeader(t, Outer{})
	h.Encap(p, 3)
	want := encapped(t, Outer{}, 3, inner)
	equalBytes(t, "outer packet", whole(p), want)
	if len(p.Head()) != 80 || p.Off != packet.Headroom-HeaderLen {
		t.Errorf("head of %d bytes at %d", len(p.Head()), p.Off)
	}
}

// TestEncapChecksumEveryWord walks through values that carry in each of the
// words that are summed per packet.
func TestEncapChecksumEveryWord(t *testing.T) {
	pairs := [][2]string{{ours4, peer4}, {"223.255.255.255", "126.255.255.255"}, {"1.0.0.0", "1.0.0.1"}}
	for _, pair := range pairs {
		h := mustHeader(t, Outer{
			Src: netip.MustParseAddr(pair[0]), Dst: netip.MustParseAddr(pair[1]),
			InheritTTL: true, InheritDSCP: true,
		})
		p := newPacket(innerWith(0, 0))
		for id := 0; id <= 65535; id++ {
			p.Head()[1], p.Head()[7] = byte(id), byte(id>>4)
			h.Encap(p, uint16(id))
			if oracleSum(p.Head()[:20]) != 65535 {
				t.Fatalf("%v, id %d: wrong checksum in % x", pair, id, p.Head()[:20])
			}
			p.Pull(HeaderLen)
		}
	}
}

func TestOutboundMTUOfTheTunnel(t *testing.T) {
	cases := []struct {
		wire WireMTU
		want TunMTU
	}{
		{-1, 1280}, {0, 1280}, {576, 1280}, {1299, 1280}, {1300, 1280}, {1301, 1281},
		{1500, 1480}, {9000, 8980}, {65535, 65515}, {65536, 65515}, {1 << 30, 65515},
	}
	for _, c := range cases {
		if got := c.wire.Tun(); got != c.want {
			t.Errorf("wire %d: tunnel %d, want %d", c.wire, got, c.want)
		}
	}
	for _, m := range []TunMTU{MinTunMTU, 1480, MaxTunMTU} {
		if got := m.Wire(); int(got) != int(m)+20 || got.Tun() != m {
			t.Errorf("tunnel %d: wire %d, and back %d", m, got, got.Tun())
		}
	}
}

func TestOutboundPacketOverTheMTU(t *testing.T) {
	inner := udp6("2001:db8:2::9", "2001:db8:3::9", pattern(1452), full)
	from := netip.MustParseAddr(ours6)
	b := IPv6(AppendPacketTooBig(nil, WireMTU(1500).Tun(), from, newPacket(inner)))
	if len(b) != 1280 || b.Check() != Forward || b.Src() != from || b.Dst() != IPv6(inner).Src() {
		t.Fatalf("answer of %d bytes: % x", len(b), b[:40])
	}
	if b[40] != 2 || b[41] != 0 || binary.BigEndian.Uint32(b[44:]) != 1480 {
		t.Errorf("ICMPv6 header % x", b[40:48])
	}
	equalBytes(t, "quote", b[48:], inner[:1232])
}

func TestOutboundLinkMTUUnder1300(t *testing.T) {
	p, h := newPacket(udp6(ours6, peer6, pattern(1232), full)), mustHeader(t, Outer{})
	h.Encap(p, 77)
	dst := packet.NewBatch(4)
	if _, ok := Fragment(p, 1296, dst, make([]byte, 400)); !ok || dst.Len() != 2 {
		t.Fatalf("%v, %d fragments", ok, dst.Len())
	}
	for i, want := range []struct{ length, flags int }{{1292, 0x2000}, {28, 1272 / 8}} {
		b := IPv4(whole(&dst.Packets[i]))
		if d := b.Check(); d != Forward || len(b) != want.length || b.TotalLen() != len(b) {
			t.Errorf("fragment %d: %d bytes, %v", i, len(b), d)
		}
		if int(b.flags()) != want.flags || b.DF() || b.ID() != 77 || !b.Fragment() {
			t.Errorf("fragment %d: flags %#04x, identification %d", i, b.flags(), b.ID())
		}
	}
}

func TestOuterHeaderRefuses(t *testing.T) {
	addr := netip.MustParseAddr
	cases := []struct {
		name  string
		outer Outer
		want  string
	}{
		{"no source", Outer{Dst: peer}, "source invalid IP: not an IPv4"},
		{"no destination", Outer{Src: ours}, "destination invalid IP: not an IPv4"},
		{"IPv6 source", Outer{Src: addr(ours6), Dst: peer}, "source 2001:db8:1::1: not an IPv4"},
		{"mapped destination", Outer{Src: ours, Dst: addr("::ffff:192.0.2.2")}, "not an IPv4"},
		{"source 0/8", Outer{Src: addr("0.1.2.3"), Dst: peer}, "source 0.1.2.3: not a unicast"},
		{"source loopback", Outer{Src: addr("127.0.0.1"), Dst: peer}, "not a unicast"},
		{"destination multicast", Outer{Src: ours, Dst: addr("224.0.0.1")}, "destination 224.0.0.1: not a unicast"},
		{"destination 240/4", Outer{Src: ours, Dst: addr("240.0.0.1")}, "not a unicast"},
		{"destination broadcast", Outer{Src: ours, Dst: addr("255.255.255.255")}, "not a unicast"},
		{"to itself", Outer{Src: ours, Dst: ours}, "both 192.0.2.1"},
		{"ECN in DSCP", Outer{Src: ours, Dst: peer, DSCP: 5}, "DSCP 5: not a multiple of 4"},
		{"two DSCPs", Outer{Src: ours, Dst: peer, DSCP: 8, InheritDSCP: true}, "DSCP 8: cannot be both"},
		{"two TTLs", Outer{Src: ours, Dst: peer, TTL: 8, InheritTTL: true}, "TTL 8: cannot be both"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.outer.Header()
			if err == nil || !strings.HasPrefix(err.Error(), "outer header: ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestIDsCountAndSkipZero(t *testing.T) {
	var ids IDs
	want := ids.Reserve(1)
	if want != 1 {
		t.Errorf("the first is %d", want)
	}
	for i := range 200_000 {
		n := i%7 + 1
		got := ids.Reserve(n)
		if want = NextID(want); got != want || got == 0 {
			t.Fatalf("reservation %d begins with %d, want %d", i, got, want)
		}
		for range n - 1 {
			want = NextID(want)
		}
	}
	if NextID(65535) != 1 || NextID(0) != 1 {
		t.Errorf("after 65535 comes %d, after 0 %d", NextID(65535), NextID(0))
	}
}
