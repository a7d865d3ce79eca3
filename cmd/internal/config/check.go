package config

import (
	"errors"
	"fmt"
	"net/netip"

	"sixin4/cmd/internal/exit"
	"sixin4/tun/ifcfg"
)

// maxSocketPath is the longest path that fits sockaddr_un on Linux, whose field
// has 108 bytes with the closing zero.
const maxSocketPath = 107

// Check checks every value of raw and returns the configuration. Its error
// names the first wrong value; the exit status is 64 for one of the command
// line and 78 for one of the file.
func Check(raw Raw) (Config, error) {
	c := Config{raw: raw}
	steps := []func(*Config) error{
		checkPeers, checkLocal, checkAddresses, checkRoutes, checkName,
		checkHeader, checkDevice, checkLog,
	}
	for _, step := range steps {
		if err := step(&c); err != nil {
			return Config{}, err
		}
	}
	return c, nil
}

// one runs parse on the value of key, or on the default text when it has none.
func one[T any](c *Config, key Key, missing string, parse func(string) (T, error)) (T, error) {
	v := Value{Text: missing}
	if vs := c.raw[key]; len(vs) > 0 {
		v = vs[len(vs)-1]
	}
	t, err := parse(v.Text)
	if err != nil {
		return t, invalid(key, v, err.Error())
	}
	return t, nil
}

// each runs parse on all values of key and refuses equal results.
func each(c *Config, key Key, parse func(string) (netip.Prefix, error)) ([]netip.Prefix, error) {
	var all []netip.Prefix
	seen := make(map[netip.Prefix]bool)
	for _, v := range c.raw[key] {
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
	remote, err := one(c, Remote, "", parseRemote)
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
	owner := make(map[netip.Prefix]netip.Addr)
	seen := make(map[netip.Addr]bool)
	for _, v := range values {
		p, err := parsePeer(v.Text)
		if err == nil && seen[p.Remote] {
			err = fmt.Errorf("%s is a peer already; give all its prefixes in one --peer, with commas", p.Remote)
		}
		for i := 0; err == nil && i < len(p.Prefixes); i++ {
			if other, taken := owner[p.Prefixes[i]]; taken {
				err = fmt.Errorf("%s belongs to peer %s already", p.Prefixes[i], other)
			}
			owner[p.Prefixes[i]] = p.Remote
		}
		if err != nil {
			return invalid(Peers, v, err.Error())
		}
		seen[p.Remote] = true
		p.key, p.from = Peers, v
		c.Peers = append(c.Peers, p)
	}
	return nil
}

func checkLocal(c *Config) (err error) {
	c.Local, err = one(c, Local, auto, parseLocal)
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
	if p.Remote != local {
		return nil
	}
	return p.Invalid("is the local address of this tunnel; the peer is the other end, an address of another host")
}

func checkAddresses(c *Config) (err error) {
	c.Addresses, err = each(c, Address, parseAddress)
	return err
}

func checkRoutes(c *Config) (err error) {
	c.Routes, err = each(c, Route, parseRoute)
	return err
}

func checkName(c *Config) (err error) {
	if len(c.raw[Name]) == 0 {
		return nil
	}
	c.Name, err = one(c, Name, "", func(s string) (string, error) { return s, ifcfg.CheckName(s) })
	return err
}

func checkHeader(c *Config) (err error) {
	if c.TTL, err = one(c, TTL, "64", parseTTL); err != nil {
		return err
	}
	c.TOS, err = one(c, TOS, "0", parseTOS)
	return err
}

func checkDevice(c *Config) (err error) {
	if c.MTU, err = one(c, MTU, auto, parseMTU); err != nil {
		return err
	}
	if c.Queues, err = one(c, Queues, auto, parseQueues); err != nil {
		return err
	}
	if c.Wire, err = one(c, Wire, "raw", parseWire); err != nil || len(c.raw[Socket]) == 0 {
		return err
	}
	c.Socket, err = one(c, Socket, "", ParseSocket)
	return err
}

func checkLog(c *Config) (err error) {
	if c.LogJSON, err = one(c, LogFormat, "text", parseLogFormat); err != nil {
		return err
	}
	c.Verbose, err = one(c, Verbose, "false", parseBool)
	return err
}

// ParseSocket checks the path of a control socket.
func ParseSocket(s string) (string, error) {
	if s == "" {
		return "", errors.New("empty; the path of a socket belongs here, like /run/sixin4/home.sock")
	}
	if len(s) > maxSocketPath {
		return "", fmt.Errorf("%d bytes long; the path of a socket has at most %d", len(s), maxSocketPath)
	}
	return s, nil
}

func parseWire(s string) (string, error) {
	if s != WireRaw && s != WirePacket {
		return "", errors.New("no such wire; raw or packet")
	}
	return s, nil
}

func parseLogFormat(s string) (isJSON bool, err error) {
	if s != "text" && s != "json" {
		return false, errors.New("no such format; text or json")
	}
	return s == "json", nil
}

func parseBool(s string) (bool, error) {
	if s != "true" && s != "false" {
		return false, errors.New("neither true nor false")
	}
	return s == "true", nil
}
