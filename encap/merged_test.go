package encap

import (
	"testing"

	"sixin4/encap/packet"
)

// offset sets the TCP data offset, in words of 4 bytes.
func offset(b []byte, words byte) []byte {
	b[52] = words << 4
	return b
}

func TestTransport(t *testing.T) {
	tcp := func() []byte { return tcp6(peer6, ours6, pattern(100), full) }
	cases := []struct {
		name    string
		b       []byte
		head    int
		proto   uint8
		headers int
		ok      bool
	}{
		{"TCP", tcp(), 160, 6, 60, true},
		{"TCP, longest header", offset(tcp(), 15), 160, 6, 100, true},
		{"TCP, header of 16 bytes", offset(tcp(), 4), 160, 0, 0, false},
		{"TCP, header longer than the packet", offset(tcp6(peer6, ours6, pattern(10), full), 15), 70, 0, 0, false},
		{"TCP, header longer than the head", offset(tcp(), 15), 99, 0, 0, false},
		{"TCP, all of the head", offset(tcp(), 15), 100, 6, 100, true},
		{"TCP behind hop-by-hop", extend(tcp(), 0, hopByHop...), 168, 6, 68, true},
		{"UDP", udp6(peer6, ours6, nil, full), 48, 17, 48, true},
		{"UDP, cut off", udp6(peer6, ours6, nil, full)[:47], 47, 0, 0, false},
		{"ICMPv6", echo(peer6), 80, 0, 0, false},
		{"fragment", fragmented(tcp(), 1), 168, 0, 0, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			proto, headers, ok := Transport(newSplit(c.b, c.head))
			if proto != c.proto || headers != c.headers || ok != c.ok {
				t.Errorf("protocol %d, %d bytes of headers, %v", proto, headers, ok)
			}
		})
	}
}

func TestMakePartial(t *testing.T) {
	for name, c := range map[string]struct{ b, want []byte }{
		"TCP with the first part's checksum": {tcp6(peer6, ours6, pattern(3000), wrong), tcp6(peer6, ours6, pattern(3000), partial)},
		"TCP, partial already":               {tcp6(peer6, ours6, pattern(9), partial), tcp6(peer6, ours6, pattern(9), partial)},
		"UDP":                                {udp6(peer6, ours6, pattern(99), full), udp6(peer6, ours6, pattern(99), partial)},
	} {
		p := newPacket(c.b)
		MakePartial(p)
		if equalBytes(t, name, whole(p), c.want); p.Sum != packet.SumPartial {
			t.Errorf("%s: Sum %d", name, p.Sum)
		}
	}
	p := newPacket(echo(peer6))
	MakePartial(p)
	if equalBytes(t, "ICMPv6", whole(p), echo(peer6)); p.Sum != packet.SumFull {
		t.Errorf("ICMPv6: Sum %d", p.Sum)
	}
}

func TestFillChecksum(t *testing.T) {
	for name, b := range map[string][]byte{
		"plain":        ip4(peer4, echo(peer6)),
		"with options": withOptions(ip4(peer4, nil), pattern(40)),
	} {
		want := append([]byte(nil), b...)
		b[10], b[11] = 0x55, 0xaa
		IPv4(b).FillChecksum()
		equalBytes(t, name, b, want)
	}
}
