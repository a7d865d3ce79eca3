// Package ifcfg makes a network interface look as asked, and back: link state,
// MTU, addresses and routes by rtnetlink. Every change returns its undo. It also
// tells what the host looks like around the interface: the route to a peer, the
// prefixes in use, and when any of that changes.
//
// Everything happens in the network namespace of the calling thread, undoing
// included. Changes need CAP_NET_ADMIN there. On systems other than Linux every
// operation that touches the host fails with errors.ErrUnsupported.
package ifcfg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// RouteProtocol is the origin that the routes of AddRoute carry (rtm_protocol),
// so that `ip route show proto 41` lists them: the number of 6in4's own IP
// protocol, which no routing daemon uses.
const RouteProtocol = 41

// MinMTU is the least MTU in bytes that IPv6 runs over (RFC 8200, Section 5).
// Linux takes IPv6 and all its addresses off an interface with less.
const MinMTU = 1280

// maxNameLen is IFNAMSIZ without the terminating zero.
const maxNameLen = 15

// Interface is a network interface of the host. Its methods act on the
// interface with this index, whatever its name has become; one that is gone
// gives an error, and makes every undo a success.
type Interface struct {
	Name  string
	Index int
}

// ByName finds the interface called name.
func ByName(name string) (*Interface, error) { return byName(name) }

// Exists reports whether an interface is called name.
func Exists(name string) (bool, error) { return exists(name) }

// SetMTU sets the MTU to n bytes, at least MinMTU. The undo restores the MTU
// that was there before, so after several calls the first undo is enough.
func (i *Interface) SetMTU(n int) (Undo, error) {
	if n < MinMTU {
		return nil, fmt.Errorf("set MTU of %s: %d: IPv6 needs at least %d", i.Name, n, MinMTU)
	}
	return i.setMTU(n)
}

// Up brings the interface up. The undo takes it down, unless it was up before.
func (i *Interface) Up() (Undo, error) { return i.up() }

// AddAddress gives the interface an address with the length of its on-link
// prefix. There is no duplicate address detection, as a point to point tunnel
// has no neighbours to ask, and on an interface that is up the kernel delivers
// to the address when AddAddress returns. An address that the interface has
// already is an error.
func (i *Interface) AddAddress(p netip.Prefix) (Undo, error) {
	if err := checkAddress(p); err != nil {
		return nil, fmt.Errorf("add address to %s: %w", i.Name, err)
	}
	return i.addAddress(p)
}

// AddRoute sends what is destined to p into the interface, which must be up.
// The host bits of p must be zero. An equal route that exists already, through
// whatever interface, is an error that tells about it.
func (i *Interface) AddRoute(p netip.Prefix) (Undo, error) {
	if err := checkRoute(p); err != nil {
		return nil, fmt.Errorf("add route to %s: %w", i.Name, err)
	}
	return i.addRoute(p, netip.Addr{})
}

// AddRouteVia is AddRoute by way of one neighbour on the interface, of which there need
// be none: for IPv6 the kernel keeps a neighbour entry for each destination that a route
// without a gateway is used for, and at net.ipv6.neigh.default.gc_thresh3 (1024) of them it
// throws away those it needs. The gateway is a link-local address that is not the host's.
func (i *Interface) AddRouteVia(p netip.Prefix, gateway netip.Addr) (Undo, error) {
	err := checkRoute(p)
	if err == nil && (!p.Addr().Is6() || !gateway.IsLinkLocalUnicast() || !gateway.Is6()) {
		err = fmt.Errorf("gateway %s: an IPv6 route by way of a link-local IPv6 address belongs here", gateway)
	}
	if err != nil {
		return nil, fmt.Errorf("add route to %s: %w", i.Name, err)
	}
	return i.addRoute(p, gateway)
}

// NoAutoLinkLocal keeps the kernel from giving the interface a link-local
// address of its own choice (IN6_ADDR_GEN_MODE_NONE). It must come before Up.
func (i *Interface) NoAutoLinkLocal() (Undo, error) { return i.noAutoLinkLocal() }

