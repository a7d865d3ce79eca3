package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"sixin4/encap"
	"sixin4/tsp"
)

// Clamp is how the maximum segment size that TCP offers through the tunnel is lowered.
// The zero Clamp lowers it to what the tunnel carries, where that is less than 1500
// bytes a packet.
type Clamp struct {
	Off bool
	MSS uint16 // 536 to 65455 bytes; 0 means automatic
}

// Ask says whom to ask whether the far end is there, by ICMPv6 echo requests through the
// tunnel, and how often. To is not valid when nobody is asked.
type Ask struct {
	To       netip.Addr    // IPv6, unicast, without a zone
	Interval time.Duration // whole seconds, 1 s to a day
}

const (
	// minMSS is what TCP has to be content with (RFC 9293, Section 3.7.1, for IPv4).
	minMSS = 536
	// maxMSS is what fits a packet of the largest MTU.
	maxMSS = int(encap.MaxTunMTU) - 60
)

// probe is the MTU that is found by asking the far end.
const probe = "probe"

func (c *Common) checkMTU(raw Raw) (err error) {
	if v, _ := raw.last(MTU); v.Text == probe {
		c.Probe = true
	} else if c.MTU, err = one(raw, MTU, auto, parseMTU); err != nil {
		return err
	}
	c.ClampMSS, err = one(raw, ClampMSS, auto, parseClamp)
	return err
}

// checkProbe refuses to probe a way that is not this host's, or has its MTU from elsewhere.
func (c *Connect) checkProbe() error {
	switch {
	case !c.Probe:
		return nil
	case c.Proxy:
		return c.Invalid(MTU, "the tunnel of a proxy ends at another host, so nothing here can ask; auto")
	case c.Mode == tsp.V6UDPV4:
		return c.Invalid(MTU, "not with mode v6udpv4; auto, or 1280 to 65515")
	}
	return nil
}

func parseClamp(s string) (Clamp, error) {
	switch s {
	case auto:
		return Clamp{}, nil
	case off:
		return Clamp{Off: true}, nil
	}
	n, err := parseNumber(s, minMSS, maxMSS,
		fmt.Sprintf("auto, off, or %d to %d bytes (1220 is the least that IPv6 always carries)", minMSS, maxMSS))
	return Clamp{MSS: uint16(n)}, err
}

func (c *Common) checkBind(raw Raw) (err error) {
	if !raw.Has(BindInterface) {
		return nil
	}
	c.Bind, err = one(raw, BindInterface, "", func(s string) (string, error) {
		if err := checkName(s); err != nil {
			return "", fmt.Errorf("%w; an interface of this host belongs here, like eth0 (ip link shows them)", err)
		}
		return s, nil
	})
	if err == nil && c.Bind == c.Name {
		v, _ := raw.last(BindInterface)
		err = invalid(BindInterface, v, "is the tunnel itself; an interface with IPv4 belongs here, like eth0")
	}
	return err
}

const likeAsk = "like 2001:db8::1, or 2001:db8::1,10s"

// parseAsk parses ADDRESS[,INTERVAL].
func parseAsk(s string) (Ask, error) {
	text, interval, given := strings.Cut(s, ",")
	to, err := netip.ParseAddr(text)
	switch {
	case err == nil && to.Is4():
		return Ask{}, errors.New("an IPv4 address; the far end is asked through the tunnel, by its IPv6 address, " + likeAsk)
	case err != nil || to.Zone() != "" || to.Is4In6():
		return Ask{}, errors.New("not an IPv6 address with, perhaps, a time behind it, " + likeAsk)
	case to.IsUnspecified(), to.IsLoopback(), to.IsMulticast():
		return Ask{}, fmt.Errorf("%s is not the address of another host, %s", to, likeAsk)
	}
	ask := Ask{To: to, Interval: defaultKeepalive}
	if given {
		if ask.Interval, err = parseSeconds(interval, time.Second, tsp.MaxKeepalive, "1s to 24h, like 30s"); err != nil {
			return Ask{}, fmt.Errorf("interval %s: %w", inQuotes(interval), err)
		}
	}
	return ask, nil
}

// checkFarEnd checks who is asked at the far end, and whom --mtu probe asks.
func checkFarEnd(c *Config) (err error) {
	if c.raw.Has(Keepalive) {
		if c.Keepalive, err = one(c.raw, Keepalive, "", parseAsk); err != nil {
			return err
		}
		if err := c.checkAsk(c.Keepalive.To); err != nil {
			return err
		}
	}
	if !c.Probe {
		return nil
	}
	if c.Far = c.Keepalive.To; !c.Far.IsValid() {
		c.Far = neighbour(c.Addresses)
	}
	if !c.Far.IsValid() {
		return c.Invalid(MTU, "nobody is known to ask at the far end; give --keepalive ADDRESS, its IPv6 address in the tunnel")
	}
	return nil
}

// checkAsk refuses to ask oneself, and from no address.
func (c *Config) checkAsk(to netip.Addr) error {
	global := false
	for _, a := range c.Addresses {
		if a.Addr() == to {
			return c.Invalid(Keepalive, "is an address of this end; one of the far end belongs here")
		}
		global = global || !a.Addr().IsLinkLocalUnicast()
	}
	if !global && !to.IsLinkLocalUnicast() {
		return c.Invalid(Keepalive, "the far end cannot answer to a link-local address; give this end one by --address")
	}
	return nil
}

// neighbour guesses the far end of a tunnel by the first of our addresses that has one
// in its prefix: it is ::1 mostly, or ::2 when we are ::1. None when there is no such.
func neighbour(addresses []netip.Prefix) netip.Addr {
	for _, a := range addresses {
		if a.Addr().IsLinkLocalUnicast() || a.Bits() < 64 || a.Bits() == 128 {
			continue
		}
		if a.Bits() == 127 { // RFC 6164
			b := a.Addr().As16()
			b[15] ^= 1
			return netip.AddrFrom16(b)
		}
		one := a.Masked().Addr().Next()
		if one == a.Addr() {
			return one.Next()
		}
		return one
	}
	return netip.Addr{}
}
