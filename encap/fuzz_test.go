package encap

import (
	"bytes"
	"net/netip"
	"testing"

	"sixin4/encap/packet"
)

// seeds are outer packets of every kind the tests know.
func seeds(t testing.TB) (out [][]byte) {
	for _, name := range goldenNames(t, "in-*") {
		out = append(out, readGolden(t, name).bytes["outer"])
	}
	for _, inner := range [][]byte{
		tcp6(peer6, ours6, pattern(99), full), tcp6(peer6, ours6, pattern(99), partial),
		udp6(peer6, ours6, pattern(99), full), udp6(peer6, ours6, pattern(99), partial),
		chained(tcp6(peer6, ours6, pattern(9), partial), 8),
		routed(udp6(peer6, ours6, pattern(9), partial), 4, "2001:db8:9::9"),
		fragmented(udp6(peer6, ours6, pattern(9), full), 8),
		solicitation("::", "ff02::1:ff00:2", peer6), echo("fe80::2"), icmpOf(3),
	} {
		out = append(out, ip4(peer4, inner), withOptions(ip4(peer4, inner, set(1, 2)), []byte{1, 1, 1, 0}))
	}
	return out
}

// compareWithOracle runs b through Decap and the oracle.
func compareWithOracle(t testing.TB, b []byte) {
	t.Helper()
	want := oracleDecap(b)
	p := newPacket(b)
	src, d := Decap(p)
	if src != want.src || d != want.drop {
		t.Fatalf("Decap = %v, %v; the oracle says %v, %v\n% x", src, d, want.src, want.drop, b)
	}
	if d == Forward && (p.Sum != want.sum || !bytes.Equal(whole(p), want.inner)) {
		t.Fatalf("Sum %d, the oracle says %d\n% x\n% x", p.Sum, want.sum, whole(p), want.inner)
	}
}

// FuzzDecap compares every verdict and every byte with the oracle's. Mutation
// alone hardly ever finds a right header checksum, so it is made right on demand.
func FuzzDecap(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b, true)
		f.Add(b, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix && len(b) >= 20 {
			fix4(b)
		}
		compareWithOracle(t, b)
	})
}

// FuzzEncapDecap: what Encap wraps, Decap unwraps, and what comes between is a
// sound IPv4 header.
func FuzzEncapDecap(f *testing.F) {
	for i, b := range seeds(f) {
		f.Add(b[min(20, len(b)):], uint16(i), uint8(i), uint8(i*16), uint8(i))
	}
	f.Fuzz(func(t *testing.T, inner []byte, id uint16, ttl, dscp, flags uint8) {
		p := newPacket(inner)
		if d := CheckInner(p); d != Forward || p.Len() > int(MaxTunMTU) {
			return
		}
		inner = whole(p)
		o := Outer{TTL: ttl, DSCP: dscp &^ 3, ClearDF: flags&1 != 0}
		if flags&2 != 0 {
			o.TTL, o.InheritTTL = 0, true
		}
		if flags&4 != 0 {
			o.DSCP, o.InheritDSCP = 0, true
		}
		h := mustHeader(t, o)
		h.Encap(p, id)
		checkOuterHeader(t, o, id, whole(p), inner)
		outer := whole(p)
		src, d := Decap(p)
		if netip.AddrFrom4(src) != ours || d != oracleDecap(outer).drop {
			t.Fatalf("Decap = %v, %v", src, d)
		}
		if d == Forward {
			equalBytes(t, "inner packet", whole(p), inner)
		}
	})
}

