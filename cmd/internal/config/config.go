// Package config turns what a person wrote, on the command line or in a TOML
// file, into a configuration that the daemon can use. There are two types: Raw
// holds texts and where they stand, Config holds checked values. Between them
// is Check, whose every error is one line with the value, the reason and what
// would be right, and carries the exit status (package exit).
package config

import (
	"fmt"
	"net/netip"
	"slices"

	"sixin4/cmd/internal/exit"
	"sixin4/encap"
)

// Key is the name of a setting: its flag without the dashes, and its key in the
// file.
type Key string

// The settings of `sixin4 up`.
const (
	Remote    Key = "remote"
	Peers     Key = "peer"
	Local     Key = "local"
	Address   Key = "address"
	Route     Key = "route"
	Name      Key = "name"
	MTU       Key = "mtu"
	TTL       Key = "ttl"
	TOS       Key = "tos"
	Queues    Key = "queues"
	Wire      Key = "wire"
	Socket    Key = "socket"
	LogFormat Key = "log-format"
	Verbose   Key = "verbose"
)

// The values of Wire.
const (
	WireRaw    = "raw"
	WirePacket = "packet"
)

// keys is every setting; true for those that may be given several times.
var keys = map[Key]bool{
	Remote: false, Peers: true, Local: false, Address: true, Route: true,
	Name: false, MTU: false, TTL: false, TOS: false, Queues: false, Wire: false,
	Socket: false, LogFormat: false, Verbose: false,
}

// IsList reports whether key may be given several times.
func IsList(key Key) bool { return keys[key] }

// Config is the checked configuration of one tunnel.
type Config struct {
	// Peers is the far ends: one with ::/0, or those of a hub, in the order
	// they were given.
	Peers []Peer
	Hub   bool
	// Local is the outer source address; not valid means automatic, the source
	// of the route to the first peer.
	Local     netip.Addr
	Addresses []netip.Prefix // of the interface, with their host bits
	Routes    []netip.Prefix // into the tunnel, masked
	Name      string         // of the interface; empty means the first free one
	MTU       encap.TunMTU   // 0 means automatic
	TTL       Field          // of the outer header; Value is never 0
	TOS       Field          // the lowest two bits of Value are 0
	Queues    int            // of the TUN device; 0 means automatic
	Wire      string         // WireRaw or WirePacket
	Socket    string         // path; empty means the usual place
	LogJSON   bool
	Verbose   bool

	raw Raw
}

// Field is a byte of the outer header: a fixed value, or that of the packet
// inside.
type Field struct {
	Inherit bool
	Value   uint8
}

// Peer is one far end and what is reached through it.
type Peer struct {
	Remote   netip.Addr     // IPv4, unicast
	Prefixes []netip.Prefix // IPv6, masked

	key  Key
	from Value
}

// Invalid returns the error that blames this peer for reason, as Check would.
func (p Peer) Invalid(reason string) error { return invalid(p.key, p.from, reason) }

// Invalid returns the error that blames the value of key for reason, as Check
// would; it serves checks that need the operating system.
func (c Config) Invalid(key Key, reason string) error {
	var v Value
	if vs := c.raw[key]; len(vs) > 0 {
		v = vs[len(vs)-1]
	}
	return invalid(key, v, reason)
}

// Raw is a configuration as it was written.
type Raw map[Key][]Value

// Value is the text of one value and its origin.
type Value struct {
	Text   string
	Origin Origin
}

// Origin is where a value was written. The zero Origin is the command line.
type Origin struct {
	File string
	Line int // from 1
}

// Set gives key the value from the command line; a setting that may be given
// several times gets one more.
func (r Raw) Set(key Key, text string) {
	if !IsList(key) {
		r[key] = nil
	}
	r[key] = append(r[key], Value{Text: text})
}

// Merge fills in from file what r does not have: flags win over the file.
// remote and peer are two ways to say the same, so either one replaces both.
func (r Raw) Merge(file Raw) {
	choice := len(r[Remote]) > 0 || len(r[Peers]) > 0
	for key, values := range file {
		if len(r[key]) > 0 || choice && (key == Remote || key == Peers) {
			continue
		}
		r[key] = slices.Clone(values)
	}
}

// invalid says in one line which value is wrong, and why.
func invalid(key Key, v Value, reason string) error {
	if v.Origin.File == "" {
		text := v.Text
		if text == "" {
			text = `""`
		}
		return exit.With(exit.Usage, fmt.Errorf("--%s %s: %s", key, text, reason))
	}
	return exit.With(exit.Config, fmt.Errorf("%s:%d: %s = %q: %s",
		v.Origin.File, v.Origin.Line, key, v.Text, reason))
}
