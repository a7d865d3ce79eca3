package encap

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"sixin4/encap/packet"
)

var router = netip.MustParseAddr("2001:db8:ffff::1")

// checkAnswer looks at an ICMPv6 error about invoking with nothing but bytes.
func checkAnswer(t testing.TB, b, invoking []byte, kind, code byte, arg uint32) {
	t.Helper()
	quote := min(len(invoking), 1232)
	if len(b) != 48+quote || b[0] != 0x60 || int(b[4])<<8+int(b[5]) != 8+quote || b[6] != 58 || b[7] != 64 {
		t.Fatalf("answer of %d bytes to %d: % x", len(b), len(invoking), b[:min(len(b), 48)])
	}
	if from := router.As16(); [16]byte(b[8:24]) != from || [16]byte(b[24:40]) != [16]byte(invoking[8:24]) {
		t.Errorf("addresses % x", b[8:40])
	}
	if b[40] != kind || b[41] != code || binary.BigEndian.Uint32(b[44:]) != arg {
		t.Errorf("ICMPv6 header % x", b[40:48])
	}
	if oracleSum(append(oraclePseudo(b[8:24], b[24:40], 58, len(b)-40), b[40:]...)) != 65535 {
		t.Errorf("wrong checksum % x", b[42:44])
	}
	equalBytes(t, "quote", b[48:], invoking[:quote])
}

func TestICMPv6Answers(t *testing.T) {
	for _, n := range []int{0, 1, 2, 1183, 1184, 1185, 1232, 1452, 8000} {
		inner := udp6(ours6, peer6, pattern(n), full)
		for _, head := range []int{48, min(61, len(inner)), len(inner)} {
			p := newSplit(inner, head)
			for code := range uint8(8) {
				checkAnswer(t, AppendUnreachable(nil, code, router, p), inner, 1, code, 0)
			}
			checkAnswer(t, AppendPacketTooBig(nil, 1480, router, p), inner, 2, 0, 1480)
			equalBytes(t, "the packet itself", whole(p), inner)
		}
	}
}

func TestICMPv6AnswersAppend(t *testing.T) {
	inner := udp6(ours6, peer6, pattern(99), full)
	b := AppendPacketTooBig([]byte("before"), 1280, router, newPacket(inner))
	if string(b[:6]) != "before" {
		t.Errorf("% x", b[:6])
	}
	checkAnswer(t, b[6:], inner, 2, 0, 1280)

	dirty := pattern(1280)
	checkAnswer(t, AppendUnreachable(dirty[:0], 3, router, newPacket(inner)), inner, 1, 3, 0)
}

// icmpOf returns an ICMPv6 packet of a type.
func icmpOf(kind byte) []byte {
	b := echo(peer6)
	b[40] = kind
	return b
}

// fragmented puts a fragment header with that offset field before the rest.
func fragmented(b []byte, offset uint16) []byte {
	return extend(b, protoFragment, 0, 0, byte(offset>>8), byte(offset), 0, 0, 0, 9)
}

// TestICMPv6Silence has the cases of RFC 4443, Section 2.4(e).
func TestICMPv6Silence(t *testing.T) {
	const never, always, onlyTooBig = 0, 2, 1
	badLength := udp6(ours6, peer6, pattern(9), full)
	badLength[5]++
	cases := []struct {
		name  string
		b     []byte
		where int
	}{
		{"TCP", tcp6(ours6, peer6, pattern(9), full), always},
		{"TCP, partial checksum", tcp6(ours6, peer6, pattern(9), partial), always},
		{"no next header", ip6(ours6, peer6, 59, nil), always},
		{"unknown protocol", ip6(ours6, peer6, 253, pattern(4)), always},
		{"echo request", icmpOf(128), always},
		{"MLD", icmpOf(131), always},
		{"destination unreachable", icmpOf(1), never},
		{"packet too big", icmpOf(2), never},
		{"parameter problem", icmpOf(4), never},
		{"unknown error", icmpOf(127), never},
		{"redirect", icmpOf(137), never},
		{"error behind hop-by-hop", extend(icmpOf(3), 0, hopByHop...), never},
		{"echo behind hop-by-hop", extend(icmpOf(128), 0, hopByHop...), always},
		{"error in a first fragment", fragmented(icmpOf(3), 1), never},
		{"echo in a first fragment", fragmented(icmpOf(128), 1), always},
		{"ICMPv6 in a later fragment", fragmented(icmpOf(128), 8), never},
		{"UDP in a later fragment", fragmented(udp6(ours6, peer6, pattern(9), full), 8), always},
		{"options in a later fragment", fragmented(extend(icmpOf(128), 60, destOptions...), 8), always},
		{"ICMPv6 without a type", ip6(ours6, peer6, 58, nil), never},
		{"endless chain", chained(icmpOf(3), 20), never},
		{"chain cut off", cut6(extend(icmpOf(3), 0, hopByHop...), 44), never},
		{"extension header longer than the packet", extend(udp6(ours6, peer6, pattern(9), full), 0, 0, 9, 5, 2, 0, 0, 1, 0), never},
		{"to multicast", udp6(ours6, "ff05::2", pattern(9), full), onlyTooBig},
		{"from unspecified", udp6("::", peer6, pattern(9), full), never},
		{"from multicast", udp6("ff02::1", peer6, pattern(9), full), never},
		{"no bytes", nil, never},
		{"39 bytes", udp6(ours6, peer6, nil, full)[:39], never},
		{"IPv4", ip4(peer4, pattern(40)), never},
		{"truncated", badLength, never},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dst := []byte("as it was")
			unreachable := AppendUnreachable(dst, 0, router, newPacket(c.b))
			tooBig := AppendPacketTooBig(dst, 1280, router, newPacket(c.b))
			answers := 0
			if string(tooBig) != "as it was" {
				answers++
			}
			if string(unreachable) != "as it was" {
				answers++
			}
			if answers != c.where || len(unreachable) > len(tooBig) {
				t.Errorf("answers of %d and %d bytes", len(unreachable), len(tooBig))
			}
		})
	}
}

