package encap

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"sixin4/encap/packet"
)

// echo returns an ICMPv6 echo request from src.
func echo(src string) []byte {
	b := ip6(src, ours6, protoICMPv6, append([]byte{128, 0, 0, 0, 0, 1, 0, 1}, pattern(32)...))
	full.write(b, 40, 42, protoICMPv6)
	return b
}

// solicitation returns a neighbour solicitation.
func solicitation(src, dst, target string) []byte {
	a := netip.MustParseAddr(target).As16()
	b := ip6(src, dst, protoICMPv6, append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, a[:]...))
	b[7] = 255
	full.write(b, 40, 42, protoICMPv6)
	return b
}

func set(at int, v ...byte) func([]byte) {
	return func(b []byte) { copy(b[at:], v) }
}

func length4(n int) func([]byte) {
	return func(b []byte) { binary.BigEndian.PutUint16(b[2:], uint16(n)) }
}

type inboundCase struct {
	name  string
	outer []byte
	drop  Drop
	inner []byte // what comes out, when it differs from the payload of outer
}

// checkInbound runs each case through Decap, and through the oracle, so that the
// two are known to agree where it matters.
func checkInbound(t *testing.T, cases []inboundCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			want := oracleDecap(c.outer)
			p := newPacket(c.outer)
			src, d := Decap(p)
			if d != c.drop || want.drop != c.drop || src != want.src {
				t.Fatalf("Decap = %v, %v; want %v; the oracle says %v", src, d, c.drop, want.drop)
			}
			if d != Forward {
				return
			}
			if c.inner == nil {
				c.inner = c.outer[IPv4(c.outer).HeaderLen():]
			}
			equalBytes(t, "inner packet", whole(p), c.inner)
		})
	}
}

func TestInboundOuterHeader(t *testing.T) {
	inner := echo(peer6)
	checkInbound(t, []inboundCase{
		{"sound", ip4(peer4, inner), Forward, nil},
		{"no bytes", nil, DropOuterShort, nil},
		{"19 bytes", ip4(peer4, inner)[:19], DropOuterShort, nil},
		{"version 6", ip4(peer4, inner, set(0, 0x65)), DropOuterVersion, nil},
		{"header length 16", ip4(peer4, inner, set(0, 0x44)), DropOuterLength, nil},
		{"header longer than the packet", ip4(peer4, nil, set(0, 0x46)), DropOuterLength, nil},
		{"header longer than the total length", ip4(peer4, inner, set(0, 0x46), length4(20)), DropOuterLength, nil},
		{"total length of 19", ip4(peer4, inner, length4(19)), DropOuterLength, nil},
		{"total length longer than the packet", ip4(peer4, inner, length4(20+len(inner)+1)), DropOuterLength, nil},
		{"total length shorter than the packet", ip4(peer4, append(echo(peer6), 1, 2, 3), length4(20+len(inner))), Forward, inner},
		{"one bit of the checksum", flip(ip4(peer4, inner), 10), DropOuterChecksum, nil},
		{"one bit of the source", flip(ip4(peer4, inner), 15), DropOuterChecksum, nil},
		{"options that the kernel has filled in", flip(withOptions(ip4(peer4, inner), []byte{1, 1, 1, 0}), 22), Forward, inner},
		{"first fragment", ip4(peer4, inner, set(6, 0x20, 0)), DropOuterFragment, nil},
		{"first fragment with DF", ip4(peer4, inner, set(6, 0x60, 0)), DropOuterFragment, nil},
		{"later fragment", ip4(peer4, inner, set(6, 0x00, 1)), DropOuterFragment, nil},
		{"far fragment", ip4(peer4, inner, set(6, 0x10, 0)), DropOuterFragment, nil},
		{"DF clear, reserved bit set", ip4(peer4, inner, set(6, 0x80, 0)), Forward, nil},
		{"protocol 4", ip4(peer4, inner, set(9, 4)), DropOuterProtocol, nil},
	})
}

func flip(b []byte, at int) []byte {
	b[at] ^= 1
	return b
}

func TestInboundOuterIPv4Options(t *testing.T) {
	inner := echo(peer6)
	for n := 4; n <= 40; n += 4 {
		options := make([]byte, n)
		for i := range options[:n-1] {
			options[i] = 1
		}
		checkInbound(t, []inboundCase{
			{fmt.Sprintf("%d bytes", n), withOptions(ip4(peer4, inner), options), Forward, inner},
		})
	}
}

