package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"sixin4/encap"
	"sixin4/encap/packet"
	"sixin4/encap/packettest"
)

var (
	inner6 = netip.MustParseAddrPort("[2001:db8::1]:4000")
	inner7 = netip.MustParseAddrPort("[2001:db8::2]:5000")
)

func tcp(n int) []byte { return packettest.TCP(inner6, inner7, 1, packettest.Pattern(3, n)) }
func udp(n int) []byte { return packettest.UDP(inner6, inner7, packettest.Pattern(3, n)) }

// checkField is where the checksum of tcp and udp stands.
func checkField(b []byte) []byte {
	if b[6] == 17 {
		return b[46:48]
	}
	return b[56:58]
}

// partial leaves the checksum as the kernel does, the sum of the pseudo-header.
func partial(b []byte) []byte {
	binary.BigEndian.PutUint16(checkField(b), packettest.Sum(packettest.PseudoHeader(b, b[6])))
	return b
}

// wrong damages the checksum.
func wrong(b []byte) []byte { checkField(b)[0] ^= 0x55; return b }

// behindOptions puts destination options of eight bytes before the transport header.
func behindOptions(b []byte) []byte {
	b = slices.Concat(b[:40], []byte{b[6], 0, 1, 4, 0, 0, 0, 0}, b[40:])
	b[6] = 60
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

// looksPartial is UDP whose right checksum is the sum of the pseudo-header by chance.
func looksPartial(n int) []byte {
	b := partial(udp(n))
	sum := uint32(0)
	for i := 40; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum += uint32(binary.BigEndian.Uint16(b[46:])) // what the pseudo-header adds
	sum += uint32(binary.BigEndian.Uint16(b[48:])) ^ 0xffff
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[48:], ^uint16(sum))
	return b
}

func newPacket(b []byte) *packet.Packet {
	p := new(packet.Packet)
	p.Set(append(make([]byte, packet.Headroom), b...), packet.Headroom, nil)
	return p
}

// TestSettle is every case that merge.go names.
func TestSettle(t *testing.T) {
	tcpHint, udpHint := &hint{kind: gsoTCP6, size: 1400}, &hint{kind: gsoUDP, size: 1200}
	for _, c := range []struct {
		name    string
		inner   []byte
		facts   facts
		merged  bool
		seg     int
		partial bool
		err     error
	}{
		{"single TCP, undone", partial(tcp(100)), facts{}, false, 0, true, nil},
		{"single TCP, undone, kernel was asked", partial(tcp(100)), facts{asked: true}, false, 0, true, nil},
		{"single UDP, undone", partial(udp(100)), facts{}, false, 0, true, nil},
		{"single TCP, undone, said to be one", partial(tcp(100)), facts{hint: &hint{}, asked: true}, false, 0, true, nil},
		{"single UDP, undone, said to be one", partial(udp(100)), facts{hint: &hint{}, asked: true}, false, 0, true, nil},
		{"single UDP over the link MTU, said to be one", partial(udp(3000)), facts{hint: &hint{}}, false, 0, true, nil},
		{"merged TCP, said so", partial(tcp(5000)), facts{hint: tcpHint}, true, 1400, true, nil},
		{"merged TCP under the link MTU, said so", partial(tcp(900)), facts{hint: &hint{kind: gsoTCP6, size: 300}}, true, 300, true, nil},
		{"merged TCP with ECN, said so", partial(tcp(5000)), facts{hint: &hint{kind: gsoTCP6 | gsoECN, size: 9}}, true, 9, true, nil},
		{"merged UDP, said so", partial(udp(5000)), facts{hint: udpHint}, true, 1200, true, nil},
		{"merged by list: the first one's checksum, TCP", wrong(tcp(5000)), facts{hint: tcpHint}, true, 1400, true, nil},
		{"merged by list: the first one's checksum, UDP", wrong(udp(5000)), facts{hint: udpHint}, true, 1200, true, nil},
		{"hint of another kind", partial(tcp(5000)), facts{hint: &hint{kind: 1, size: 1400}}, false, 0, true, nil},
		{"hint without a size", partial(tcp(5000)), facts{hint: &hint{kind: gsoTCP6}}, false, 0, true, nil},
		{"merged TCP, nobody to ask", partial(tcp(5000)), facts{}, true, 1280 - 60, true, nil},
		{"merged UDP, nobody to ask", partial(udp(5000)), facts{}, true, 0, true, packet.ErrSegmentUnknown},
		{"merged UDP by list, nobody to ask", wrong(udp(5000)), facts{}, true, 0, false, packet.ErrSegmentUnknown},
		{"UDP under the link MTU, undone, kernel says nothing", partial(udp(900)), facts{asked: true}, false, 0, true, packet.ErrSegmentUnknown},
		{"long TCP, checksum right", tcp(5000), facts{}, false, 0, false, nil},
		{"long UDP, checksum right", udp(5000), facts{}, false, 0, false, nil},
		{"long UDP, checksum right, that looks undone", looksPartial(5000), facts{}, false, 0, true, nil},
		{"reassembled TCP", tcp(5000), facts{reassembled: true}, false, 0, false, nil},
		{"reassembled UDP", udp(5000), facts{reassembled: true}, false, 0, false, nil},
		{"reassembled, checksum wrong", wrong(tcp(5000)), facts{reassembled: true}, false, 0, false, nil},
		{"reassembled, undone", partial(udp(5000)), facts{reassembled: true, asked: true}, false, 0, true, nil},
		{"exactly the link MTU, undone", partial(tcp(1420)), facts{}, false, 0, true, nil},
		{"one byte over it, undone", partial(tcp(1421)), facts{}, true, 1220, true, nil},
		{"ICMPv6", packettest.ICMPv6(inner6.Addr(), inner7.Addr(), 128, 0, make([]byte, 3000)), facts{}, false, 0, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.facts.longest = 1480
			p := newPacket(slices.Clone(c.inner))
			encap.MarkSum(p)
			if got := settle(p, c.facts); got != c.merged {
				t.Errorf("merged %t, want %t", got, c.merged)
			}
			if p.Seg != c.seg || (p.Sum == packet.SumPartial) != c.partial || !errors.Is(p.Err, c.err) {
				t.Errorf("segments %d, partial %t, error %v; want %d, %t, %v", p.Seg, p.Sum == packet.SumPartial, p.Err, c.seg, c.partial, c.err)
			}
			want := c.inner
			if c.partial && c.inner[6] != 58 {
				want = partial(slices.Clone(c.inner))
			}
			if !bytes.Equal(p.Head(), want) {
				t.Error("the bytes of the packet are not what they should be")
			}
		})
	}
}
