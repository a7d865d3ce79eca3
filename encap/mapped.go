package encap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Mapping is the plan of a tunnel whose peers nobody configures, because their IPv4
// addresses are parts of their IPv6 addresses: 6to4 (RFC 3056), 6rd (RFC 5969) or ISATAP
// (RFC 5214). It never changes, so that any number of goroutines may use one.
//
// Everybody is a peer then, and what keeps them from being each other is that the inner
// source has to hold the outer one (RFC 3964; RFC 5969, Section 12; RFC 5214,
// Section 7.3). Addresses without an IPv4 address inside are behind a relay: a 6to4 relay
// router, a 6rd border relay, an ISATAP router.
type Mapping struct {
	local   [4]byte
	private bool // local is private, and so may others be
	relays  [][4]byte

	// 6to4 and 6rd, about the upper 64 bits of an address.
	domain, mask uint64 // of all sites
	own, ownMask uint64 // of this one
	shift        int    // from the last embedded bit to bit 0
	suffix       uint32 // which bits of an IPv4 address are embedded

	isatap bool
	onLink []netip.Prefix // of ISATAP hosts, apart from fe80::/64
}

// Map6to4 returns the mapping of 2002::/16 (RFC 3056) for a site at local. The relays
// are the way to native IPv6, the first one for what is sent; without any, nothing
// native is reached. It fails when an address is not IPv4 unicast, and when local is
// private, which has no 6to4 prefix (RFC 3056, Section 2).
func Map6to4(local netip.Addr, relays ...netip.Addr) (*Mapping, error) {
	m, err := mapFixed("6to4", local, netip.MustParsePrefix("2002::/16"), 0, relays)
	if err == nil && m.private {
		return nil, fmt.Errorf("6to4: local address %v is private; 6to4 needs a public one", local)
	}
	return m, err
}

// Map6rd returns the mapping of a provider's 6rd domain (RFC 5969, Section 4): prefix,
// then the bits of a site's IPv4 address behind the first maskLen, which are the same
// for all sites, 0 to 31. Both together are at most 64 bits. The relays are the
// border relays, at least one. What the tunnel carries is the IPv4 MTU less 20
// (Section 9.1), as always.
func Map6rd(local netip.Addr, prefix netip.Prefix, maskLen int, relays ...netip.Addr) (*Mapping, error) {
	a := prefix.Addr()
	switch {
	case !prefix.IsValid() || !a.Is6() || a.Is4In6() || a.IsMulticast() || a.IsLinkLocalUnicast():
		return nil, fmt.Errorf("6rd: prefix %v is not one of IPv6 unicast addresses", prefix)
	case maskLen < 0 || maskLen > 31:
		return nil, fmt.Errorf("6rd: IPv4 mask length %d: want 0 to 31", maskLen)
	case prefix.Bits()+32-maskLen > 64:
		return nil, fmt.Errorf("6rd: prefix %v and %d bits of IPv4 are more than 64 bits", prefix, 32-maskLen)
	case prefix.Bits() == 0:
		return nil, errors.New("6rd: prefix ::/0 leaves no address outside")
	case len(relays) == 0:
		return nil, errors.New("6rd: the border relay is missing")
	}
	return mapFixed("6rd", local, prefix.Masked(), maskLen, relays)
}

// MapISATAP returns the mapping of interface identifiers ::0:5efe:a.b.c.d and
// ::200:5efe:a.b.c.d (RFC 5214, Section 6.1) for a host at local. Such addresses of
// fe80::/64 and of the onLink prefixes, each of 64 bits, are hosts of the same site;
// all others are behind the first of the routers (the potential router list,
// Section 8.3.2), of which there is at least one.
func MapISATAP(local netip.Addr, onLink []netip.Prefix, routers ...netip.Addr) (*Mapping, error) {
	if len(routers) == 0 {
		return nil, errors.New("isatap: the router is missing")
	}
	m, err := newMapping("isatap", local, routers)
	if err != nil {
		return nil, err
	}
	for _, p := range onLink {
		if !p.Addr().Is6() || p.Addr().Is4In6() || p.Bits() != 64 {
			return nil, fmt.Errorf("isatap: prefix %v on the link is not an IPv6 prefix of 64 bits", p)
		}
		m.onLink = append(m.onLink, p.Masked())
	}
	m.isatap = true
	return m, nil
}

