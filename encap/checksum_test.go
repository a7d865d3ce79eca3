package encap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"sixin4/encap/packet"
)

var (
	hopByHop    = []byte{0, 0, 5, 2, 0, 0, 1, 0}
	destOptions = []byte{0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	usedRouting = []byte{0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
)

// routed puts a routing header of kind, with one segment left, before the
// transport header: the packet stops at via first, but its checksum is still
// that of the packet to its final destination.
func routed(b []byte, kind byte, via string) []byte {
	body := append([]byte{0, 2, kind, 1, 0, 0, 0, 0}, b[24:40]...)
	b = extend(b, protoRouting, body...)
	stop := netip.MustParseAddr(via).As16()
	copy(b[24:40], stop[:])
	return b
}

// TestInboundMergedPackets has the rows of the part about merged packets and
// partial checksums.
func TestInboundMergedPackets(t *testing.T) {
	data := pattern(1001)
	cases := []struct {
		name  string
		inner []byte
		want  packet.Sum
	}{
		{"TCP partial", tcp6(peer6, ours6, data, partial), packet.SumPartial},
		{"TCP partial, no data", tcp6(peer6, ours6, nil, partial), packet.SumPartial},
		{"TCP partial, merged: 28 kB", tcp6(peer6, ours6, pattern(28160), partial), packet.SumPartial},
		{"TCP partial, merged: longest", tcp6(peer6, ours6, pattern(65515-60), partial), packet.SumPartial},
		{"TCP full", tcp6(peer6, ours6, data, full), packet.SumFull},
		{"TCP wrong", tcp6(peer6, ours6, data, wrong), packet.SumFull},
		{"TCP header cut off", partialAt(cut6(tcp6(peer6, ours6, nil, full), 59), 40, 56, protoTCP), packet.SumFull},
		{"UDP partial", udp6(peer6, ours6, data, partial), packet.SumPartial},
		{"UDP partial, no data", udp6(peer6, ours6, nil, partial), packet.SumPartial},
		{"UDP full", udp6(peer6, ours6, data, full), packet.SumFull},
		{"UDP without a checksum", udp6(peer6, ours6, data, none), packet.SumFull},
		{"UDP length shorter than the packet", withUDPLength(udp6(peer6, ours6, data, partial), 900), packet.SumFull},
		{"UDP length longer than the packet", withUDPLength(udp6(peer6, ours6, data, partial), 1100), packet.SumFull},
		{"UDP length of 7", withUDPLength(udp6(peer6, ours6, data, partial), 7), packet.SumFull},
		{"hop-by-hop, TCP partial", extend(tcp6(peer6, ours6, data, partial), 0, hopByHop...), packet.SumPartial},
		{"destination options, UDP partial", extend(udp6(peer6, ours6, data, partial), 60, destOptions...), packet.SumPartial},
		{"three headers, TCP partial", extend(extend(extend(tcp6(peer6, ours6, data, partial), 60, destOptions...), 43, usedRouting...), 0, hopByHop...), packet.SumPartial},
		{"routing type 2 under way, TCP partial", routed(tcp6(peer6, ours6, data, partial), 2, "2001:db8:9::9"), packet.SumPartial},
		{"routing type 4 under way, UDP partial", routed(udp6(peer6, ours6, data, partial), 4, "2001:db8:9::9"), packet.SumPartial},
		{"routing of an unknown type under way", routed(tcp6(peer6, ours6, data, partial), 253, "2001:db8:9::9"), packet.SumFull},
		{"routing type 2 without an address", shortRouted(), packet.SumFull},
		{"fragment header", extend(tcp6(peer6, ours6, data, partial), 44, 0, 0, 0, 1, 0, 0, 0, 9), packet.SumFull},
		{"8 extension headers", chained(tcp6(peer6, ours6, data, partial), 8), packet.SumPartial},
		{"9 extension headers", chained(tcp6(peer6, ours6, data, partial), 9), packet.SumFull},
		{"extension header cut off", cut6(extend(tcp6(peer6, ours6, nil, partial), 0, hopByHop...), 47), packet.SumFull},
		{"ICMPv6", echo(peer6), packet.SumFull},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newPacket(ip4(peer4, c.inner))
			if _, d := Decap(p); d != Forward {
				t.Fatal(d)
			}
			if oracle := oraclePartial(c.inner); p.Sum != c.want || oracle != c.want {
				t.Errorf("Sum %d, want %d; the oracle says %d", p.Sum, c.want, oracle)
			}
			equalBytes(t, "inner packet", whole(p), c.inner)
		})
	}
}

