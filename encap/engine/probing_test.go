package engine

import (
	"net/netip"
	"testing"

	"sixin4/encap"
	"sixin4/encap/packettest"
)

// echoOf is an ICMPv6 message of a type that is size bytes long with its header.
func echoOf(kind byte, src, dst netip.Addr, size int) []byte {
	m := make([]byte, size-encap.IPv6HeaderLen)
	m[0] = kind
	return packettest.IPv6(src, dst, 58, m)
}

// TestProbing: nothing is longer than what was found, except for probes, which are as long
// as the link allows.
func TestProbing(t *testing.T) {
	search := Probing{Remote: peer4, MTU: 1300, From: host6, To: other6}
	further := search
	further.MTU = 1400
	for _, c := range []struct {
		name   string
		now    Probing
		packet []byte
		passes bool
	}{
		{"as long as was found", search, udp(host6, other6, 1, 1280), true},
		{"longer", search, udp(host6, other6, 1, 1281), false},
		{"a probe", search, echoOf(128, host6, other6, 1480), true},
		{"a probe too long for the link", search, echoOf(128, host6, other6, 1481), false},
		{"an answer", search, echoOf(129, host6, other6, 1480), false},
		{"somebody else's request", search, echoOf(128, ours6, other6, 1480), false},
		{"a request to somebody else", search, echoOf(128, host6, ours6, 1480), false},
		{"no request at all", search, packettest.IPv6(host6, other6, 59, make([]byte, 1440)), false},
		{"as long as was found then", further, udp(host6, other6, 1, 1380), true},
		{"longer than then", further, udp(host6, other6, 1, 1381), false},
		{"no search", Probing{}, udp(host6, other6, 1, 1480), true},
	} {
		bubble(t, c.name, func(t *testing.T) {
			r := newRig(t, Config{MTU: 1480}, hostTable()).start(t)
			for _, p := range []Probing{search, c.now} {
				if err := r.SetProbing(p); err != nil {
					t.Fatal(err)
				}
			}
			want := [][]byte{packettest.Outer(ours4, peer4, 1, c.packet)}
			drops := uint64(0)
			if !c.passes {
				want, drops = nil, 1
			}
			equalPackets(t, "out", r.out(c.packet), want...)
			if s := r.Stats(); s.Drops[encap.DropTooBig] != drops || s.Tx.Packets != 1-drops || s.Fragments != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestProbingOutlives: another table with the peer at the same address.
func TestProbingOutlives(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		r := newRig(t, Config{MTU: 1480}, hostTable()).start(t)
		if err := r.SetProbing(Probing{Remote: peer4, MTU: 1300, From: host6, To: other6}); err != nil {
			t.Fatal(err)
		}
		next, err := NewTable(hostTable())
		if err != nil {
			t.Fatal(err)
		}
		r.SetTable(next)
		equalPackets(t, "too long", r.out(udp(host6, other6, 1, 1281)))
	})
}

func TestProbingOfNobody(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		r := newRig(t, Config{MTU: 1480}, hostTable()).start(t)
		for _, p := range []Probing{{Remote: hubAddr(7), MTU: 1300, From: host6, To: other6}, {Remote: peer4, MTU: 1300}} {
			if err := r.SetProbing(p); err == nil {
				t.Errorf("%+v: no error", p)
			}
		}
		equalPackets(t, "out", r.out(udp(host6, other6, 1, 1480)), packettest.Outer(ours4, peer4, 1, udp(host6, other6, 1, 1480)))
	})
}
