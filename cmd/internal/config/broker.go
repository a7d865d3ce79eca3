package config

import (
	"fmt"
	"net/netip"
	"time"

	"sixin4/tsp"
)

const (
	// DefaultBrokerName is the interface of a broker.
	DefaultBrokerName = "tspd0"
	// maxResolvers is how many a client is told (package tsp).
	maxResolvers = 8
	// maxBrokers is how many a redirection has (package tsp).
	maxBrokers = 50
)

// Broker is the checked configuration of a broker of tunnels (RFC 5572).
type Broker struct {
	Common // Name is never empty
	// Prefix is what addresses and prefixes of clients are taken from: as package pool
	// wants it.
	Prefix netip.Prefix
	// Listen is where clients are expected, TCP and UDP; tunnels in UDP end where they are
	// asked for, others at the first. Empty means the address of the IPv4 default route and
	// DefaultPort. The addresses are IPv4, the ports never 0.
	Listen []netip.AddrPort

	Anonymous     bool // let in who has no account
	ConfigureHost bool // change what the host needs to forward packets

	Store        // State, KeyFile, Quarantine, Iterations, Realm
	Node  string // what this broker is called in the database; empty: its address there

	DNS      []netip.Addr // IPv6 addresses of resolvers for the clients, at most 8; empty means automatic
	Redirect []tsp.Broker // where clients are sent instead, at most 50; empty means nowhere
	// RedirectAbove is how many tunnels there must be for clients to be sent on; 0: none.
	RedirectAbove int

	TunnelRate int64 // of each tunnel, bits a second each way: 1000 to 1e12; 0: no limit
	Blocked    Ports // where clients may not send to

	Web Site // zero for no web pages

	// All times are whole seconds.
	Lifetime       time.Duration // of what a client is given, before it must ask again: 5 min to 10 years
	Keepalive      time.Duration // shortest time between echo requests that clients are told: 1 s to a day
	Silence        time.Duration // a tunnel not heard for that long is taken down: from twice Keepalive to 10 years
	AnonymousLease time.Duration // how long nobody's address outlives its tunnel: 1 min to 10 years

	raw Raw
}

// Invalid returns the error that blames the value of key for reason, as CheckBroker
// would; it serves checks that need the operating system. Local, which other tunnels
// have, is the first of Listen.
func (b Broker) Invalid(key Key, reason string) error {
	if at := b.raw[Listen]; key == Local && len(at) > 0 {
		return invalid(Listen, at[0], reason)
	}
	v, given := b.raw.last(key)
	if key == Name && !given {
		v.Text = DefaultBrokerName
	}
	return invalid(key, v, reason)
}

// CheckBroker checks every value of raw and returns the configuration. Its error
// names the first wrong value; the exit status is 64 for one of the command line and
// 78 for one of the file.
func CheckBroker(raw Raw) (Broker, error) {
	b := Broker{raw: raw}
	steps := []func() error{
		b.checkPrefix, b.checkListen, b.checkSwitches, b.checkTold,
		b.checkTimes, b.checkSilence, b.checkStore, b.checkLimits, b.checkWeb,
		func() error { return b.Common.check(raw) },
		func() error { return b.Common.checkHub(raw, true) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return Broker{}, err
		}
	}
	if b.Name == "" {
		b.Name = DefaultBrokerName
	}
	return b, nil
}

func (b *Broker) checkPrefix() (err error) {
	b.Prefix, err = CheckPool(b.raw)
	return err
}

func (b *Broker) checkListen() (err error) {
	b.Listen, err = each(b.raw, Listen, parseListen)
	return err
}

func (b *Broker) checkSwitches() (err error) {
	if b.Anonymous, err = one(b.raw, Anonymous, "false", parseBool); err != nil {
		return err
	}
	b.ConfigureHost, err = one(b.raw, ConfigureHost, "false", parseBool)
	return err
}

