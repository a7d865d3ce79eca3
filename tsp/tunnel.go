package tsp

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// ErrBadTunnel is what every error about a tunnel that must not be set up wraps: an
// address is missing, of the wrong family or in a range no broker may give, or a
// number is out of its bounds.
var ErrBadTunnel = errors.New("bad tunnel data")

// Type is a kind of tunnel, as messages name it (RFC 5572, Section 4.7.1, from
// memory; IANA's registry has these four).
type Type string

// The types of tunnel.
const (
	V6V4    Type = "v6v4"    // IPv6 in IPv4, protocol 41
	V6UDPV4 Type = "v6udpv4" // IPv6 in UDP over IPv4, on the flow that set it up
	V6AnyV4 Type = "v6anyv4" // in a request only: the broker chooses one of the two
	V4V6    Type = "v4v6"    // IPv4 in IPv6
)

func (t Type) valid() bool { return t == V6V4 || t == V6UDPV4 || t == V6AnyV4 || t == V4V6 }

// Allows reports whether a tunnel of type got answers a request for t.
func (t Type) Allows(got Type) bool {
	if t == V6AnyV4 {
		return got == V6V4 || got == V6UDPV4
	}
	return got == t
}

// outer is the family of the addresses that carry a tunnel.
func (t Type) outer() string {
	if t == V4V6 {
		return typeIPv6
	}
	return typeIPv4
}

// Bounds of the times in messages.
const (
	MaxKeepalive = 24 * time.Hour
	MaxLifetime  = 10 * 365 * 24 * time.Hour
)

// maxNames bounds the name servers of a message.
const maxNames = 8

// Tunnel is what a broker offers (RFC 5572, Sections 4.7.1 to 4.7.3, from memory).
type Tunnel struct {
	Type     Type          // never V6AnyV4
	Lifetime time.Duration // whole seconds, 1 s to MaxLifetime; 0 when the broker does not say
	MTU      int           // of the tunnel in bytes, 1280 to 65535; 0 when the broker does not say

	Server4, Server6 netip.Addr // the broker's end
	Client4, Client6 netip.Addr // the client's: one outer as the broker sees it, one inner

	ClientName string       // the name that Client6 has; may be empty
	DNS        []netip.Addr // IPv6 addresses of resolvers, at most 8
	Prefix     netip.Prefix // delegated to the client; the zero Prefix when none is

	Keepalive   time.Duration // between echo requests, 1 s to MaxKeepalive; 0 for none
	KeepaliveTo netip.Addr    // whom to send them; invalid when Keepalive is 0
}

// ParseTunnel reads the tunnel element of an answer. All of it is validated; errors
// wrap [ErrMalformed] or [ErrBadTunnel]. Lifetime is taken for seconds, as the known
// brokers mean it; RFC 5572 has minutes (from memory).
func ParseTunnel(doc []byte) (*Tunnel, error) {
	root, err := parseTunnelElement(doc)
	if err != nil {
		return nil, fmt.Errorf("tunnel: %w", err)
	}
	if action, _ := root.attr("action"); action != string(ActionInfo) {
		return nil, fmt.Errorf("tunnel: %w: action %q", ErrMalformed, clip(action))
	}
	t := new(Tunnel)
	for _, step := range []func(*element) error{t.readAttrs, t.readServer, t.readClient} {
		if err := step(root); err != nil {
			return nil, fmt.Errorf("tunnel: %w", badTunnel(err))
		}
	}
	if err := t.Check(); err != nil {
		return nil, fmt.Errorf("tunnel: %w", err)
	}
	return t, nil
}

// badTunnel marks err, unless it already says what kind it is.
func badTunnel(err error) error {
	if errors.Is(err, ErrMalformed) || errors.Is(err, ErrBadTunnel) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrBadTunnel, err)
}

// parseTunnelElement decodes the one element that every message is.
func parseTunnelElement(doc []byte) (*element, error) {
	root, err := parseXML(doc)
	if err != nil {
		return nil, err
	}
	if root.name != "tunnel" {
		return nil, fmt.Errorf("%w: element %q", ErrMalformed, clip(root.name))
	}
	return root, nil
}

