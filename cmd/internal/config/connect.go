package config

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"sixin4/tsp"
)

// The values of Auth. Every other one is the name of a mechanism in lower case.
const (
	AuthAny       = "any"
	AuthAnonymous = "anonymous"
)

// The values of Transport.
const (
	TransportAuto = "auto"
	TransportUDP  = "udp"
	TransportTCP  = "tcp"
)

// Connect is the checked configuration of a tunnel that a broker gives (RFC 5572).
type Connect struct {
	Common
	Servers   []Server // at least one; to be tried in this order
	Auth      string   // AuthAny, AuthAnonymous, "plain", "digest-md5" or "scram-sha-256"
	User      string   // at most 253 bytes; empty exactly when Auth is AuthAnonymous
	Password  Secret   // at most 128 bytes; none exactly when Auth is AuthAnonymous
	Mode      tsp.Type // V6AnyV4, V6V4 or V6UDPV4
	Transport string   // TransportAuto, TransportUDP or TransportTCP; never TCP for V6UDPV4

	NoRoute bool // leave the default route alone
	Once    bool // negotiate, print, exit

	// Router asks for a prefix of PrefixLength bits, 1 to 128, or 0 for what the
	// account has, and for its reverse zone to be delegated to the names of
	// ReverseDNS, at most 8. A /64 of it, number Subnet, is for the interface LAN,
	// which may be empty.
	Router       bool
	PrefixLength int
	LAN          string
	Subnet       uint16
	ReverseDNS   []string

	Local     netip.Addr    // IPv4 address to tell the broker; not valid means automatic
	Proxy     bool          // the tunnel ends at Local, on another host; never with V6UDPV4
	Keepalive time.Duration // to ask for: whole seconds, at most a day; 0 for none

	RetryDelay time.Duration // 1 s to 1 h: before the second attempt
	RetryMax   time.Duration // RetryDelay to 1 h: what the delay grows to

	BrokerList string // file for the brokers of a redirection; empty for none
	LastServer string // file for the broker that worked last; empty for none
	AlwaysSame bool   // use only the broker in LastServer, once there is one

	Script  string // absolute path of a template script; empty when we set up the tunnel
	HomeDir string // absolute path for TSP_HOME_DIR; empty without one
	OnUp    string // command line for /bin/sh; empty for none
	OnDown  string // the same

	Warnings []string // what is no error and should still be known, one line each

	raw Raw
}

// Invalid returns the error that blames the value of key for reason, as
// CheckConnect would; it serves checks that need the operating system.
func (c Connect) Invalid(key Key, reason string) error {
	v, _ := c.raw.last(key)
	return invalid(key, v, reason)
}

// CheckConnect checks every value of raw and returns the configuration. password
// is what the environment variable SIXIN4_PASSWORD holds, which wins over the
// password in an old file. Its error names the first wrong value; the exit status
// is 64 for one of the command line and 78 for one of a file, or 77 when the
// password file may not be read.
func CheckConnect(raw Raw, password Secret) (Connect, error) {
	c := Connect{raw: raw}
	steps := []func() error{
		c.checkServers, c.checkMode,
		func() error { return c.checkLogin(password) },
		c.checkRouter, c.checkLocal, c.checkSwitches, c.checkKeepalive, c.checkRetry, c.checkPaths,
		func() error { return c.Common.check(raw) },
		c.checkProbe,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return Connect{}, err
		}
	}
	return c, nil
}

func (c *Connect) checkServers() (err error) {
	if len(c.raw[Servers]) == 0 {
		return c.missingServer()
	}
	c.Servers, err = each(c.raw, Servers, ParseServer)
	return err
}

// checkMode checks how the tunnel is carried, and how it is negotiated.
func (c *Connect) checkMode() (err error) {
	if c.Mode, err = one(c.raw, Mode, string(tsp.V6AnyV4), parseMode); err != nil {
		return err
	}
	if c.Transport, err = one(c.raw, Transport, TransportAuto, parseTransport); err != nil {
		return err
	}
	if c.Mode == tsp.V6UDPV4 && c.Transport == TransportTCP {
		return c.Invalid(Transport, "mode v6udpv4 has its packets in the very UDP flow that negotiates it; auto or udp")
	}
	return nil
}

