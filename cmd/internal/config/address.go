package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

const auto = "auto"

func parseRemote(s string) (netip.Addr, error) {
	return parseIPv4(s, "the far end of the tunnel", "198.51.100.1")
}

func parseLocal(s string) (netip.Addr, error) {
	if s == auto {
		return netip.Addr{}, nil
	}
	return parseIPv4(s, "the local end of the tunnel", "192.0.2.1 (or auto)")
}

// parseIPv4 parses the IPv4 address of a host. what and like say in an error
// what belongs there.
func parseIPv4(s, what, like string) (netip.Addr, error) {
	if p, err := netip.ParsePrefix(s); err == nil && p.Addr().Is4() {
		return netip.Addr{}, fmt.Errorf("a prefix; an address belongs here: %s", p.Addr())
	}
	a, err := netip.ParseAddr(strings.SplitN(s, "/", 2)[0])
	switch {
	case err == nil && a.Is6():
		return netip.Addr{}, fmt.Errorf("an IPv6 address; %s is an IPv4 address, like %s", what, like)
	case isHostName(s):
		return netip.Addr{}, fmt.Errorf("a host name; give its IPv4 address (getent ahostsv4 %s prints it)", brief(s, asIs))
	case err != nil || strings.Contains(s, "/"):
		return netip.Addr{}, fmt.Errorf("not an IPv4 address, like %s", like)
	}
	if why := notHost(a); why != "" {
		return netip.Addr{}, fmt.Errorf("%s; %s is the address of a host, like %s", why, what, like)
	}
	return a, nil
}

// isHostName reports whether s could be a name in the DNS and is not a number.
func isHostName(s string) bool {
	letter := false
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z':
			letter = true
		case r >= '0' && r <= '9', r == '-', r == '.':
		default:
			return false
		}
	}
	return letter
}

// notHost says why an IPv4 address can be no end of a tunnel, or nothing when it
// can (RFC 4213, Section 3.6, and RFC 1122, Section 3.2.1.3).
func notHost(a netip.Addr) string {
	b := a.As4()
	switch {
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "the broadcast address"
	case b[0] == 0:
		return "in 0.0.0.0/8, no address of a host"
	case b[0] == 127:
		return "a loopback address"
	case a.IsMulticast():
		return "a multicast address"
	case b[0] >= 240:
		return "in 240.0.0.0/4, which is reserved"
	}
	return ""
}

// parseAddress parses an address of the interface: an IPv6 unicast address with
// its prefix length.
func parseAddress(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		if a.Is4() {
			return netip.Prefix{}, errors.New("an IPv4 address; the tunnel carries IPv6: an IPv6 address and its length belong here, like 2001:db8::2/64")
		}
		return netip.Prefix{}, fmt.Errorf("an address without its length; %s/64 or %s/128", a, a)
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, errors.New("not an IPv6 address with its length, like 2001:db8::2/64")
	case p.Addr().Is4():
		return netip.Prefix{}, errors.New("an IPv4 address; the tunnel carries IPv6: an IPv6 address and its length belong here, like 2001:db8::2/64")
	case p.Addr().IsUnspecified(), p.Addr().IsLoopback(), p.Addr().IsMulticast(), p.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%s is no unicast address; like 2001:db8::2/64", p.Addr())
	case p.Bits() == 0:
		return netip.Prefix{}, fmt.Errorf("length 0 would route everything into the tunnel; like %s/64, and --route ::/0 for that", p.Addr())
	case p.Bits() < 127 && p.Masked() == p:
		return netip.Prefix{}, fmt.Errorf("a prefix; an address in it belongs here, like %s/%d", p.Addr().Next(), p.Bits())
	}
	return p, nil
}

func parseRoute(s string) (netip.Prefix, error) {
	return parsePrefix(s, "::/0 is everything")
}

// parsePrefix parses an IPv6 prefix without host bits. all says in an error what
// is likely meant by an IPv4 prefix.
func parsePrefix(s, all string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Is6() && a.Zone() == "" {
		return netip.Prefix{}, fmt.Errorf("%s is an address; a prefix belongs here: %s/128", a, a)
	} else if err == nil && a.Is4() {
		return netip.Prefix{}, fmt.Errorf("%s is an IPv4 address; the tunnel carries IPv6: %s", a, all)
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, errors.New("not an IPv6 prefix, like 2001:db8:1::/48 or ::/0")
	case p.Addr().Is4():
		return netip.Prefix{}, fmt.Errorf("%s is an IPv4 prefix; the tunnel carries IPv6: %s", p, all)
	case p.Masked() != p:
		return netip.Prefix{}, fmt.Errorf("%s has bits set after its length; the prefix is %s", p, p.Masked())
	}
	return p, nil
}

// parsePeer parses A.B.C.D=PREFIX[,PREFIX...], or peers by rule.
func parsePeer(s string) (Peer, error) {
	addr, list, found := strings.Cut(s, "=")
	if kind, rest, ok := cutMapped(s); ok {
		return parseMapped(kind, rest, found)
	}
	remote, err := parseIPv4(addr, "a peer", "198.51.100.1=2001:db8:1::/48")
	if err != nil {
		return Peer{}, err
	}
	if !found || list == "" {
		return Peer{}, fmt.Errorf("its prefixes are missing, like %s=2001:db8:1::/48", remote)
	}
	peer := Peer{Remote: remote}
	for _, text := range strings.Split(list, ",") {
		p, err := parsePrefix(text, "an IPv6 prefix belongs here, like 2001:db8:1::/48")
		if err != nil {
			return Peer{}, err
		}
		peer.Prefixes = append(peer.Prefixes, p)
	}
	return peer, nil
}