func TestInboundOuterSource(t *testing.T) {
	inner := echo(peer6)
	checkInbound(t, []inboundCase{
		{"0.0.0.0", ip4("0.0.0.0", inner), DropOuterSource, nil},
		{"0.255.255.255", ip4("0.255.255.255", inner), DropOuterSource, nil},
		{"1.0.0.0", ip4("1.0.0.0", inner), Forward, nil},
		{"private", ip4("10.0.0.1", inner), Forward, nil},
		{"126.255.255.255", ip4("126.255.255.255", inner), Forward, nil},
		{"loopback", ip4("127.0.0.1", inner), DropOuterSource, nil},
		{"128.0.0.0", ip4("128.0.0.0", inner), Forward, nil},
		{"223.255.255.255", ip4("223.255.255.255", inner), Forward, nil},
		{"multicast", ip4("224.0.0.1", inner), DropOuterSource, nil},
		{"240/4", ip4("240.0.0.1", inner), DropOuterSource, nil},
		{"broadcast", ip4("255.255.255.255", inner), DropOuterSource, nil},
	})
}

func TestInboundOuterDSCPAndTTLAreIgnored(t *testing.T) {
	inner := innerWith(0xb8, 9)
	for _, ttl := range []byte{0, 1, 255} {
		checkInbound(t, []inboundCase{
			{fmt.Sprintf("TTL %d, DSCP 63", ttl), ip4(peer4, inner, set(8, ttl), set(1, 0xfc)), Forward, inner},
		})
	}
}

func TestInboundECN(t *testing.T) {
	const drop = 255
	cases := []struct {
		name               string
		inner, outer, want byte
	}{
		{"inner Not-ECT, outer Not-ECT", notECT, notECT, notECT},
		{"inner Not-ECT, outer ECT(0)", notECT, ect0, notECT},
		{"inner Not-ECT, outer ECT(1)", notECT, ect1, notECT},
		{"inner Not-ECT, outer CE", notECT, ce, drop},
		{"inner ECT(0), outer Not-ECT", ect0, notECT, ect0},
		{"inner ECT(0), outer ECT(0)", ect0, ect0, ect0},
		{"inner ECT(0), outer ECT(1)", ect0, ect1, ect1},
		{"inner ECT(0), outer CE", ect0, ce, ce},
		{"inner ECT(1), outer Not-ECT", ect1, notECT, ect1},
		{"inner ECT(1), outer ECT(0)", ect1, ect0, ect1},
		{"inner ECT(1), outer ECT(1)", ect1, ect1, ect1},
		{"inner ECT(1), outer CE", ect1, ce, ce},
		{"inner CE, outer Not-ECT", ce, notECT, ce},
		{"inner CE, outer ECT(0)", ce, ect0, ce},
		{"inner CE, outer ECT(1)", ce, ect1, ce},
		{"inner CE, outer CE", ce, ce, ce},
	}
	if notECT != 0b00 || ect1 != 0b01 || ect0 != 0b10 || ce != 0b11 {
		t.Error("codepoints differ from RFC 3168, Section 5")
	}
	for _, c := range cases {
		const dscp = 46 << 2
		row := inboundCase{c.name, ip4(peer4, innerWith(dscp|c.inner, 64), set(1, c.outer)), DropECN, nil}
		if c.want != drop {
			row.drop, row.inner = Forward, innerWith(dscp|c.want, 64)
		}
		checkInbound(t, []inboundCase{row})
	}
}

func TestInboundInnerHeader(t *testing.T) {
	inner := echo(peer6)
	long, short := echo(peer6), append(echo(peer6), "trailer"...)
	long[5]++
	version := echo(peer6)
	version[0] = 0x45
	bare := ip6(peer6, ours6, 59, nil)
	claims := ip6(peer6, ours6, 59, nil)
	claims[4] = 0xff
	checkInbound(t, []inboundCase{
		{"nothing inside", ip4(peer4, nil), DropInnerShort, nil},
		{"fewer than 40 bytes inside: 39", ip4(peer4, inner[:39]), DropInnerShort, nil},
		{"fewer than 40 bytes inside: 39, more behind", ip4(peer4, inner, length4(59)), DropInnerShort, nil},
		{"only a header", ip4(peer4, bare), Forward, nil},
		{"inner version not 6", ip4(peer4, version), DropInnerVersion, nil},
		{"payload length longer than the packet", ip4(peer4, long), DropInnerLength, nil},
		{"payload length far too long", ip4(peer4, claims), DropInnerLength, nil},
		{"payload length longer, bytes behind the outer packet", ip4(peer4, append(long, 0), length4(20+len(inner))), DropInnerLength, nil},
		{"bytes after the inner packet", ip4(peer4, short), Forward, inner},
		{"inner packet longer than the tunnel MTU", ip4(peer4, udp6(peer6, ours6, pattern(1452), full)), Forward, nil},
		{"longest", ip4(peer4, udp6(peer6, ours6, pattern(65515-48), full)), Forward, nil},
		{"next header 59", ip4(peer4, ip6(peer6, ours6, 59, pattern(9))), Forward, nil},
		{"extension headers: hop-by-hop", ip4(peer4, extend(echo(peer6), 0, 0, 0, 5, 2, 0, 0, 1, 0)), Forward, nil},
		{"extension headers: destination options", ip4(peer4, extend(echo(peer6), 60, 0, 0, 1, 4, 0, 0, 0, 0)), Forward, nil},
		{"extension headers: routing header", ip4(peer4, extend(echo(peer6), 43, 0, 0, 0, 0, 0, 0, 0, 0)), Forward, nil},
		{"extension headers: fragment header", ip4(peer4, extend(echo(peer6), 44, 0, 0, 0, 1, 0, 0, 0, 9)), Forward, nil},
		{"extension headers: a broken one", ip4(peer4, extend(echo(peer6), 0, 0, 255, 0, 0, 0, 0, 0, 0)), Forward, nil},
		{"unknown next header", ip4(peer4, ip6(peer6, ours6, 200, pattern(9))), Forward, nil},
	})
}