func parseMode(s string) (tsp.Type, error) {
	switch t := tsp.Type(s); t {
	case tsp.V6AnyV4, tsp.V6V4, tsp.V6UDPV4:
		return t, nil
	case tsp.V4V6, "dslite":
		return "", errors.New("not supported: sixin4 carries IPv6; v6anyv4, v6v4 or v6udpv4")
	}
	return "", errors.New("no such mode; v6anyv4, v6v4 or v6udpv4")
}

func parseTransport(s string) (string, error) {
	switch s {
	case TransportAuto, TransportUDP, TransportTCP:
		return s, nil
	}
	return "", errors.New("no such transport; auto, udp or tcp")
}

// checkRouter checks what is asked for beyond an address for this host. Any of it
// makes a router, unless that is denied.
func (c *Connect) checkRouter() (err error) {
	asked, err := one(c.raw, Router, "false", parseBool)
	if err != nil {
		return err
	}
	c.Router = asked
	for _, part := range []struct {
		key   Key
		check func() error
	}{{PrefixLength, c.checkPrefixLength}, {LAN, c.checkLAN}, {ReverseDNS, c.checkReverse}} {
		v, given := c.raw.last(part.key)
		if !given {
			continue
		}
		if err := part.check(); err != nil {
			return err
		}
		if _, said := c.raw.last(Router); said && !asked {
			return invalid(part.key, v, "only a router gets a prefix, and router is false")
		}
		c.Router = true
	}
	if v, given := c.raw.last(Router); given && v.old != nil && c.LAN == "" {
		return invalid(Router, v, "a router needs if_prefix, its interface to the LAN")
	}
	return c.checkSubnet()
}

func (c *Connect) checkPrefixLength() (err error) {
	c.PrefixLength, err = one(c.raw, PrefixLength, "", func(s string) (int, error) {
		return parseNumber(s, 1, 128, "1 to 128, usually 48 to 64; without it the prefix is as long as the account has it")
	})
	return err
}

func (c *Connect) checkLAN() error {
	lan, err := one(c.raw, LAN, "", parseLAN)
	c.LAN, c.Subnet = lan.name, lan.subnet
	return err
}

func (c *Connect) checkReverse() (err error) {
	c.ReverseDNS, err = each(c.raw, ReverseDNS, parseNameServer)
	if len(c.ReverseDNS) > maxNameServers {
		return c.Invalid(ReverseDNS, fmt.Sprintf("one name too many; at most %d", maxNameServers))
	}
	return err
}

// checkSubnet looks whether the prefix has a /64 of this number.
func (c *Connect) checkSubnet() error {
	if c.PrefixLength == 0 || c.Subnet == 0 || c.PrefixLength <= 48 {
		return nil
	}
	free := max(0, 64-c.PrefixLength)
	if int(c.Subnet)>>free == 0 {
		return nil
	}
	return c.Invalid(LAN, fmt.Sprintf("a /%d has no subnet %x; 0 to %x", c.PrefixLength, c.Subnet, 1<<free-1))
}

func (c *Connect) checkLocal() (err error) {
	c.Local, err = one(c.raw, Local, auto, parseLocal)
	return err
}

func (c *Connect) checkSwitches() error {
	for _, s := range []struct {
		key Key
		to  *bool
	}{{NoRoute, &c.NoRoute}, {Once, &c.Once}, {Proxy, &c.Proxy}, {AlwaysSame, &c.AlwaysSame}} {
		var err error
		if *s.to, err = one(c.raw, s.key, "false", parseBool); err != nil {
			return err
		}
	}
	if c.Proxy && c.Mode == tsp.V6UDPV4 {
		return c.Invalid(Proxy, "not with mode v6udpv4, whose tunnel ends where it is negotiated; v6v4 or v6anyv4")
	}
	return nil
}
