package tsp

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// badRanges are the addresses that no broker may give and no client may announce as
// the end of a tunnel. Private, unique local and documentation addresses may be used
// between a broker and its clients.
var badRanges = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("224.0.0.0/4"), // multicast
	netip.MustParsePrefix("240.0.0.0/4"), // reserved, broadcast
	netip.MustParsePrefix("::/8"),        // unspecified, loopback, IPv4 in disguise
	netip.MustParsePrefix("fe80::/10"),   // one link only
	netip.MustParsePrefix("fec0::/10"),   // site local, withdrawn
	netip.MustParsePrefix("ff00::/8"),    // multicast
}

// The families as the type of an address element.
const (
	typeIPv4 = "ipv4"
	typeIPv6 = "ipv6"
	typeName = "dn"
)

// parseAddr reads an address of the kind an element says it is, in any spelling.
func parseAddr(kind, text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, fmt.Errorf("no %s address", kind)
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%s address %q: %w", kind, clip(text), errNotAddress)
	}
	return a, checkAddr(kind, a)
}

var errNotAddress = errors.New("not an address")

// checkAddr refuses an address of the wrong family, and one that cannot be the end
// of a tunnel.
func checkAddr(kind string, a netip.Addr) error {
	switch {
	case !a.IsValid():
		return fmt.Errorf("no %s address", kind)
	case a.Zone() != "":
		return fmt.Errorf("%s address %q: has a zone", kind, clip(a.String()))
	case a.Is4() != (kind == typeIPv4):
		return fmt.Errorf("%s address %v: wrong family", kind, a)
	}
	for _, bad := range badRanges {
		if bad.Contains(a) {
			return fmt.Errorf("%s address %v: in %v", kind, a, bad)
		}
	}
	return nil
}

// Lengths of a prefix in bits. No broker delegates more than a provider's /32.
const (
	minPrefixLen = 32
	maxPrefixLen = 128
)

// checkPrefix refuses what cannot be delegated to a client.
func checkPrefix(p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return errors.New("prefix: invalid")
	case p.Bits() < minPrefixLen || p.Bits() > maxPrefixLen:
		return fmt.Errorf("prefix %v: length is not %d to %d", p, minPrefixLen, maxPrefixLen)
	case p != p.Masked():
		return fmt.Errorf("prefix %v: bits behind its length", p)
	}
	if err := checkAddr(typeIPv6, p.Addr()); err != nil {
		return fmt.Errorf("prefix %v: %w", p, err)
	}
	return nil
}

// checkName refuses what is not a host name in ASCII (RFC 1123, Section 2.1, with
// the underscore that is in use): it will be an environment variable and part of
// messages and files.
func checkName(s string) error {
	if len(s) == 0 || len(s) > 253 {
		return fmt.Errorf("name of %d bytes", len(s))
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if !validLabel(label) {
			return fmt.Errorf("name %q: not a host name", clip(s))
		}
	}
	return nil
}

func validLabel(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
