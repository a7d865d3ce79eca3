package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sixin4/encap"
)

// The kinds of Mapped.
const (
	Map6to4   = "6to4"
	Map6rd    = "6rd"
	MapISATAP = "isatap"
)

// mapped are the ways to say --peer by rule instead of by address.
var mapped = []string{Map6to4, Map6rd, MapISATAP}

// Mapped are peers that nobody lists, because their IPv4 addresses are parts of their
// IPv6 addresses.
type Mapped struct {
	Kind   string       // Map6to4, Map6rd or MapISATAP
	Relays []netip.Addr // the way to everybody else; none only with 6to4

	Prefix  netip.Prefix // of 6rd
	MaskLen int          // of 6rd: leading bits of IPv4 that all sites share
}

var (
	everywhere = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	of6to4     = netip.MustParsePrefix("2002::/16")
)

// Mapping is the plan of the tunnel for this host at local, whose addresses in the
// tunnel are given.
func (m *Mapped) Mapping(local netip.Addr, addresses []netip.Prefix) (*encap.Mapping, error) {
	switch m.Kind {
	case Map6to4:
		return encap.Map6to4(local, m.Relays...)
	case Map6rd:
		return encap.Map6rd(local, m.Prefix, m.MaskLen, m.Relays...)
	}
	var onLink []netip.Prefix
	for _, a := range addresses {
		if a.Bits() == 64 && !a.Addr().IsLinkLocalUnicast() {
			onLink = append(onLink, a.Masked())
		}
	}
	return encap.MapISATAP(local, onLink, m.Relays...)
}

// cutMapped returns the kind of mapped peers that s names, and what is behind it.
func cutMapped(s string) (kind, rest string, found bool) {
	kind, rest, _ = strings.Cut(s, "=")
	return kind, rest, slices.Contains(mapped, kind)
}

// parseMapped parses 6to4[=GATEWAY4], 6rd=PREFIX,V4MASKLEN,RELAY4 and
// isatap=ROUTER4[,ROUTER4...].
func parseMapped(kind, rest string, given bool) (Peer, error) {
	m := &Mapped{Kind: kind}
	p := Peer{Map: m, Prefixes: []netip.Prefix{everywhere}}
	var err error
	switch kind {
	case Map6to4:
		if p.Prefixes = []netip.Prefix{of6to4}; given {
			p.Prefixes = append(p.Prefixes, everywhere)
			m.Relays, err = parseRelays([]string{rest}, "the gateway to native IPv6", "6to4=198.51.100.1")
		}
	case Map6rd:
		err = m.parse6rd(rest)
	case MapISATAP:
		m.Relays, err = parseRelays(strings.Split(rest, ","), "a router", "isatap=198.51.100.1")
	}
	return p, err
}

func parseRelays(texts []string, what, like string) (relays []netip.Addr, err error) {
	for _, text := range texts {
		if text == "" {
			return nil, fmt.Errorf("the address of %s is missing, like %s", what, like)
		}
		a, err := parseIPv4(text, what, like)
		if err == nil && slices.Contains(relays, a) {
			err = fmt.Errorf("%s is given twice", a)
		}
		if err != nil {
			return nil, err
		}
		relays = append(relays, a)
	}
	return relays, nil
}

const like6rd = "like 6rd=2001:db8::/32,0,198.51.100.1"

func (m *Mapped) parse6rd(s string) error {
	parts := strings.Split(s, ",")
	if len(parts) != 3 {
		return errors.New("it takes the prefix of the provider, how many leading bits of IPv4 addresses are left out, and the border relay, " + like6rd)
	}
	var err error
	if m.Prefix, err = parsePrefix(parts[0], "the provider's IPv6 prefix belongs here, "+like6rd); err != nil {
		return err
	}
	if m.MaskLen, err = parseNumber(parts[1], 0, 31, "0 to 31 leading bits of IPv4 addresses that are left out, "+like6rd); err != nil {
		return fmt.Errorf("%s: %w", inQuotes(parts[1]), err)
	}
	if m.Relays, err = parseRelays(parts[2:], "the border relay", "6rd=2001:db8::/32,0,198.51.100.1"); err != nil {
		return err
	}
	_, err = m.Mapping(otherThan(m.Relays), nil)
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "6rd: "))
	}
	return nil
}

// otherThan is some IPv4 address of a host that is none of list: to check what does not
// depend on ours.
func otherThan(list []netip.Addr) netip.Addr {
	a := netip.AddrFrom4([4]byte{192, 0, 2, 1})
	for slices.Contains(list, a) {
		a = a.Next()
	}
	return a
}
