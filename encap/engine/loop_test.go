package engine

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"sixin4/encap"
	"sixin4/encap/packettest"
)

// in41 is inner in IPv6, n times.
func in41(n int, inner []byte) []byte {
	for range n {
		inner = packettest.IPv6(host6, other6, 41, inner)
	}
	return inner
}

// limited is a packet with a tunnel encapsulation limit (RFC 2473, Section 5.1).
func limited(limit byte) []byte {
	return packettest.IPv6(host6, other6, 60, append([]byte{59, 0, 4, 1, limit, 1, 1, 0}, make([]byte, 8)...))
}

// TestLoop: our own outer packets, and what is in too many tunnels, do not go out
// (RFC 2473, Section 4.1). It is logged once.
func TestLoop(t *testing.T) {
	inner := udp(host6, other6, 1, 100)
	own := packettest.Outer(ours4, peer4, 1, inner)
	in4 := func(b []byte) []byte { return packettest.IPv6(host6, other6, 4, b) }
	for _, c := range []struct {
		name   string
		p      []byte
		want   encap.Drop
		answer byte // type of ICMPv6
		field  uint32
	}{
		{"our own outer packet, routed into the TUN", own, encap.DropLoop, 0, 0},
		{"our own outer packet, through an IPv4 in IPv6 tunnel", in4(own), encap.DropLoop, 0, 0},
		{"IPv4 of others", packettest.Outer(other4, peer4, 1, inner), encap.DropInnerVersion, 0, 0},
		{"6in4 of others in IPv6", in4(packettest.Outer(other4, peer4, 1, inner)), encap.Forward, 0, 0},
		{"in no tunnel", inner, encap.Forward, 0, 0},
		{"in three tunnels", in41(3, inner), encap.Forward, 0, 0},
		{"in four tunnels", in41(4, inner), encap.DropNested, 4, 6},
		{"in twenty tunnels", in41(20, inner), encap.DropNested, 4, 6},
		{"that may be in no more tunnels", limited(0), encap.DropNested, 4, 44},
		{"that may be in one more tunnel", limited(1), encap.Forward, 0, 0},
	} {
		bubble(t, c.name, func(t *testing.T) {
			r := newRig(t, Config{}, hostTable()).start(t)
			for range 3 {
				r.out(c.p)
			}
			answers := drain(r.toTUN)
			if c.want == encap.Forward {
				if s := r.Stats(); s.Tx.Packets != 3 || len(answers) != 0 {
					t.Errorf("%+v, %d answers", s, len(answers))
				}
				return
			}
			wantDrops(t, r.Engine, map[encap.Drop]uint64{c.want: 3})
			logged := slices.DeleteFunc(r.log.take(), func(l string) bool { return !strings.HasSuffix(l, c.want.String()) })
			if news := c.want != encap.DropInnerVersion; news != (len(logged) == 1) {
				t.Errorf("logged %q", logged)
			}
			if (c.answer != 0) != (len(answers) == 3) {
				t.Fatalf("%d answers", len(answers))
			}
			for _, a := range answers {
				if a[40] != c.answer || a[41] != 0 || binary.BigEndian.Uint32(a[44:]) != c.field {
					t.Errorf("answer % x", a[:60])
				}
			}
		})
	}
}

// TestECNLogged: RFC 6040, Section 4.2 has the illegal combination logged; once for each
// change of state.
func TestECNLogged(t *testing.T) {
	bubble(t, "outer CE, inner Not-ECT", func(t *testing.T) {
		r := newRig(t, Config{}, hostTable()).start(t)
		bad := packettest.Outer(peer4, ours4, 1, echo(other6, host6), func(b []byte) { b[1] = 3 })
		for range 5 {
			r.in(bad, wrapped(peer4, echo(other6, host6)))
		}
		if got := r.log.take(); len(got) != 1 || got[0] != "WARN packets are being lost: ecn" {
			t.Errorf("%q", got)
		}
		wantDrops(t, r.Engine, map[encap.Drop]uint64{encap.DropECN: 5})
	})
}