func newMapping(name string, local netip.Addr, relays []netip.Addr) (*Mapping, error) {
	if !local.Is4() || !unicast4(local.As4()) {
		return nil, fmt.Errorf("%s: local address %v is not an IPv4 unicast address", name, local)
	}
	m := &Mapping{local: local.As4(), private: private4(local.As4())}
	for _, r := range relays {
		if !r.Is4() || !unicast4(r.As4()) || r == local {
			return nil, fmt.Errorf("%s: relay %v is not the IPv4 unicast address of another host", name, r)
		}
		m.relays = append(m.relays, r.As4())
	}
	return m, nil
}

func mapFixed(name string, local netip.Addr, domain netip.Prefix, maskLen int, relays []netip.Addr) (*Mapping, error) {
	m, err := newMapping(name, local, relays)
	if err != nil {
		return nil, err
	}
	a := domain.Addr().As16()
	bits := 32 - maskLen
	m.domain, m.mask = binary.BigEndian.Uint64(a[:]), highBits(domain.Bits())
	m.shift, m.suffix = 64-domain.Bits()-bits, uint32(1<<bits-1)
	m.own = m.domain | uint64(binary.BigEndian.Uint32(m.local[:])&m.suffix)<<m.shift
	m.ownMask = highBits(domain.Bits() + bits)
	return m, nil
}

// highBits returns n one bits and 64-n zero bits, n at least 1.
func highBits(n int) uint64 { return ^uint64(0) << (64 - n) }

// Prefix returns the prefix that local gives this site: 2002:V4::/48, or the 6rd
// delegated prefix (RFC 5969, Section 4). ISATAP gives none: the zero Prefix.
func (m *Mapping) Prefix() netip.Prefix {
	if m.isatap {
		return netip.Prefix{}
	}
	var a [16]byte
	binary.BigEndian.PutUint64(a[:], m.own)
	bits := 0
	for mask := m.ownMask; mask != 0; mask <<= 1 {
		bits++
	}
	return netip.PrefixFrom(netip.AddrFrom16(a), bits)
}

// Here reports whether an address is of the prefix that local gives this site.
func (m *Mapping) Here(a netip.Addr) bool {
	b := a.As16()
	return !m.isatap && binary.BigEndian.Uint64(b[:])&m.ownMask == m.own
}

// ISATAPAddr returns the ISATAP address of local in a prefix of 64 bits. Its universal
// bit says whether the IPv4 address is unique in the world (RFC 5214, Section 6.1).
func ISATAPAddr(prefix netip.Prefix, local netip.Addr) netip.Addr {
	a, v4 := prefix.Masked().Addr().As16(), local.As4()
	binary.BigEndian.PutUint32(a[8:], isatapUnique)
	if private4(v4) {
		binary.BigEndian.PutUint32(a[8:], isatapLocal)
	}
	copy(a[12:], v4[:])
	return netip.AddrFrom16(a)
}

// isRelay reports whether a is one of the relays.
func (m *Mapping) isRelay(a [4]byte) bool { return slices.Contains(m.relays, a) }

// To returns h with another destination, which is IPv4 unicast: for a tunnel whose
// peers come from a [Mapping].
func (h *Header) To(dst [4]byte) Header {
	to := *h
	to.dst = binary.BigEndian.Uint32(dst[:])
	to.sum += to.dst>>16 + to.dst&0xffff - h.dst>>16 - h.dst&0xffff
	return to
}