// partialAt makes the checksum at field partial whatever the packet is.
func partialAt(b []byte, off, field int, proto byte) []byte {
	partial.write(b, off, field, proto)
	return b
}

// shortRouted has a routing header that ends before its first address. Where
// that would be, there is the TCP header, with a checksum that would fit.
func shortRouted() []byte {
	b := extend(tcp6(peer6, ours6, pattern(9), none), protoRouting, 0, 0, 2, 1, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(b[64:], oracleSum(oraclePseudo(b[8:24], b[48:64], protoTCP, len(b)-48)))
	return b
}

func withUDPLength(b []byte, n int) []byte {
	binary.BigEndian.PutUint16(b[44:], uint16(n))
	binary.BigEndian.PutUint16(b[46:], oracleSum(oraclePseudo(b[8:24], b[24:40], protoUDP, n)))
	return b
}

func chained(b []byte, n int) []byte {
	for range n {
		b = extend(b, 60, 0, 0, 1, 4, 0, 0, 0, 0)
	}
	return b
}

// TestMarkSumLeavesWhatItIsTold: a reader that was told more by the kernel than
// the packet shows is not overruled.
func TestMarkSumLeavesWhatItIsTold(t *testing.T) {
	p := newPacket(udp6(peer6, ours6, pattern(100), full))
	p.Sum = packet.SumPartial
	if MarkSum(p); p.Sum != packet.SumPartial {
		t.Error("the mark is gone")
	}
}

func TestCompleteSum(t *testing.T) {
	for _, n := range []int{0, 1, 2, 7, 8, 63, 64, 65, 1399, 1400} {
		for name, build := range map[string]func(string, string, []byte, sumKind) []byte{"tcp": tcp6, "udp": udp6} {
			part, want := build(ours6, peer6, pattern(n), partial), build(ours6, peer6, pattern(n), full)
			for head := 60; head <= len(part); head += 61 {
				t.Run(fmt.Sprintf("%s/%d bytes, %d in the head", name, n, head), func(t *testing.T) {
					p := newSplit(part, head)
					MarkSum(p)
					if p.Sum != packet.SumPartial || VerifySum(p) {
						t.Fatalf("Sum %d before; right already: %v", p.Sum, VerifySum(p))
					}
					CompleteSum(p)
					equalBytes(t, "packet", whole(p), want)
					if p.Sum != packet.SumFull || !VerifySum(p) {
						t.Errorf("Sum %d after; right: %v", p.Sum, VerifySum(p))
					}
				})
			}
		}
	}
}

func TestCompleteSumThroughExtensionHeaders(t *testing.T) {
	for name, around := range map[string]func([]byte) []byte{
		"hop-by-hop":      func(b []byte) []byte { return extend(b, 0, hopByHop...) },
		"used routing":    func(b []byte) []byte { return extend(b, 43, usedRouting...) },
		"routing, type 4": func(b []byte) []byte { return routed(b, 4, "2001:db8:9::9") },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPacket(around(udp6(ours6, peer6, pattern(99), partial)))
			p.Sum = packet.SumPartial
			CompleteSum(p)
			equalBytes(t, "packet", whole(p), around(udp6(ours6, peer6, pattern(99), full)))
		})
	}
}