// checkTold checks what clients are told besides their tunnel.
func (b *Broker) checkTold() (err error) {
	if b.DNS, err = each(b.raw, DNS, parseResolver); err != nil {
		return err
	}
	if len(b.DNS) > maxResolvers {
		return b.Invalid(DNS, fmt.Sprintf("one resolver too many; at most %d", maxResolvers))
	}
	return b.checkRedirect()
}

// checkRedirect takes lists apart: --redirect has its brokers with commas, and may be
// repeated.
func (b *Broker) checkRedirect() error {
	seen := make(map[tsp.Broker]bool)
	for _, v := range b.raw[Redirect] {
		brokers, err := parseBrokers(v.Text)
		if err != nil {
			return invalid(Redirect, v, err.Error())
		}
		for _, broker := range brokers {
			if seen[broker] {
				return invalid(Redirect, v, broker.String()+" given twice")
			}
			seen[broker] = true
		}
		b.Redirect = append(b.Redirect, brokers...)
	}
	if len(b.Redirect) > maxBrokers {
		return b.Invalid(Redirect, fmt.Sprintf("%d brokers in all; at most %d", len(b.Redirect), maxBrokers))
	}
	return b.checkAbove()
}

func (b *Broker) checkAbove() (err error) {
	const right = "0 for none, or how many tunnels there may be before clients are sent on, like 5000"
	b.RedirectAbove, err = one(b.raw, RedirectAbove, "0", func(s string) (int, error) { return parseNumber(s, 0, 1e9, right) })
	if err == nil && b.RedirectAbove > 0 && len(b.Redirect) == 0 {
		return b.Invalid(RedirectAbove, "there is no broker to send clients to; it needs --redirect")
	}
	return err
}

func (b *Broker) checkTimes() error {
	for _, t := range []struct {
		key      Key
		to       *time.Duration
		missing  string
		min, max time.Duration
		right    string
	}{
		{Lifetime, &b.Lifetime, "7d", 5 * time.Minute, tsp.MaxLifetime, "5m to 3650d, like 7d"},
		{Keepalive, &b.Keepalive, "30s", time.Second, tsp.MaxKeepalive, "1s to 24h, like 30s"},
		{Silence, &b.Silence, "15m", 2 * time.Second, tsp.MaxLifetime, "2s to 3650d, like 15m"},
		{AnonymousLease, &b.AnonymousLease, "1d", time.Minute, tsp.MaxLifetime, "1m to 3650d, like 24h"},
	} {
		var err error
		*t.to, err = one(b.raw, t.key, t.missing, func(s string) (time.Duration, error) {
			return parseDays(s, t.min, t.max, t.right)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// checkSilence: a tunnel must not be taken down because one echo request was lost. The
// one of the two times that is not given gives way to the other.
func (b *Broker) checkSilence() error {
	if b.Silence >= 2*b.Keepalive {
		return nil
	}
	_, silence := b.raw.last(Silence)
	keepalive, asked := b.raw.last(Keepalive)
	switch {
	case silence && asked:
		return b.Invalid(Silence, fmt.Sprintf("less than twice %s, which is %s: one lost packet would take a tunnel down",
			keepalive.name(Keepalive), b.Keepalive))
	case silence:
		b.Keepalive = (b.Silence / 2).Truncate(time.Second)
	default:
		b.Silence = 2 * b.Keepalive
	}
	return nil
}

func (b *Broker) checkStore() (err error) {
	if b.Store, err = CheckStore(b.raw); err != nil {
		return err
	}
	b.Node, err = one(b.raw, Node, "", parseNode)
	return err
}

// checkLimits checks what a tunnel may carry.
func (b *Broker) checkLimits() (err error) {
	if b.TunnelRate, err = one(b.raw, TunnelRate, "0", parseRate); err != nil {
		return err
	}
	b.Blocked, err = one(b.raw, BlockPorts, "25/tcp", parsePorts)
	return err
}
