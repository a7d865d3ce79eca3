package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker/pool"
)

const (
	likePool     = "like 2001:db8:1000::/36"
	likeListen   = "like 192.0.2.2 or 192.0.2.2:3653"
	likeBroker   = "like 192.0.2.3 or broker.example.net"
	likeResolver = "like 2001:db8::53"
)

// parsePool parses the prefix that a broker takes everything from, see package pool.
func parsePool(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Is6() && a.Zone() == "" {
		return netip.Prefix{}, fmt.Errorf("an address without a length; a prefix belongs here, %s", likePool)
	}
	p, err := parsePrefix(s, "the network of a broker is one of IPv6, "+likePool)
	switch {
	case err != nil && strings.HasPrefix(err.Error(), "not an"):
		return netip.Prefix{}, errors.New("not an IPv6 prefix, " + likePool)
	case err != nil:
		return netip.Prefix{}, err
	case p.Bits() > pool.MaxPool:
		return netip.Prefix{}, fmt.Errorf("too small: a /%d is the least, and leaves nothing to delegate; with a /48 every network of a LAN gets a /64", pool.MaxPool)
	case p.Bits() < pool.MinPool:
		return netip.Prefix{}, fmt.Errorf("too large: a /%d is the most; no provider routes that to one host", pool.MinPool)
	case !p.Addr().IsGlobalUnicast():
		return netip.Prefix{}, fmt.Errorf("no network of global addresses; the one that is routed to this host belongs here, %s", likePool)
	}
	if _, err := pool.New(p, nil); err != nil {
		return netip.Prefix{}, err
	}
	return p, nil
}

// parseListen parses A.B.C.D[:PORT]. Tunnels end at the address too, so it cannot be all
// addresses.
func parseListen(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Is6() || strings.HasPrefix(s, "[") {
		return netip.AddrPort{}, errors.New("an IPv6 address; tunnels end at an IPv4 address of this host, " + likeListen)
	}
	host, port, err := splitPort(s)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if a, err := netip.ParseAddr(host); err == nil && a.IsUnspecified() {
		return netip.AddrPort{}, errors.New("all addresses at once; tunnels end at one of them: " +
			"give --listen for each that clients know, or none for that of the default route")
	}
	a, err := parseIPv4(host, "what clients connect to", "192.0.2.2 (or none for that of the default route)")
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(a, port), nil
}

// parseResolver parses the address of a resolver that clients reach through their
// tunnel.
func parseResolver(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil && isHostName(s):
		return netip.Addr{}, errors.New("a host name; the IPv6 address of a resolver belongs here, " + likeResolver)
	case err != nil || a.Zone() != "":
		return netip.Addr{}, errors.New("not an IPv6 address, " + likeResolver)
	case a.Is4(), a.Is4In6():
		return netip.Addr{}, errors.New("an IPv4 address; clients are told resolvers of IPv6, " + likeResolver)
	case !a.IsGlobalUnicast():
		return netip.Addr{}, fmt.Errorf("%s is not an address that a client reaches, %s", a, likeResolver)
	}
	return a, nil
}

// parseBrokers parses HOST[,HOST...]: brokers on the usual port, as redirections have
// no other.
func parseBrokers(s string) ([]tsp.Broker, error) {
	var all []tsp.Broker
	for text := range strings.SplitSeq(s, ",") {
		b, err := parseBroker(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}

func parseBroker(s string) (tsp.Broker, error) {
	if s == "" {
		return tsp.Broker{}, errors.New("empty; a broker belongs here, " + likeBroker)
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Is6() {
		s = "[" + s + "]"
	}
	server, err := ParseServer(s)
	switch {
	case err != nil:
		return tsp.Broker{}, err
	case server.Port != DefaultPort:
		return tsp.Broker{}, fmt.Errorf("%s: a redirection has no ports; the broker has to listen on %d", s, DefaultPort)
	}
	if a, err := netip.ParseAddr(server.Host); err == nil {
		return tsp.Broker{Addr: a}, nil
	}
	return tsp.Broker{Name: strings.ToLower(server.Host)}, nil
}

// parseDays is parseSeconds that knows days too, as in 7d.
func parseDays(s string, min, max time.Duration, right string) (time.Duration, error) {
	if text, found := strings.CutSuffix(s, "d"); found {
		if n, err := strconv.ParseUint(text, 10, 16); err == nil {
			s = strconv.FormatUint(n*24, 10) + "h"
		}
	}
	return parseSeconds(s, min, max, right)
}
