package encap

import (
	"bytes"
	"testing"
)

// in6 puts b into an IPv6 packet, as protocol 41 or 4.
func in6(b []byte) []byte {
	proto := byte(41)
	if b[0]>>4 == 4 {
		proto = 4
	}
	return ip6(ours6, peer6, proto, b)
}

// in4 puts b into an IPv4 packet between hosts that have no tunnel of ours.
func in4(b []byte) []byte {
	proto := byte(41)
	if b[0]>>4 == 4 {
		proto = 4
	}
	return ip4("203.0.113.5", b, set(9, proto))
}

// inGRE puts a GRE header before b, with the fields that flags ask for.
func inGRE(b []byte, flags, version byte) []byte {
	h := []byte{flags, version, 0x86, 0xdd}
	if b[0]>>4 == 4 {
		h[2], h[3] = 0x08, 0
	}
	for _, f := range []byte{0x80, 0x20, 0x10} {
		if flags&f != 0 {
			h = append(h, 1, 2, 3, 4)
		}
	}
	return ip6(ours6, peer6, 47, append(h, b...))
}

// nestedCase is a packet and how many tunnels it is in.
type nestedCase struct {
	name string
	b    []byte
	n    int
	loop bool
}

func nestedCases() []nestedCase {
	inner := udp6(ours6, peer6, pattern(99), full)
	deep := inner
	for range 20 {
		deep = in6(deep)
	}
	own := outgoing(inner)
	return []nestedCase{
		{"UDP", inner, 0, false},
		{"UDP behind an extension header", extend(udp6(ours6, peer6, nil, full), 0, hopByHop...), 0, false},
		{"no next header", ip6(ours6, peer6, 59, nil), 0, false},
		{"IPv6 in IPv6", in6(inner), 1, false},
		{"IPv6 in IPv6 behind an extension header", extend(in6(inner), 60, destOptions...), 1, false},
		{"6in4 of others in IPv6", in6(in4(inner)), 2, false},
		{"IPv4 in IPv4 in IPv6", in6(in4(ip4("203.0.113.1", pattern(9), set(9, 17)))), 2, false},
		{"20 times", deep, 20, false},
		{"in a first fragment", fragmented(in6(inner), 1), 1, false},
		{"in a later fragment", fragmented(in6(inner), 8), 0, false},
		{"protocol 41 and no IPv6 inside", ip6(ours6, peer6, 41, pattern(60)), 0, false},
		{"protocol 41 and 39 bytes", ip6(ours6, peer6, 41, inner[:39]), 0, false},
		{"protocol 4 and IPv6 inside", ip6(ours6, peer6, 4, inner), 0, false},
		{"IPv4 options", in6(withOptions(in4(inner), []byte{1, 1, 1, 1})), 2, false},
		{"IPv4 options cut off", in6(ip4("203.0.113.5", nil, set(0, 0x4f))), 1, false},
		{"a later fragment of IPv4", in6(ip4("203.0.113.5", inner, set(6, 0, 9))), 1, false},
		{"GRE", inGRE(inner, 0, 0), 1, false},
		{"GRE with IPv4", inGRE(in4(inner), 0, 0), 2, false},
		{"GRE with everything", inGRE(inner, 0xb0, 0), 1, false},
		{"GRE with routing", inGRE(inner, 0x40, 0), 0, false},
		{"GRE of version 1", inGRE(inner, 0, 1), 0, false},
		{"GRE of something else", edited(inGRE(inner, 0, 0), 42, 0x65), 0, false},
		{"GRE cut off", ip6(ours6, peer6, 47, []byte{0xb0, 0, 0x86, 0xdd}), 0, false},
		{"our own outer packet", in6(own), 2, true},
		{"our own outer packet, nothing inside", in6(outgoing(nil)), 1, true},
		{"our own outer packet in another tunnel", in6(in6(in4(own))), 4, true},
		{"our own outer packet in GRE", inGRE(own, 0x20, 0), 2, true},
		{"between our addresses, not protocol 41", in6(outgoing(inner, set(9, 4))), 1, false},
		{"the answer of the peer", in6(ip4(peer4, inner)), 2, false},
	}
}

