package encap

import "encoding/binary"

// The upper halves of an ISATAP interface identifier (RFC 5214, Section 6.1), for an
// IPv4 address that is unique in the world and for one that is not.
const (
	isatapUnique = 0x02005efe
	isatapLocal  = 0x00005efe
)

// linkLocalHigh is the upper half of an address of fe80::/64.
const linkLocalHigh = 0xfe80 << 48

// allRouters is the lower half of ff02::2 (RFC 4291, Section 2.7.1).
const allRouters = 2

// Outbound returns where an inner packet, which has passed [CheckInner], is sent, and
// [Forward]; or [DropMappedDestination] or [DropNoRelay].
//
// An IPv4 address out of an inner one is used only when it is another host's: unicast,
// and, but for ISATAP, not private when local is public (RFC 3964, Section 4.2). The links of 6to4 and
// 6rd have neither link-local addresses nor multicast; that of ISATAP has only router
// solicitations, for the router (RFC 5214, Section 8.3.4).
func (m *Mapping) Outbound(inner IPv6) (dst [4]byte, d Drop) {
	high, low := halves(inner[dstOffset:IPv6HeaderLen])
	switch {
	case high>>56 == 0xff:
		if m.isatap && high == 0xff02<<48 && low == allRouters {
			return m.relays[0], Forward
		}
		return dst, DropMappedDestination
	case m.isatap && m.linked(inner[dstOffset:IPv6HeaderLen], high):
		if v4, ok := isatapIPv4(low); ok && m.usable(v4) {
			return v4, Forward
		}
		return dst, DropMappedDestination
	case !m.isatap && high&m.mask == m.domain:
		if v4 := m.embedded(high); m.usable(v4) {
			return v4, Forward
		}
		return dst, DropMappedDestination
	case high>>54 == 0xfe80>>6:
		return dst, DropMappedDestination
	case len(m.relays) == 0:
		return dst, DropNoRelay
	}
	return m.relays[0], Forward
}

// Inbound decides about an inner packet that came from src, after [Decap]: [Forward],
// [DropOuterSource], [DropMappedSource], [DropNotRelay] or [DropMappedOther].
//
// An inner source of the mapping has to hold src, and one from outside has to come from
// a relay. A 6to4 or 6rd site takes only what is for its own prefix: it
// is no relay for others (RFC 3964, Section 5; RFC 5969, Section 12).
func (m *Mapping) Inbound(src [4]byte, inner IPv6) Drop {
	if src == m.local {
		return DropOuterSource
	}
	high, low := halves(inner[srcOffset:dstOffset])
	if m.isatap {
		return m.inboundISATAP(src, inner, high, low)
	}
	switch {
	case high&m.mask == m.domain:
		if m.embedded(high) != src {
			return DropMappedSource
		}
	case !m.isRelay(src):
		return DropNotRelay
	}
	if to, _ := halves(inner[dstOffset:IPv6HeaderLen]); to&m.ownMask != m.own {
		return DropMappedOther
	}
	return Forward
}

// inboundISATAP is RFC 5214, Section 7.3: the source holds src and is of the link, or
// src is a router.
func (m *Mapping) inboundISATAP(src [4]byte, inner IPv6, high, low uint64) Drop {
	if m.isRelay(src) {
		return Forward
	}
	v4, ok := isatapIPv4(low)
	switch {
	case !ok || !m.linked(inner[srcOffset:dstOffset], high):
		return DropNotRelay
	case v4 != src:
		return DropMappedSource
	}
	return Forward
}

// halves returns the two halves of an IPv6 address.
func halves(a []byte) (high, low uint64) {
	return binary.BigEndian.Uint64(a), binary.BigEndian.Uint64(a[8:])
}

// embedded returns the IPv4 address in an address of the domain. The bits that are the
// same for all sites are those of local.
func (m *Mapping) embedded(high uint64) (v4 [4]byte) {
	common := binary.BigEndian.Uint32(m.local[:]) &^ m.suffix
	binary.BigEndian.PutUint32(v4[:], common|uint32(high>>m.shift)&m.suffix)
	return v4
}

// isatapIPv4 returns the IPv4 address in an ISATAP interface identifier.
func isatapIPv4(low uint64) (v4 [4]byte, ok bool) {
	if id := low >> 32; id != isatapUnique && id != isatapLocal {
		return v4, false
	}
	binary.BigEndian.PutUint32(v4[:], uint32(low))
	return v4, true
}

// usable reports whether packets may be sent to an address that somebody else wrote.
// An ISATAP site may have public and private addresses.
func (m *Mapping) usable(v4 [4]byte) bool {
	return unicast4(v4) && v4 != m.local && (m.private || m.isatap || !private4(v4))
}

// linked reports whether an address, whose upper half is high, is of the ISATAP link.
func (m *Mapping) linked(a []byte, high uint64) bool {
	if high == linkLocalHigh {
		return true
	}
	for _, p := range m.onLink {
		if p16 := p.Addr().As16(); [8]byte(p16[:8]) == [8]byte(a[:8]) {
			return true
		}
	}
	return false
}
