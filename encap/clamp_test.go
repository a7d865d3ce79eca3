package encap

import (
	"bytes"
	"encoding/binary"
	"testing"

	"sixin4/encap/packet"
)

// syn returns a TCP packet with options, which it pads, and data.
func syn(flags byte, options, data []byte, kind sumKind) []byte {
	options = append(bytes.Clone(options), make([]byte, -len(options)&3)...)
	h := make([]byte, 20, 20+len(options)+len(data))
	binary.BigEndian.PutUint16(h, 40000)
	binary.BigEndian.PutUint16(h[2:], 443)
	h[12], h[13] = byte(len(h)+len(options))<<2, flags
	h = append(append(h, options...), data...)
	b := ip6(ours6, peer6, protoTCP, h)
	kind.write(b, 40, 56, protoTCP)
	return b
}

func mss(v uint16) []byte { return []byte{2, 4, byte(v >> 8), byte(v)} }

// usual is what Linux sends: MSS, SACK permitted, timestamps, no-op, window scale.
func usual(v uint16) []byte {
	return append(mss(v), 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7)
}

type clampCase struct {
	name    string
	b       []byte
	want    []byte // the options afterwards; nil: unchanged
	options int    // where they start
}

func clampCases() []clampCase {
	const s, sa = 0x02, 0x12
	c := []clampCase{
		{"SYN", syn(s, usual(1440), nil, full), usual(1220), 60},
		{"SYN-ACK", syn(sa, usual(1440), nil, full), usual(1220), 60},
		{"SYN with ECN setup", syn(s|0xc0, usual(1440), nil, full), usual(1220), 60},
		{"SYN with data", syn(s, usual(1440), pattern(333), full), usual(1220), 60},
		{"MSS alone", syn(s, mss(65535), nil, full), mss(1220), 60},
		{"at the limit", syn(s, usual(1220), nil, full), nil, 60},
		{"one above", syn(s, usual(1221), nil, full), usual(1220), 60},
		{"never raised", syn(s, usual(536), nil, full), nil, 60},
		{"MSS 0", syn(s, usual(0), nil, full), nil, 60},
		{"no options", syn(s, nil, nil, full), nil, 60},
		{"ACK", syn(0x10, usual(1440), nil, full), nil, 60},
		{"no flags", syn(0, usual(1440), nil, full), nil, 60},
		{"SYN and RST", syn(s|4, usual(1440), nil, full), nil, 60},
		{"SYN and FIN", syn(s|1, usual(1440), nil, full), nil, 60},
		{"UDP", udp6(ours6, peer6, pattern(40), full), nil, 60},
		{"no next header", ip6(ours6, peer6, 59, syn(s, usual(1440), nil, full)[40:]), nil, 60},
		{"odd place", syn(s, append([]byte{1}, mss(1440)...), nil, full), append([]byte{1}, mss(1220)...), 60},
		{"odd place, later", syn(s, append([]byte{3, 3, 7}, mss(9000)...), nil, full), append([]byte{3, 3, 7}, mss(1220)...), 60},
		{"several", syn(s, append(append(mss(1440), 1, 1, 1), mss(1400)...), nil, full), append(append(mss(1220), 1, 1, 1), mss(1220)...), 60},
		{"several, one low", syn(s, append(mss(1000), mss(1400)...), nil, full), append(mss(1000), mss(1220)...), 60},
		{"after the end of options", syn(s, append([]byte{0, 0, 0, 0}, mss(1440)...), nil, full), nil, 60},
		{"option of length 0", syn(s, append([]byte{254, 0}, mss(1440)...), nil, full), nil, 60},
		{"option of length 1", syn(s, append([]byte{254, 1}, mss(1440)...), nil, full), nil, 60},
		{"option longer than the header", syn(s, append([]byte{254, 9}, mss(1440)...), nil, full), nil, 60},
		{"MSS of length 3", syn(s, append([]byte{2, 3, 9}, mss(1440)...), nil, full), append([]byte{2, 3, 9}, mss(1220)...), 60},
		{"MSS of length 6", syn(s, []byte{2, 6, 9, 9, 9, 9, 0, 0}, nil, full), nil, 60},
		{"MSS cut off", syn(s, []byte{1, 2, 4, 9}, nil, full), nil, 60},
		{"kind without a length", syn(s, []byte{1, 1, 1, 2}, nil, full), nil, 60},
		{"40 bytes of no-ops", syn(s, bytes.Repeat([]byte{1}, 40), nil, full), nil, 60},
		{"behind extension headers", extend(extend(syn(s, usual(1440), nil, full), 60, destOptions...), 0, hopByHop...), usual(1220), 84},
		{"in a first fragment", fragmented(syn(s, usual(1440), nil, full), 1), usual(1220), 68},
		{"in an atomic fragment", fragmented(syn(s, usual(1440), nil, full), 0), usual(1220), 68},
		{"in a later fragment", fragmented(syn(s, usual(1440), nil, full), 8), nil, 68},
		{"endless chain", chained(syn(s, usual(1440), nil, full), 20), nil, 0},
		{"data offset 4", edited(syn(s, usual(1440), nil, full), 52, 0x40), nil, 60},
		{"data offset beyond the packet", edited(syn(s, usual(1440), nil, full), 52, 0xf0), nil, 60},
		{"header cut off", cut6(syn(s, usual(1440), nil, full), 59), nil, 59},
		{"options cut off", cut6(syn(s, usual(1440), nil, full), 62), nil, 60},
	}
	return c
}

