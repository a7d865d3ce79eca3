package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"sixin4/cmd/internal/exit"
)

// Check checks every value of raw and returns the configuration. Its error
// names the first wrong value; the exit status is 64 for one of the command
// line and 78 for one of the file.
func Check(raw Raw) (Config, error) {
	c := Config{raw: raw}
	steps := []func(*Config) error{
		checkPeers, checkLocal, checkAddresses, checkRoutes,
		func(c *Config) error { return c.Common.check(raw) },
		func(c *Config) error { return c.Common.checkStaticHub(raw, c.Hub) },
		checkFarEnd, checkPrograms,
	}
	for _, step := range steps {
		if err := step(&c); err != nil {
			return Config{}, err
		}
	}
	return c, nil
}

// one runs parse on the value of key, or on the default text when it has none.
func one[T any](raw Raw, key Key, missing string, parse func(string) (T, error)) (T, error) {
	v := Value{Text: missing}
	if given, ok := raw.last(key); ok {
		v = given
	}
	t, err := parse(v.Text)
	if err != nil {
		return t, invalid(key, v, err.Error())
	}
	return t, nil
}

// each runs parse on all values of key and refuses equal results.
func each[T comparable](raw Raw, key Key, parse func(string) (T, error)) ([]T, error) {
	var all []T
	seen := make(map[T]bool)
	for _, v := range raw[key] {
		p, err := parse(v.Text)
		if err == nil && seen[p] {
			err = errors.New("given twice")
		}
		if err != nil {
			return nil, invalid(key, v, err.Error())
		}
		seen[p] = true
		all = append(all, p)
	}
	return all, nil
}

func checkPeers(c *Config) error {
	remotes, peers := c.raw[Remote], c.raw[Peers]
	switch {
	case len(remotes) > 0 && len(peers) > 0:
		return invalid(Remote, remotes[0], "together with --peer: "+
			"--remote is a tunnel to one far end, --peer makes a hub of several; give one or the other")
	case len(peers) > 0:
		return checkHub(c, peers)
	case len(remotes) == 0:
		return exit.With(exit.Usage, errors.New("no far end: give --remote A.B.C.D, "+
			"or --peer A.B.C.D=PREFIX once for each peer of a hub"))
	}
	remote, err := one(c.raw, Remote, "", parseRemote)
	c.Peers = []Peer{{
		Remote:   remote,
		Prefixes: []netip.Prefix{netip.PrefixFrom(netip.IPv6Unspecified(), 0)},
		key:      Remote,
		from:     remotes[len(remotes)-1],
	}}
	return err
}

// checkHub refuses two peers with one address, and a prefix that two peers
// claim: there would be no saying whose packet it is. One prefix inside another
// is fine, the longer one wins.
func checkHub(c *Config, values []Value) error {
	c.Hub = true
	owner := make(map[netip.Prefix]string)
	for _, v := range values {
		p, err := parsePeer(v.Text)
		if err == nil {
			err = p.besides(c.Peers)
		}
		for i := 0; err == nil && i < len(p.Prefixes); i++ {
			if other, taken := owner[p.Prefixes[i]]; taken {
				err = fmt.Errorf("%s belongs to peer %s already", p.Prefixes[i], other)
			}
			owner[p.Prefixes[i]] = p.String()
		}
		if err != nil {
			return invalid(Peers, v, err.Error())
		}
		p.key, p.from = Peers, v
		c.Peers = append(c.Peers, p)
	}
	return nil
}

// besides reports why the peer cannot be one beside others.
func (p Peer) besides(others []Peer) error {
	for _, other := range others {
		switch {
		case p.Map == nil && other.Map == nil && p.Remote == other.Remote:
			return fmt.Errorf("%s is a peer already; give all its prefixes in one --peer, with commas", p.Remote)
		case p.Map != nil && other.Map != nil:
			return fmt.Errorf("besides %s; one tunnel has peers by one rule only, make another tunnel for these", other)
		case p.Map != nil && slices.Contains(p.Map.Relays, other.Remote):
			return fmt.Errorf("%s is a peer already", other)
		case other.Map != nil && slices.Contains(other.Map.Relays, p.Remote):
			return fmt.Errorf("%s is a relay of %s peers already", p, other)
		}
	}
	return nil
}

func checkLocal(c *Config) (err error) {
	c.Local, err = one(c.raw, Local, auto, parseLocal)
	if err != nil {
		return err
	}
	for _, p := range c.Peers {
		if err := p.CheckLocal(c.Local); err != nil {
			return err
		}
	}
	return nil
}

// CheckLocal returns an error when the peer is at the local address of the
// tunnel.
func (p Peer) CheckLocal(local netip.Addr) error {
	if p.Remote != local && (p.Map == nil || !slices.Contains(p.Map.Relays, local)) || !local.IsValid() {
		return nil
	}
	return p.Invalid("is the local address of this tunnel; the peer is the other end, an address of another host")
}

func checkAddresses(c *Config) (err error) {
	c.Addresses, err = each(c.raw, Address, parseAddress)
	return err
}

func checkRoutes(c *Config) (err error) {
	c.Routes, err = each(c.raw, Route, parseRoute)
	return err
}
