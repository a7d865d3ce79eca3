// Package config turns what a person wrote, on the command line or in a file, into
// a configuration that the daemon can use. Raw holds texts and where they stand;
// Config, of `sixin4 up`, Connect, of `sixin4 connect`, and Broker, of `tspd serve`,
// hold checked values. Between them are Check, CheckConnect and CheckBroker, whose
// every error is one line with the value, the reason and what would be right, and
// carries the exit status (package exit).
//
// Files are TOML with the flags for keys. ReadConnect also reads the key=value
// files of old programs for the Tunnel Setup Protocol (RFC 5572): their values
// become a Raw too, so that the same checks and flags apply, and a message about
// one names it as it stands in the file.
package config

import "net/netip"

// Config is the checked configuration of one tunnel.
type Config struct {
	Common
	// Peers is the far ends: one with ::/0, or those of a hub, in the order
	// they were given.
	Peers []Peer
	Hub   bool
	// Local is the outer source address; not valid means automatic, the source
	// of the route to the first peer.
	Local     netip.Addr
	Addresses []netip.Prefix // of the interface, with their host bits
	Routes    []netip.Prefix // into the tunnel, masked

	Keepalive Ask
	Far       netip.Addr // whom Probe asks; valid exactly with Probe
	OnUp      []string   // an absolute path and arguments; empty for none
	OnDown    []string   // the same

	raw Raw
}

// Peer is one far end and what is reached through it.
type Peer struct {
	Remote   netip.Addr     // IPv4, unicast; not valid with Map
	Prefixes []netip.Prefix // IPv6, masked
	Map      *Mapped        // instead of Remote: peers by rule

	key  Key
	from Value
}

// String is the peer's address, or the rule that says where such peers are.
func (p Peer) String() string {
	if p.Map != nil {
		return p.Map.Kind
	}
	return p.Remote.String()
}

// Invalid returns the error that blames this peer for reason, as Check would.
func (p Peer) Invalid(reason string) error { return invalid(p.key, p.from, reason) }

// Invalid returns the error that blames the value of key for reason, as Check
// would; it serves checks that need the operating system.
func (c Config) Invalid(key Key, reason string) error {
	v, _ := c.raw.last(key)
	return invalid(key, v, reason)
}