func TestICMPv6AnswersOnlyFromIPv6(t *testing.T) {
	p := newPacket(udp6(ours6, peer6, nil, full))
	for _, from := range []netip.Addr{{}, ours, netip.AddrFrom16(ours.As16())} {
		if b := AppendUnreachable(nil, 0, from, p); b != nil {
			t.Errorf("from %v: % x", from, b)
		}
	}
	if b := AppendUnreachable(nil, 0, netip.MustParseAddr("fe80::1%eth0"), p); len(b) != 96 {
		t.Errorf("from a link-local address with a zone: %d bytes", len(b))
	}
}

// TestICMPv6AnswersAreNotAnswered: no two hosts can keep each other busy.
func TestICMPv6AnswersAreNotAnswered(t *testing.T) {
	b := AppendUnreachable(nil, 0, router, newPacket(udp6(ours6, peer6, nil, full)))
	if again := AppendPacketTooBig(nil, 1280, router, newPacket(b)); again != nil {
		t.Errorf("answered: % x", again)
	}
}

func TestTokenBucket(t *testing.T) {
	const ms = 1_000_000
	count := func(b *TokenBucket, now int64) (n int) {
		for n < 1000 && b.Allow(now) {
			n++
		}
		return n
	}
	cases := []struct {
		name        string
		rate, burst int
		start       int64
		want        [4]int // tokens at once, after 100 ms more, after 1 s more, after an hour more
	}{
		{"default", 0, 0, 0, [4]int{10, 1, 10, 10}},
		{"later start", 0, 0, 1 << 60, [4]int{10, 1, 10, 10}},
		{"50 a second, burst 5", 50, 5, 0, [4]int{5, 5, 5, 5}},
		{"50 a second, burst 100", 50, 100, 7, [4]int{100, 5, 50, 100}},
		{"one a second", 1, 1, 0, [4]int{1, 0, 1, 1}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b, now := &TokenBucket{Rate: c.rate, Burst: c.burst}, c.start
			for i, step := range []int64{0, 100 * ms, 1000 * ms, 3_600_000 * ms} {
				if now += step; count(b, now) != c.want[i] {
					t.Fatalf("step %d: not %d tokens", i, c.want[i])
				}
			}
		})
	}
}

// TestTokenBucketLongRun asks far too often and gets the rate.
func TestTokenBucketLongRun(t *testing.T) {
	b, got := TokenBucket{Rate: 1000, Burst: 10}, 0
	for now := int64(0); now < 10e9; now += 7919 {
		if b.Allow(now) {
			got++
		}
	}
	if got < 10_000 || got > 10_010 {
		t.Errorf("%d tokens in 10 s at 1000 a second", got)
	}
}

func TestDropNames(t *testing.T) {
	seen := map[string]Drop{}
	for d := range Drops() {
		name := d.String()
		if other, ok := seen[name]; ok || name == "" || name == "unknown" {
			t.Errorf("%d and %d are both %q", d, other, name)
		}
		for _, r := range name {
			if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
				t.Errorf("%q is not kebab case", name)
			}
		}
		seen[name] = d
	}
	if len(seen) != NumDrops-1 || seen["outer-short"] != DropOuterShort || seen["tun-error"] != DropTunError {
		t.Errorf("%d of %d reasons: %v", len(seen), NumDrops-1, seen)
	}
	if s := Forward.String(); s != "forward" {
		t.Errorf("Forward is %q", s)
	}
	if s := Drop(NumDrops).String(); s != "unknown" {
		t.Errorf("a value too many is %q", s)
	}
	for d := range Drops() {
		if d == DropOuterVersion {
			break // a loop may end early
		}
	}
	var zero packet.Packet
	if _, d := Decap(&zero); d != DropOuterShort {
		t.Errorf("the zero packet: %v", d)
	}
}