func TestInboundInnerSource(t *testing.T) {
	cases := []struct {
		row, src string
		drop     Drop
	}{
		{"global", "2001:db8:1::2", Forward},
		{"lowest 2000::/3", "2000::", Forward},
		{"highest 2000::/3", "3fff:ffff::1", Forward},
		{"::1", "::1", DropInnerSourceLoopback},
		{"multicast", "ff02::1", DropInnerSourceMulticast},
		{"multicast, other scope", "ffff::", DropInnerSourceMulticast},
		{"::", "::", DropInnerSourceUnspecified},
		{"::ffff:a.b.c.d", "::ffff:192.0.2.9", DropInnerSourceMapped},
		{"::ffff:a.b.c.d, 0.0.0.0", "::ffff:0.0.0.0", DropInnerSourceMapped},
		{"::a.b.c.d", "::192.0.2.9", DropInnerSourceCompatible},
		{"::a.b.c.d, 0.0.0.2", "::2", DropInnerSourceCompatible},
		{"above compatible", "::1:0:0", Forward},
		{"above mapped", "::1:0:0:0", Forward},
		{"NAT64", "64:ff9b::192.0.2.9", Forward},
		{"fec0::/10", "fec0::1", DropInnerSourceSiteLocal},
		{"fec0::/10, highest", "feff::1", DropInnerSourceSiteLocal},
		{"link-local", "fe80::1", Forward},
		{"link-local, highest", "febf::1", Forward},
		{"fc00::/7: fc00::/8", "fc00::1", Forward},
		{"fc00::/7: fd00::/8", "fd12:3456::1", Forward},
		{"6to4", "2002:c000:0201::1", Forward},
		{"6to4 above 172.16/12", "2002:ac20::1", Forward},
		{"6to4 below 172.16/12", "2002:ac0f:ffff::1", Forward},
		{"2002: with private IPv4 inside: 10/8", "2002:a00:1::1", DropInnerSource6to4},
		{"2002: with private IPv4 inside: 172.16/12", "2002:ac1f:ffff::1", DropInnerSource6to4},
		{"2002: with private IPv4 inside: 192.168/16", "2002:c0a8:1::1", DropInnerSource6to4},
		{"2002: with private IPv4 inside: 169.254/16", "2002:a9fe:1::1", DropInnerSource6to4},
		{"2002: with loopback IPv4 inside", "2002:7f00:1::1", DropInnerSource6to4},
		{"6to4 0/8", "2002::1", DropInnerSource6to4},
		{"6to4 multicast", "2002:e000:1::1", DropInnerSource6to4},
		{"6to4 broadcast", "2002:ffff:ffff::1", DropInnerSource6to4},
		{"2003::/16", "2003:a00:1::1", Forward},
	}
	for _, c := range cases {
		checkInbound(t, []inboundCase{{c.row, ip4(peer4, echo(c.src)), c.drop, nil}})
	}
}

