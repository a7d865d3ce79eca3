package encap

import (
	"encoding/binary"
)

// checkSource refuses inner source addresses that no peer may use (RFC 4213,
// Section 3.6). Global unicast, nearly all traffic, is decided by one byte.
func (b IPv6) checkSource() Drop {
	src := b[srcOffset:dstOffset]
	switch {
	case src[0]>>5 == 1: // 2000::/3
		if src[0] == 0x20 && src[1] == 0x02 && !usable6to4([4]byte(src[2:6])) {
			return DropInnerSource6to4
		}
	case src[0] == 0xff:
		return DropInnerSourceMulticast
	case src[0] == 0xfe && src[1]&0xc0 == 0xc0:
		return DropInnerSourceSiteLocal
	case src[0] == 0:
		return b.checkLowSource()
	}
	return Forward
}

// usable6to4 reports whether a, out of 2002:a::/48, can be the address of a
// 6to4 router: unicast, and the same host everywhere (RFC 3964).
func usable6to4(a [4]byte) bool { return unicast4(a) && !private4(a) }

// checkLowSource tells apart the addresses with an IPv4 address or next to
// nothing in their last 32 bits (RFC 4291, Sections 2.5.2 to 2.5.5).
func (b IPv6) checkLowSource() Drop {
	high := binary.BigEndian.Uint64(b[srcOffset:])
	low := binary.BigEndian.Uint64(b[srcOffset+8:])
	switch {
	case high != 0:
		return Forward
	case low == 0 && b.isDAD():
		return Forward
	case low == 0:
		return DropInnerSourceUnspecified
	case low == 1:
		return DropInnerSourceLoopback
	case low>>32 == 0xffff:
		return DropInnerSourceMapped
	case low>>32 == 0:
		return DropInnerSourceCompatible
	}
	return Forward
}

// isDAD reports whether b is the neighbour solicitation of duplicate address
// detection (RFC 4862, Section 5.4.2): what RFC 4861, Section 7.1.1 demands of
// one without a source address, but for its checksum and options, which the
// stack checks.
func (b IPv6) isDAD() bool {
	const (
		solicitationLen      = 24
		neighborSolicitation = 135
	)
	if b.NextHeader() != protoICMPv6 || b.HopLimit() != 255 || len(b) < IPv6HeaderLen+solicitationLen {
		return false
	}
	icmp := b[IPv6HeaderLen:]
	target := [16]byte(icmp[8:24])
	return icmp[0] == neighborSolicitation && icmp[1] == 0 &&
		target[0] != 0xff && b.Dst16() == solicitedNode(target)
}

// solicitedNode returns the multicast address on which the owner of a listens
// (RFC 4291, Section 2.7.1).
func solicitedNode(a [16]byte) [16]byte {
	return [16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]}
}