func edited(b []byte, at int, v byte) []byte {
	b[at] = v
	return b
}

func TestClampMSS(t *testing.T) {
	for _, c := range clampCases() {
		t.Run(c.name, func(t *testing.T) {
			p := newPacket(c.b)
			valid := VerifySum(p)
			want := bytes.Clone(c.b)
			if got := ClampMSS(p, MinTunMTU.MSS()); got != (c.want != nil) {
				t.Errorf("clamped: %v", got)
			}
			got := whole(p)
			if c.want != nil {
				copy(want[c.options:], c.want)
				copy(want[c.options-4:], got[c.options-4:c.options-2]) // the checksum, which is looked at below
			}
			equalBytes(t, "packet", got, want)
			if VerifySum(p) != valid {
				t.Errorf("the checksum was right: %v, is right: %v", valid, !valid)
			}
			if ClampMSS(p, MinTunMTU.MSS()) {
				t.Error("it was clamped twice")
			}
		})
	}
}

// TestClampMSSChecksums: what was right is right, what was wrong is as wrong as before, and
// what is still to be done is right when it is done.
func TestClampMSSChecksums(t *testing.T) {
	for _, at := range [][]byte{nil, {1}, {1, 1}, {1, 1, 1}} {
		for limit := uint16(500); limit < 1500; limit += 7 {
			options := append(bytes.Clone(at), mss(1460)...)
			b := syn(2, options, pattern(int(limit)), full)
			for _, head := range []int{len(b), 68} {
				p := newSplit(b, head)
				if changed := ClampMSS(p, limit); changed != (limit < 1460) || !VerifySum(p) {
					t.Fatalf("%d at %d: changed %v, % x", limit, len(at), changed, p.Head())
				}
			}
			bad := newPacket(syn(2, options, nil, wrong))
			if ClampMSS(bad, limit); VerifySum(bad) {
				t.Fatalf("%d: a wrong checksum was put right", limit)
			}
			part := newPacket(syn(2, options, nil, partial))
			part.Sum = packet.SumPartial
			field := bytes.Clone(part.Head()[56:58])
			ClampMSS(part, limit)
			equalBytes(t, "partial checksum", part.Head()[56:58], field)
			if CompleteSum(part); !VerifySum(part) {
				t.Fatalf("%d: completed, the checksum is wrong", limit)
			}
		}
	}
}

// TestClampMSSOptionsInPayload: a head that ends in the middle of the TCP header is left
// alone, and so is what follows it.
func TestClampMSSOptionsInPayload(t *testing.T) {
	b := syn(2, usual(1440), pattern(50), full)
	for head := 40; head < 80; head++ {
		p := newSplit(b, head)
		if ClampMSS(p, 1220) {
			t.Errorf("%d bytes in the head: clamped", head)
		}
		equalBytes(t, "packet", whole(p), b)
	}
}

func TestMSS(t *testing.T) {
	for mtu, want := range map[TunMTU]uint16{1280: 1220, 1480: 1420, MaxTunMTU: 65455} {
		if got := mtu.MSS(); got != want {
			t.Errorf("MTU %d: %d, want %d", mtu, got, want)
		}
	}
}

// oracleClamp rewrites the options of a TCP header by a parse of its own, which knows
// neither offsets in packets nor checksums.
func oracleClamp(options []byte, limit uint16) (out []byte) {
	for len(options) > 0 {
		switch {
		case options[0] == 0:
			return append(out, options...)
		case options[0] == 1:
			out, options = append(out, 1), options[1:]
			continue
		case len(options) < 2 || options[1] < 2 || int(options[1]) > len(options):
			return append(out, options...)
		}
		o := options[:options[1]]
		options = options[options[1]:]
		if o[0] == 2 && len(o) == 4 {
			v := min(int(o[2])*256+int(o[3]), int(limit))
			o = []byte{2, 4, byte(v / 256), byte(v)}
		}
		out = append(out, o...)
	}
	return out
}

// FuzzClampMSS: any options in a sound SYN become what the oracle makes of them, and the
// checksum stays right; and any packet is survived, with no byte changed but those of
// options and checksum.
func FuzzClampMSS(f *testing.F) {
	for _, c := range clampCases() {
		f.Add(c.b, uint16(1220))
	}
	f.Fuzz(func(t *testing.T, b []byte, limit uint16) {
		if p := newPacket(b); CheckInner(p) == Forward {
			before := whole(p)
			valid := VerifySum(p)
			changed := ClampMSS(p, limit)
			if valid && !VerifySum(p) || changed == bytes.Equal(before, whole(p)) || p.Len() != len(before) {
				t.Fatalf("changed %v\n% x\n% x", changed, before, whole(p))
			}
		}
		options := b[:min(len(b), 40)&^3]
		made := syn(2, options, b[len(options):], full)
		if len(made) > int(MaxTunMTU) {
			return
		}
		p := newPacket(made)
		ClampMSS(p, limit)
		got := whole(p)
		equalBytes(t, "options", got[60:60+len(options)], oracleClamp(options, limit))
		if oracleSum(append(oraclePseudo(got[8:24], got[24:40], 6, len(got)-40), got[40:]...)) != 65535 {
			t.Fatalf("wrong checksum: % x", got)
		}
	})
}