func checkOuterHeader(t *testing.T, o Outer, id uint16, b, inner []byte) {
	t.Helper()
	class := inner[0]<<4 | inner[1]>>4
	want := []byte{0x45, o.DSCP | class&3, byte(len(b) >> 8), byte(len(b)), byte(id >> 8), byte(id), 0x40, 0, o.TTL, 41}
	if o.InheritDSCP {
		want[1] = class
	}
	if o.ClearDF {
		want[6] = 0
	}
	if o.InheritTTL {
		want[8] = inner[7]
	} else if o.TTL == 0 {
		want[8] = 64
	}
	equalBytes(t, "outer header", b[:10], want)
	if oracleSum(b[:20]) != 65535 || [4]byte(b[12:16]) != ours.As4() || [4]byte(b[16:20]) != peer.As4() {
		t.Errorf("checksum or addresses: % x", b[:20])
	}
	equalBytes(t, "behind it", b[20:], inner)
}

// FuzzICMPv6 answers anything: a sound error or nothing, and never an answer to
// what the oracle knows as an error.
func FuzzICMPv6(f *testing.F) {
	for i, b := range seeds(f) {
		f.Add(b[min(20, len(b)):], uint8(i), uint16(1280+i))
	}
	f.Fuzz(func(t *testing.T, b []byte, code uint8, mtu uint16) {
		for _, head := range []int{len(b), min(len(b), 400)} {
			p := newSplit(b, head)
			unreachable := AppendUnreachable(nil, code, router, p)
			tooBig := AppendPacketTooBig(nil, TunMTU(mtu), router, p)
			if unreachable != nil {
				checkAnswer(t, unreachable, b, 1, code, 0)
			}
			if tooBig == nil {
				if unreachable != nil {
					t.Errorf("only unreachable is answered: % x", b)
				}
				continue
			}
			checkAnswer(t, tooBig, b, 2, 0, uint32(mtu))
			if oracleIsError(b) {
				t.Errorf("an error is answered: % x", b)
			}
		}
	})
}

// oracleIsError reports whether b is an ICMPv6 error or redirect that no
// fragment header hides.
func oracleIsError(b []byte) bool {
	proto, seg, _, ok := oracleUpper(b[6], b[40:], b[24:40], 8)
	return ok && proto == 58 && len(seg) > 0 && (seg[0] < 128 || seg[0] == 137)
}

// FuzzCompleteSum: completing a partial checksum gives one that the oracle
// accepts, however the packet is cut in two.
func FuzzCompleteSum(f *testing.F) {
	for i, b := range seeds(f) {
		f.Add(b[min(20, len(b)):], uint16(i*31))
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		p := newPacket(b)
		if CheckInner(p) != Forward {
			return
		}
		b = whole(p)
		if MarkSum(p); p.Sum != oraclePartial(b) {
			t.Fatalf("Sum %d, the oracle says %d", p.Sum, oraclePartial(b))
		}
		if p.Sum != packet.SumPartial {
			return
		}
		CompleteSum(p)
		done := whole(p)
		proto, seg, dst, _ := oracleUpper(done[6], done[40:], done[24:40], 8)
		if oracleSum(append(oraclePseudo(done[8:24], dst, proto, len(seg)), seg...)) != 65535 || !VerifySum(p) {
			t.Errorf("wrong checksum in % x", done)
		}
		header := 8
		if proto == protoTCP {
			header = int(seg[12]>>4) * 4 // with its options: a head holds all headers
		}
		q := newSplit(b, min(len(b), len(b)-len(seg)+header+int(cut)))
		q.Sum = packet.SumPartial
		CompleteSum(q)
		equalBytes(t, "in two pieces", whole(q), done)
	})
}

// FuzzFragment: an independent reassembly gives back what was cut, wherever the
// head ended.
func FuzzFragment(f *testing.F) {
	f.Add(uint16(1280), uint16(60), uint16(1280), uint16(1))
	f.Add(uint16(1500), uint16(600), uint16(0), uint16(2))
	f.Add(uint16(65515), uint16(529), uint16(552), uint16(3))
	f.Fuzz(func(t *testing.T, n, head, mtu, id uint16) {
		size := min(max(int(n), 48), int(MaxTunMTU))
		inner := udp6(ours6, peer6, pattern(size-48), full)
		checkFragments(t, inner, min(max(int(head), 48), size), WireMTU(mtu), id)
	})
}