// TestCompleteSumZero: UDP must not end up with 0, which means none; TCP may.
func TestCompleteSumZero(t *testing.T) {
	udp := zeroSum(udp6(ours6, peer6, pattern(20), partial), protoUDP, 46)
	p := newPacket(udp)
	p.Sum = packet.SumPartial
	CompleteSum(p)
	if got := p.Head()[46:48]; !bytes.Equal(got, []byte{0xff, 0xff}) || !VerifySum(p) {
		t.Errorf("UDP checksum % x", got)
	}
	tcp := zeroSum(tcp6(ours6, peer6, pattern(20), partial), protoTCP, 56)
	p = newPacket(tcp)
	p.Sum = packet.SumPartial
	CompleteSum(p)
	if got := p.Head()[56:58]; !bytes.Equal(got, []byte{0, 0}) || !VerifySum(p) {
		t.Errorf("TCP checksum % x", got)
	}
}

// zeroSum changes the last two bytes so that the full checksum is 0.
func zeroSum(b []byte, proto byte, field int) []byte {
	last := b[len(b)-2:]
	last[0], last[1] = 0, 0
	full.write(b, 40, field, proto)
	copy(last, b[field:field+2])
	partial.write(b, 40, field, proto)
	return b
}

func TestCompleteSumLeavesOthersAlone(t *testing.T) {
	for name, b := range map[string][]byte{
		"full":                  tcp6(ours6, peer6, pattern(10), wrong),
		"no transport":          echo(ours6),
		"UDP without checksum":  udp6(ours6, peer6, pattern(10), none),
		"pseudo-header, unsaid": tcp6(ours6, peer6, pattern(10), partial),
	} {
		p := newPacket(b)
		CompleteSum(p)
		equalBytes(t, name, whole(p), b)
	}
	for name, b := range map[string][]byte{
		"no transport":       echo(ours6),
		"UDP length of 7":    withUDPLength(udp6(ours6, peer6, pattern(10), partial), 7),
		"UDP length too big": withUDPLength(udp6(ours6, peer6, pattern(10), partial), 19),
	} {
		p := newPacket(b)
		p.Sum = packet.SumPartial
		CompleteSum(p)
		equalBytes(t, "marked by mistake: "+name, whole(p), b)
	}
}

func TestVerifySum(t *testing.T) {
	cases := []struct {
		name string
		b    []byte
		want bool
	}{
		{"TCP full", tcp6(ours6, peer6, pattern(77), full), true},
		{"TCP partial", tcp6(ours6, peer6, pattern(77), partial), false},
		{"TCP wrong", tcp6(ours6, peer6, pattern(77), wrong), false},
		{"UDP full", udp6(ours6, peer6, pattern(77), full), true},
		{"UDP wrong", udp6(ours6, peer6, pattern(77), wrong), false},
		{"UDP without a checksum", udp6(ours6, peer6, pattern(77), none), false},
		{"UDP with 0 for a right sum of 0", zeroUDP(), false},
		{"UDP length of 7", withUDPLength(udp6(ours6, peer6, pattern(77), full), 7), false},
		{"UDP, bytes behind its length", append6(udp6(ours6, peer6, pattern(77), full), 3), true},
		{"behind hop-by-hop", extend(tcp6(ours6, peer6, pattern(77), full), 0, hopByHop...), true},
		{"fragment", extend(tcp6(ours6, peer6, pattern(77), full), 44, 0, 0, 0, 1, 0, 0, 0, 9), false},
		{"ICMPv6", echo(ours6), false},
		{"no next header", ip6(ours6, peer6, 59, nil), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := VerifySum(newPacket(c.b)); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// zeroUDP has a checksum that is right as a number, but means that there is none.
func zeroUDP() []byte {
	b := zeroSum(udp6(ours6, peer6, pattern(20), partial), protoUDP, 46)
	b[46], b[47] = 0, 0
	return b
}

// append6 adds n bytes to the payload of an IPv6 packet.
func append6(b []byte, n int) []byte {
	b = append(b, pattern(n)...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}