func TestInboundInnerSourceUnspecified(t *testing.T) {
	const node, target = "ff02::1:ff00:2", peer6
	hop := solicitation("::", node, target)
	hop[7] = 254
	code := solicitation("::", node, target)
	code[41] = 1
	drop := DropInnerSourceUnspecified
	checkInbound(t, []inboundCase{
		{"duplicate address detection", ip4(peer4, solicitation("::", node, target)), Forward, nil},
		{"with a nonce option", ip4(peer4, append8(solicitation("::", node, target))), Forward, nil},
		{"hop limit 254", ip4(peer4, hop), drop, nil},
		{"code 1", ip4(peer4, code), drop, nil},
		{"solicitation to the target itself", ip4(peer4, solicitation("::", target, target)), drop, nil},
		{"solicitation to another node", ip4(peer4, solicitation("::", "ff02::1:ff00:3", target)), drop, nil},
		{"solicitation for a multicast address", ip4(peer4, solicitation("::", node, "ff02::2")), drop, nil},
		{"cut off", ip4(peer4, cut6(solicitation("::", node, target), 63)), drop, nil},
		{"MLD report", ip4(peer4, extend(echo("::"), 0, 0, 0, 5, 2, 0, 0, 1, 0)), drop, nil},
		{"UDP", ip4(peer4, udp6("::", ours6, pattern(8), full)), drop, nil},
		{"solicitation with a source", ip4(peer4, solicitation(peer6, node, target)), Forward, nil},
	})
}

// append8 adds a nonce option (RFC 7527) to a neighbour solicitation.
func append8(b []byte) []byte {
	b = append(b, 14, 1, 1, 2, 3, 4, 5, 6)
	b[5] += 8
	return b
}

func cut6(b []byte, n int) []byte {
	binary.BigEndian.PutUint16(b[4:], uint16(n-40))
	return b[:n]
}

func TestInboundPayloadPieceIsCut(t *testing.T) {
	inner := tcp6(peer6, ours6, pattern(500), full)
	outer := ip4(peer4, append(inner[:len(inner):len(inner)], "more"...))
	p := newSplit(outer, 100)
	if _, d := Decap(p); d != Forward {
		t.Fatal(d)
	}
	equalBytes(t, "inner packet", whole(p), inner)
}

func TestLinkScope(t *testing.T) {
	cases := []struct {
		dst  string
		want bool
	}{
		{"fe80::1", true}, {"febf::1", true}, {"fec0::1", false}, {"fe7f::1", false},
		{"ff02::1", true}, {"ff12::1", true}, {"ff32::1", true}, {"ff01::1", false}, {"ff05::2", false}, {"ff0e::1", false},
		{"::", false}, {ours6, false}, {"fd00::1", false},
	}
	for _, c := range cases {
		if got := LinkScope(ip6(peer6, c.dst, 59, nil)); got != c.want {
			t.Errorf("%s: %v", c.dst, got)
		}
	}
}

func TestViews(t *testing.T) {
	b := IPv4(ip4(peer4, echo(peer6), set(1, 0xb9), set(4, 0x12, 0x34)))
	if b.Check() != Forward || b.TOS() != 0xb9 || b.ECN() != 1 || b.ID() != 0x1234 || b.TTL() != 64 || b.Protocol() != 41 || !b.DF() {
		t.Errorf("IPv4 view of % x", b[:20])
	}
	if b.Src() != peer || b.Dst() != ours || b.Src4() != peer.As4() || b.Dst4() != ours.As4() {
		t.Errorf("IPv4 addresses %v and %v", b.Src(), b.Dst())
	}
	v := IPv6(innerWith(0xb9, 3))
	if v.Check() != Forward || v.TrafficClass() != 0xb9 || v.ECN() != 1 || v.PayloadLen() != len(v)-40 || v.NextHeader() != 17 || v.HopLimit() != 3 {
		t.Errorf("IPv6 view of % x", v[:40])
	}
	if v.Src() != netip.MustParseAddr(ours6) || v.Dst() != netip.MustParseAddr(peer6) || v.Src16() != v.Src().As16() || v.Dst16() != v.Dst().As16() {
		t.Errorf("IPv6 addresses %v and %v", v.Src(), v.Dst())
	}
	if d := IPv6(append(v, 1, 2)).Check(); d != Forward {
		t.Errorf("with bytes behind it: %v", d)
	}
}

func TestCheckInnerOverHeadAndPayload(t *testing.T) {
	b := tcp6(ours6, peer6, pattern(100), full)
	p := newSplit(append(b, 1, 2, 3), 60)
	if d := CheckInner(p); d != Forward || p.Len() != len(b) {
		t.Errorf("%v, %d bytes", d, p.Len())
	}
	p = newSplit(b[:len(b)-1], 60)
	if d := CheckInner(p); d != DropInnerLength {
		t.Errorf("cut packet: %v", d)
	}
	for _, c := range []struct {
		b []byte
		d Drop
	}{{nil, DropInnerShort}, {b[:39], DropInnerShort}, {[]byte(IPv4(ip4(peer4, b))), DropInnerVersion}} {
		var p packet.Packet
		p.Set(c.b, 0, nil)
		if d := CheckInner(&p); d != c.d {
			t.Errorf("% x: %v, want %v", c.b, d, c.d)
		}
	}
}