// NoAutoConfig keeps the kernel from taking addresses, routes and redirects from
// router advertisements on this interface (accept_ra, autoconf and
// accept_redirects under net.ipv6.conf.NAME), and from asking for any. It needs a
// writable /proc/sys.
func (i *Interface) NoAutoConfig() (Undo, error) { return i.noAutoConfig() }

// State tells whether the interface is up, and its IPv6 addresses.
func (i *Interface) State() (up bool, addresses []netip.Prefix, err error) { return i.state() }

// EnableIPv6 turns IPv6 on for this interface alone where the host or the
// container has turned it off for new ones (net.ipv6.conf.NAME.disable_ipv6).
// It changes nothing, and needs no writable /proc/sys, where IPv6 is on.
func (i *Interface) EnableIPv6() (Undo, error) { return i.enableIPv6() }

// SetTxQueueLen sets how many packets may wait for the interface.
func (i *Interface) SetTxQueueLen(n int) (Undo, error) {
	if n < 0 {
		return nil, fmt.Errorf("set transmit queue length of %s: %d is negative", i.Name, n)
	}
	return i.setTxQueueLen(n)
}

// Route is how the host reaches an address.
type Route struct {
	Interface string // the name of the outgoing interface
	Index     int    // and its index
	// MTU is the route's own, or the one learned for this destination by path
	// MTU discovery, or else the interface's. In bytes.
	MTU     int
	LinkMTU int        // the interface's, in bytes
	Source  netip.Addr // the preferred source; the zero Addr where there is none
	Gateway netip.Addr // the zero Addr when the destination is on the link
	Local   bool       // the destination is an address of this host

	fixed int // MTU without what was learned, if that is another; 0: the same
}

// FixedMTU is MTU without what the kernel has learned by path MTU discovery. It learns from
// any ICMPv4 message that names two addresses, so a forged one is enough.
func (r Route) FixedMTU() int {
	if r.fixed != 0 {
		return r.fixed
	}
	return r.MTU
}

// RouteTo looks up the route that a packet from this host to dst takes now. A
// destination without one gives an error that says so and wraps the cause, such
// as syscall.ENETUNREACH.
func RouteTo(dst netip.Addr) (Route, error) { return RouteVia(dst, "") }

// RouteVia is RouteTo for packets that leave by the interface called link, whatever
// other routes say. Any interface will do when link is empty.
func RouteVia(dst netip.Addr, link string) (Route, error) {
	if !dst.IsValid() || dst.IsUnspecified() || dst.IsMulticast() {
		return Route{}, fmt.Errorf("look up route: %s is not the address of a host", dst)
	}
	return routeTo(dst.Unmap().WithZone(""), link)
}

// Hop is the next host on the way to a destination.
type Hop struct {
	Link int              // index of the interface
	MAC  net.HardwareAddr // its link-layer address; empty on links that have none
}

// ErrUnresolved says that the link-layer address of a neighbour is not known yet.
// Asking has made the kernel look for it.
var ErrUnresolved = errors.New("link-layer address not resolved")

// NextHopVia asks where IPv4 packets between two addresses go first, of which from is
// this host's. Called every few seconds it also keeps the kernel's knowledge of
// that neighbour fresh, for those who send to it without the kernel's help. It is
// an error that wraps errors.ErrUnsupported when the kernel would do more than
// send them there: deliver them to itself, encapsulate them, or mind that the way
// carries less than the link.
//
// The packets leave by the interface called link; any interface will do when link is empty.
func NextHopVia(from, to netip.Addr, link string) (Hop, error) { return nextHop(from, to, link) }

// Way is how packets leave for a host.
type Way struct {
	Link     int  // index of the interface
	MTU      int  // of the route or else of the link, in bytes; what was learned of the path does not count
	Ethernet bool // the link is one
}

// Ways asks for the ways to many hosts, one after the other: about each link it asks once.
// It is for one goroutine, and for as long as links stay what they are.
type Ways struct{ links map[int]Way }

