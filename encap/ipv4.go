package encap

import (
	"encoding/binary"
	"net/netip"

	"sixin4/encap/packet"
)

// IPv4 is a view of an IPv4 packet (RFC 791, Section 3.1). Its accessors may be
// called after Check has answered [Forward], and panic on a shorter packet.
type IPv4 []byte

const (
	flagDF     = 0x4000 // don't fragment
	flagMF     = 0x2000 // more fragments
	maskOffset = 0x1fff // fragment offset in units of 8 bytes
)

// Check is the view's only gate: length, version, header and total length, and
// the checksum of a header without options. It answers one of [DropOuterShort], [DropOuterVersion],
// [DropOuterLength], [DropOuterChecksum] or [Forward].
func (b IPv4) Check() Drop { return b.CheckIn(len(b)) }

// CheckIn is Check for a packet of n bytes, of which b is the head.
func (b IPv4) CheckIn(n int) Drop {
	if len(b) < HeaderLen {
		return DropOuterShort
	}
	if b[0]>>4 != 4 {
		return DropOuterVersion
	}
	header, total := b.HeaderLen(), b.TotalLen()
	if header < HeaderLen || header > len(b) || total < header || total > n {
		return DropOuterLength
	}
	// The kernel has checked the header before, and then filled in record route and
	// timestamp options without summing up again.
	if header == HeaderLen && packet.Fold(b.headerSum()) != 0xffff {
		return DropOuterChecksum
	}
	return Forward
}

// headerSum returns the sum of the header with its options and checksum. The
// usual 20 bytes are spelt out: they are summed for every packet.
func (b IPv4) headerSum() uint64 {
	const low = 0xffffffff
	h := (*[HeaderLen]byte)(b)
	first, second := binary.BigEndian.Uint64(h[0:]), binary.BigEndian.Uint64(h[8:])
	sum := first>>32 + first&low + second>>32 + second&low + uint64(binary.BigEndian.Uint32(h[16:]))
	if h[0] == 0x45 {
		return sum
	}
	return packet.AddBytes(sum, b[HeaderLen:b.HeaderLen()])
}

// HeaderLen returns the length of the header with its options, in bytes.
func (b IPv4) HeaderLen() int { return int(b[0]&0x0f) * 4 }

// TOS returns DSCP and ECN, the former type of service.
func (b IPv4) TOS() uint8 { return b[1] }

// ECN returns the two bits of congestion notification (RFC 3168, Section 5).
func (b IPv4) ECN() uint8 { return b[1] & ecnMask }

// TotalLen returns the length of the packet, header included, in bytes.
func (b IPv4) TotalLen() int { return int(binary.BigEndian.Uint16(b[2:])) }

// ID returns the identification.
func (b IPv4) ID() uint16 { return binary.BigEndian.Uint16(b[4:]) }

// DF reports whether the packet must not be fragmented.
func (b IPv4) DF() bool { return b.flags()&flagDF != 0 }

// Fragment reports whether this is a piece of a packet and not a whole one.
func (b IPv4) Fragment() bool { return b.flags()&(flagMF|maskOffset) != 0 }

func (b IPv4) flags() uint16 { return binary.BigEndian.Uint16(b[6:]) }

// TTL returns the time to live, in hops.
func (b IPv4) TTL() uint8 { return b[8] }

// Protocol returns the number of the protocol inside.
func (b IPv4) Protocol() uint8 { return b[9] }

// Src4 returns the source address as bytes.
func (b IPv4) Src4() [4]byte { return [4]byte(b[12:16]) }

// Dst4 returns the destination address as bytes.
func (b IPv4) Dst4() [4]byte { return [4]byte(b[16:20]) }

// Src returns the source address.
func (b IPv4) Src() netip.Addr { return netip.AddrFrom4(b.Src4()) }

// Dst returns the destination address.
func (b IPv4) Dst() netip.Addr { return netip.AddrFrom4(b.Dst4()) }

// unicast4 reports whether a can be one host's address in a header on a wire:
// not 0/8, 127/8, multicast, or 240/4 with the broadcast address (RFC 1122,
// Section 3.2.1.3).
func unicast4(a [4]byte) bool {
	return a[0] != 0 && a[0] != 127 && a[0] < 224
}

// private4 reports whether a means a different host on every network: RFC 1918
// and link-local addresses (RFC 3927).
func private4(a [4]byte) bool {
	return a[0] == 10 ||
		a[0] == 172 && a[1]&0xf0 == 16 ||
		a[0] == 192 && a[1] == 168 ||
		a[0] == 169 && a[1] == 254
}

// FillChecksum computes the header checksum in place (RFC 791, Section 3.1). b
// has passed Check, its checksum aside.
func (b IPv4) FillChecksum() {
	binary.BigEndian.PutUint16(b[10:], 0)
	binary.BigEndian.PutUint16(b[10:], ^packet.Fold(b.headerSum()))
}
