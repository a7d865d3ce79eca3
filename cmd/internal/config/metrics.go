package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// DefaultMetricsPort is where the metrics of a tunnel are, unless another is given.
const DefaultMetricsPort = 9641

const likeMetrics = "like 127.0.0.1:9641"

func (c *Common) checkMetrics(raw Raw) (err error) {
	if len(raw[Metrics]) == 0 {
		return nil
	}
	c.Metrics, err = one(raw, Metrics, "", parseMetrics)
	return err
}

// parseMetrics parses an address of this host with or without a port: A.B.C.D[:PORT]
// or an IPv6 address, in brackets when a port is behind it.
func parseMetrics(s string) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(s)
	if err == nil {
		return checkMetricsAddr(at)
	}
	if at, err = netip.ParseAddrPort(fmt.Sprintf("%s:%d", s, DefaultMetricsPort)); err == nil {
		return checkMetricsAddr(at)
	}
	if a, err := netip.ParseAddr(s); err == nil { // of IPv6, without brackets
		return checkMetricsAddr(netip.AddrPortFrom(a, DefaultMetricsPort))
	}
	host, port, _ := cutPort(s)
	_, hostErr := netip.ParseAddr(strings.Trim(host, "[]"))
	switch {
	case s == "":
		err = errors.New("empty; an address of this host belongs here, " + likeMetrics)
	case host == "":
		err = fmt.Errorf("a port without an address, %s for this host alone, or 0.0.0.0:%s for everybody", likeMetrics, brief(port, asIs))
	case hostErr == nil:
		err = fmt.Errorf("port %s: not a port, 1 to 65535, %s", inQuotes(port), likeMetrics)
	case isHostName(host):
		err = errors.New("a host name; an IP address of this host belongs here, " + likeMetrics)
	default:
		err = errors.New("not an address with a port, " + likeMetrics)
	}
	return netip.AddrPort{}, err
}

// cutPort takes what is behind the last colon off.
func cutPort(s string) (host, port string, found bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

func checkMetricsAddr(at netip.AddrPort) (netip.AddrPort, error) {
	a := at.Addr()
	switch {
	case at.Port() == 0:
		return netip.AddrPort{}, errors.New("port 0 is none; 1 to 65535, " + likeMetrics)
	case a.IsMulticast():
		return netip.AddrPort{}, fmt.Errorf("%s is a multicast address; one of this host belongs here, %s", brief(a.String(), asIs), likeMetrics)
	case a.Is4In6():
		return netip.AddrPort{}, fmt.Errorf("%s is an IPv4 address in IPv6 form; write %s", brief(a.String(), asIs), a.Unmap())
	}
	return at, nil
}