func TestNestedTunnels(t *testing.T) {
	for _, c := range nestedCases() {
		t.Run(c.name, func(t *testing.T) {
			p := newPacket(c.b)
			for _, limit := range []int{0, 1, 2, 4, 100} {
				if got, want := NestedTunnels(p, limit), min(c.n, limit); got != want {
					t.Errorf("up to %d: %d, want %d", limit, got, want)
				}
			}
			equalBytes(t, "packet", whole(p), c.b)
		})
	}
}

func TestCheckNesting(t *testing.T) {
	for _, c := range nestedCases() {
		t.Run(c.name, func(t *testing.T) {
			want := Forward
			switch {
			case c.loop:
				want = DropLoop
			case c.n >= DefaultNesting:
				want = DropNested
			}
			if got := CheckNesting(newPacket(c.b), DefaultNesting, sent); got != want {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
	// One that goes round is known as such before there are too many.
	deep := outgoing(udp6(ours6, peer6, nil, full))
	for range 3 {
		deep = in6(deep)
	}
	for limit, want := range map[int]Drop{2: DropNested, 3: DropLoop} {
		if got := CheckNesting(newPacket(deep), limit, sent); got != want {
			t.Errorf("limit %d: %v, want %v", limit, got, want)
		}
	}
}

// oracleNested counts by unwrapping copies.
func oracleNested(b []byte) (n int) {
	for {
		var proto byte
		var rest []byte
		switch {
		case len(b) >= 40 && b[0]/16 == 6:
			var ok bool
			proto, rest, ok = oracleHeaders(b)
			if !ok {
				return n
			}
		case len(b) >= 20 && b[0]/16 == 4:
			header := int(b[0]%16) * 4
			if header < 20 || header > len(b) || b[6]&0x1f != 0 || b[7] != 0 {
				return n
			}
			proto, rest = b[9], b[header:]
		}
		if proto == 47 {
			if len(rest) < 4 || rest[0]&0x4f != 0 || rest[1]&7 != 0 {
				return n
			}
			switch string(rest[2:4]) {
			case "\x86\xdd":
				proto = 41
			case "\x08\x00":
				proto = 4
			}
			skip := 4 + int(rest[0]>>7)*4 + int(rest[0]>>5&1)*4 + int(rest[0]>>4&1)*4
			if skip > len(rest) {
				return n
			}
			rest = rest[skip:]
		}
		if proto == 41 && len(rest) >= 40 && rest[0]/16 == 6 || proto == 4 && len(rest) >= 20 && rest[0]/16 == 4 {
			b = bytes.Clone(rest)
			n++
			continue
		}
		return n
	}
}

// oracleHeaders strips the extension headers of an IPv6 packet; not those of a later
// fragment.
func oracleHeaders(b []byte) (proto byte, rest []byte, ok bool) {
	proto, rest = b[6], b[40:]
	for range 9 {
		size := 8
		switch proto {
		case 44:
			if len(rest) < 8 || rest[2] != 0 || rest[3]&0xf8 != 0 {
				return 0, nil, false
			}
		case 0, 60, 43:
			if len(rest) < 8 {
				return 0, nil, false
			}
			size += int(rest[1]) * 8
			if known := (rest[2] == 2 || rest[2] == 4) && rest[1] >= 2 && len(rest) >= 24; proto == 43 && rest[3] != 0 && !known {
				return 0, nil, false
			}
		default:
			return proto, rest, true
		}
		if size > len(rest) {
			return 0, nil, false
		}
		proto, rest = rest[0], rest[size:]
	}
	return 0, nil, false
}

func FuzzNestedTunnels(f *testing.F) {
	for _, c := range nestedCases() {
		f.Add(c.b)
	}
	f.Add(extend(udp6(ours6, peer6, nil, full), 60, limitedTo(0, true)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := newPacket(b)
		if CheckInner(p) != Forward {
			return
		}
		want := oracleNested(whole(p))
		if got := NestedTunnels(p, 1<<20); got != want {
			t.Fatalf("%d, the oracle says %d: % x", got, want, b)
		}
		limit, limited := oracleLimit(whole(p))
		refused := want >= DefaultNesting || limited && limit == 0
		if d := CheckNesting(p, DefaultNesting, sent); d == DropNested && !refused || d == Forward && refused {
			t.Fatalf("%v for %d: % x", d, want, b)
		}
	})
}