func (t *Tunnel) readAttrs(root *element) (err error) {
	kind, _ := root.attr("type")
	t.Type = Type(kind)
	if s, ok := root.attr("lifetime"); ok {
		if t.Lifetime, err = seconds(s, MaxLifetime); err != nil {
			return fmt.Errorf("lifetime: %w", err)
		}
	}
	if s, ok := root.attr("mtu"); ok {
		if t.MTU, err = number(s, 1280, 65535); err != nil {
			return fmt.Errorf("mtu: %w", err)
		}
	}
	return nil
}

func (t *Tunnel) readServer(root *element) error {
	server, err := root.child("server")
	if err != nil {
		return err
	}
	t.Server4, t.Server6, err = bothAddrs(server)
	return err
}

func (t *Tunnel) readClient(root *element) error {
	client, err := root.child("client")
	if err != nil {
		return err
	}
	if t.Client4, t.Client6, err = bothAddrs(client); err != nil {
		return err
	}
	name, err := client.address(typeName)
	if err != nil {
		return err
	}
	t.ClientName = strings.ToLower(name)
	for _, step := range []func(*element) error{t.readDNS, t.readPrefix, t.readKeepalive} {
		if err := step(client); err != nil {
			return err
		}
	}
	return nil
}

// bothAddrs are the IPv4 and the IPv6 address of one end.
func bothAddrs(end *element) (v4, v6 netip.Addr, err error) {
	for _, one := range []struct {
		kind string
		addr *netip.Addr
	}{{typeIPv4, &v4}, {typeIPv6, &v6}} {
		text, err := end.address(one.kind)
		if err != nil {
			return v4, v6, err
		}
		if *one.addr, err = parseAddr(one.kind, text); err != nil {
			return v4, v6, err
		}
	}
	return v4, v6, nil
}

func (t *Tunnel) readDNS(client *element) error {
	servers, err := client.child("dns_server")
	if err != nil {
		return err
	}
	for _, text := range servers.addresses(typeIPv6) {
		a, err := parseAddr(typeIPv6, text)
		if err != nil {
			return fmt.Errorf("dns_server: %w", err)
		}
		t.DNS = append(t.DNS, a)
	}
	return nil
}

func (t *Tunnel) readPrefix(client *element) error {
	router, err := client.child("router")
	if err != nil {
		return err
	}
	prefix, err := router.child("prefix")
	if prefix == nil || err != nil {
		return err
	}
	length, _ := prefix.attr("length")
	bits, err := number(length, minPrefixLen, maxPrefixLen)
	if err != nil {
		return fmt.Errorf("prefix length: %w", err)
	}
	a, err := parseAddr(typeIPv6, prefix.text)
	if err != nil {
		return fmt.Errorf("prefix: %w", err)
	}
	t.Prefix = netip.PrefixFrom(a, bits)
	return nil
}

func (t *Tunnel) readKeepalive(client *element) error {
	keepalive, err := client.child("keepalive")
	if keepalive == nil || err != nil {
		return err
	}
	interval, _ := keepalive.attr("interval")
	if t.Keepalive, err = seconds(interval, MaxKeepalive); err != nil {
		return fmt.Errorf("keepalive interval: %w", err)
	}
	kind := inner(t.Type)
	text, err := keepalive.address(kind)
	if err != nil {
		return err
	}
	t.KeepaliveTo, err = parseAddr(kind, text)
	return err
}

// inner is the family of the packets within a tunnel.
func inner(t Type) string {
	if t == V4V6 {
		return typeIPv4
	}
	return typeIPv6
}

// Check reports why a tunnel must be neither set up nor offered; the error wraps
// [ErrBadTunnel]. What [ParseTunnel] returns has passed it.
func (t *Tunnel) Check() error {
	for _, check := range []func() error{t.checkNumbers, t.checkEnds, t.checkExtras} {
		if err := check(); err != nil {
			return badTunnel(err)
		}
	}
	return nil
}

