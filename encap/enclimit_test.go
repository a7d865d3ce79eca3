package encap

import "testing"

// limitedTo is a destination options header with a tunnel encapsulation limit, behind
// other options of 8 bytes in all when behind is set.
func limitedTo(limit byte, behind bool) []byte {
	own := []byte{4, 1, limit, 1, 1, 0}
	if !behind {
		return append([]byte{0, 0}, own...)
	}
	return append([]byte{0, 1, 0, 30, 4, 9, 9, 9, 9, 0}, own...)
}

// TestEncapsulationLimit is RFC 2473, Section 4.1.1: a packet that says that it may be in no
// more tunnels is refused, and its sender told which field says so.
func TestEncapsulationLimit(t *testing.T) {
	inner := udp6(ours6, peer6, pattern(99), full)
	for _, c := range []struct {
		name  string
		b     []byte
		want  Drop
		field uint32 // that the answer points at
	}{
		{"limit 0", extend(inner, 60, limitedTo(0, false)...), DropNested, 44},
		{"limit 1", extend(inner, 60, limitedTo(1, false)...), Forward, 0},
		{"limit 255", extend(inner, 60, limitedTo(255, false)...), Forward, 0},
		{"limit 0 behind other options", extend(inner, 60, limitedTo(0, true)...), DropNested, 52},
		{"limit 0 behind hop-by-hop options", extend(extend(inner, 60, limitedTo(0, false)...), 0, hopByHop...), DropNested, 52},
		{"limit 0 in a second destination options header",
			extend(extend(inner, 60, limitedTo(0, false)...), 60, destOptions...), DropNested, 60},
		{"limit 0 in hop-by-hop options, where it means nothing", extend(inner, 0, limitedTo(0, false)...), Forward, 0},
		{"limit 0 of 2 bytes", extend(inner, 60, 0, 0, 4, 2, 0, 0, 1, 0), Forward, 0},
		{"option longer than its header", extend(inner, 60, 0, 0, 9, 9, 0, 0, 4, 1), Forward, 0},
		{"type without a length", extend(inner, 60, 0, 0, 1, 3, 0, 0, 0, 4), Forward, 0},
		{"limit 0 of a tunnel around", extend(in6(inner), 60, limitedTo(0, false)...), DropNested, 44},
		{"limit 0 of a packet inside: its tunnel was entered", in6(extend(inner, 60, limitedTo(0, false)...)), Forward, 0},
		{"limit 1, in four tunnels", extend(in6(in6(in6(in6(inner)))), 60, limitedTo(1, false)...), DropNested, 6},
		{"limit 0, and our own", extend(in6(outgoing(inner)), 60, limitedTo(0, false)...), DropLoop, 0},
		{"header cut off", cut6(extend(inner, 60, limitedTo(0, true)...), 50), Forward, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPacket(c.b)
			if got := CheckNesting(p, DefaultNesting, sent); got != c.want {
				t.Fatalf("%v, want %v", got, c.want)
			}
			if c.want != DropNested {
				return
			}
			answer := AppendNested(nil, addr(ours6), p)
			if len(answer) < 48 || answer[40] != 4 || answer[41] != 0 {
				t.Fatalf("answer % x, want a parameter problem of code 0", answer)
			}
			if got := uint32(answer[44])<<24 | uint32(answer[45])<<16 | uint32(answer[46])<<8 | uint32(answer[47]); got != c.field {
				t.Errorf("points at %d, want %d", got, c.field)
			}
		})
	}
}

// oracleLimit is the limit of a packet, found by cutting headers and options off one by one.
func oracleLimit(b []byte) (limit byte, ok bool) {
	proto, rest := b[6], b[40:]
	for range 8 {
		if proto != 0 && proto != 60 && proto != 43 && proto != 44 || len(rest) < 8 {
			return 0, false
		}
		size := 8 + 8*int(rest[1])
		if proto == 44 {
			size = 8
		}
		if size > len(rest) {
			return 0, false
		}
		for o := rest[2:size]; proto == 60 && len(o) > 0; {
			switch {
			case o[0] == 0:
				o = o[1:]
			case len(o) < 2 || len(o) < 2+int(o[1]):
				o = nil
			case o[0] == 4 && o[1] == 1:
				return o[2], true
			default:
				o = o[2+int(o[1]):]
			}
		}
		if proto == 44 && (rest[2] != 0 || rest[3]&0xf8 != 0) {
			return 0, false
		}
		proto, rest = rest[0], rest[size:]
	}
	return 0, false
}