// To asks how IPv4 packets between two addresses leave, of which from is this host's. It
// is an error that wraps errors.ErrUnsupported when the kernel would do more than send
// them: deliver them to itself, or encapsulate them.
//
// The packets leave by the interface called link; any interface will do when link is empty.
func (w *Ways) To(from, to netip.Addr, link string) (Way, error) { return w.to(from, to, link) }

// Addresses are all IPv4 addresses of this host.
func Addresses() ([]netip.Addr, error) { return addresses() }

// HasAddress reports whether addr is an address of this host, of the same family.
func HasAddress(addr netip.Addr) (bool, error) { return hasAddress(addr) }

// HostPrefixes returns the global-scope IPv6 addresses of all interfaces but
// the one with index exceptIndex as their on-link prefixes, sorted and each
// once. What carries one of these sources and comes out of a tunnel pretends to
// be this host or a neighbour of it.
func HostPrefixes(exceptIndex int) ([]netip.Prefix, error) { return hostPrefixes(exceptIndex) }

// HostAddresses returns the global-scope IPv6 addresses of all interfaces but the one with
// index exceptIndex, sorted, as far as packets for them that come in by that one stay on
// this host: none if that is in a VRF, and not those that are in one, nor any that is in
// use elsewhere or may turn out to be.
func HostAddresses(exceptIndex int) ([]netip.Addr, error) { return hostAddresses(exceptIndex) }

// Watch calls fn when it begins, and then after changes of links, addresses or
// routes of this network namespace, its own user's included, until ctx is done;
// then it returns nil. Changes that come close together are one call. Nothing
// is lost between the first call and the later ones. A path MTU that the kernel
// learns is no such change.
func Watch(ctx context.Context, fn func()) error { return watch(ctx, fn) }

// FreeName returns the first of base0, base1, ... that no interface is called
// now, and that is free for other purposes too as far as taken says, if that is
// not nil.
func FreeName(base string, taken func(name string) bool) (string, error) {
	for n := 0; ; n++ {
		name := fmt.Sprintf("%s%d", base, n)
		if err := CheckName(name); err != nil {
			return "", err
		}
		exists, err := Exists(name)
		if err != nil {
			return "", err
		}
		if !exists && (taken == nil || !taken(name)) {
			return name, nil
		}
	}
}

// CheckName says why the kernel would refuse to call an interface name, or why
// its owner would regret it.
func CheckName(name string) error {
	refuse := func(why string, args ...any) error {
		return fmt.Errorf("interface name %q: %s", name, fmt.Sprintf(why, args...))
	}
	switch {
	case name == "":
		return refuse("is empty")
	case len(name) > maxNameLen:
		return refuse("has %d bytes, at most %d are possible", len(name), maxNameLen)
	case name == "." || name == "..":
		return refuse("is the name of a directory")
	case name == "all" || name == "default":
		return refuse("stands for all interfaces in net.ipv6.conf")
	}
	for _, b := range []byte(name) {
		if badInName(b) {
			return refuse("the character %q is not allowed", b)
		}
	}
	return nil
}

// badInName knows what the kernel refuses (slash, colon, white space, of which
// it thinks in Latin-1: 0xa0 is a space), what it replaces (percent) and what
// would spoil a terminal.
func badInName(b byte) bool {
	return b <= ' ' || b == 0x7f || b == 0xa0 || b == '/' || b == ':' || b == '%'
}

var errNotPrefix = errors.New("not an address with a prefix length")

func checkAddress(p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return errNotPrefix
	case p.Addr().Is4In6():
		return fmt.Errorf("%s is an IPv4 address written as IPv6", p)
	case p.Addr().IsUnspecified(), p.Addr().IsMulticast():
		return fmt.Errorf("%s is not the address of a host", p)
	}
	return nil
}

func checkRoute(p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return errNotPrefix
	case p.Addr().Is4In6():
		return fmt.Errorf("%s is an IPv4 prefix written as IPv6", p)
	case p != p.Masked():
		return fmt.Errorf("%s has bits set beyond its length: %s would be right", p, p.Masked())
	}
	return nil
}