func (t *Tunnel) checkNumbers() error {
	switch {
	case !t.Type.valid() || t.Type == V6AnyV4:
		return fmt.Errorf("type %q", clip(string(t.Type)))
	case t.Lifetime < 0 || t.Lifetime > MaxLifetime || t.Lifetime%time.Second != 0:
		return fmt.Errorf("lifetime %v", t.Lifetime)
	case t.MTU != 0 && (t.MTU < 1280 || t.MTU > 65535):
		return fmt.Errorf("mtu %d", t.MTU)
	case t.Keepalive < 0 || t.Keepalive > MaxKeepalive || t.Keepalive%time.Second != 0:
		return fmt.Errorf("keepalive interval %v", t.Keepalive)
	case len(t.DNS) > maxNames:
		return fmt.Errorf("%d resolvers", len(t.DNS))
	}
	return nil
}

func (t *Tunnel) checkEnds() error {
	for _, end := range []struct {
		kind string
		addr netip.Addr
	}{{typeIPv4, t.Server4}, {typeIPv6, t.Server6}, {typeIPv4, t.Client4}, {typeIPv6, t.Client6}} {
		if err := checkAddr(end.kind, end.addr); err != nil {
			return err
		}
	}
	switch {
	case t.Server6 == t.Client6:
		return fmt.Errorf("both ends are %v", t.Server6)
	case t.Server4 == t.Client4 && t.Type != V6UDPV4: // there, ports tell them apart
		return fmt.Errorf("both ends are %v", t.Server4)
	case t.Server4.IsLoopback() != t.Client4.IsLoopback():
		return fmt.Errorf("a tunnel from %v to %v", t.Client4, t.Server4)
	}
	return nil
}

func (t *Tunnel) checkExtras() error {
	if t.ClientName != "" {
		if err := checkName(t.ClientName); err != nil {
			return err
		}
	}
	for _, a := range t.DNS {
		if err := checkAddr(typeIPv6, a); err != nil {
			return fmt.Errorf("dns_server: %w", err)
		}
	}
	if t.Prefix != (netip.Prefix{}) {
		if err := checkPrefix(t.Prefix); err != nil {
			return err
		}
	}
	if t.Keepalive == 0 {
		return nil
	}
	if err := checkAddr(inner(t.Type), t.KeepaliveTo); err != nil {
		return fmt.Errorf("keepalive: %w", err)
	}
	if to := t.KeepaliveTo; to == t.Client6 || to != t.Server6 && t.Prefix.Contains(to) {
		return fmt.Errorf("keepalive: %v is the client's own, which would answer itself", to)
	}
	return nil
}

// Conflict reports whether the broker gave an address or a prefix that belongs to a
// network this host already has, such as its own LAN: using it would cut that off.
// The error wraps [ErrBadTunnel].
func (t *Tunnel) Conflict(own []netip.Prefix) error {
	given := []netip.Prefix{netip.PrefixFrom(t.Client6, 128), netip.PrefixFrom(t.Server6, 128)}
	if t.KeepaliveTo.IsValid() {
		given = append(given, netip.PrefixFrom(t.KeepaliveTo, 128)) // it will be routed into the tunnel
	}
	if t.Prefix.IsValid() {
		given = append(given, t.Prefix)
	}
	for _, mine := range own {
		for _, theirs := range given {
			if mine.Overlaps(theirs) {
				return fmt.Errorf("%w: %v belongs to this host's %v", ErrBadTunnel, theirs, mine)
			}
		}
	}
	return nil
}

// number reads a decimal number between two bounds.
func number(s string, low, high int) (int, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || n < uint64(low) || n > uint64(high) {
		return 0, fmt.Errorf("%q is not %d to %d", clip(s), low, high)
	}
	return int(n), nil
}

// seconds reads a time of at least a second.
func seconds(s string, longest time.Duration) (time.Duration, error) {
	n, err := number(s, 1, int(longest/time.Second))
	return time.Duration(n) * time.Second, err
}
