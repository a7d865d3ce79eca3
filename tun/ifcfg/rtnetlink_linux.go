package ifcfg

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func byName(name string) (*Interface, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find interface %s: %w", name, plain(err))
	}
	return &Interface{Name: link.Attrs().Name, Index: link.Attrs().Index}, nil
}

func exists(name string) (bool, error) {
	_, err := byName(name)
	if errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	return err == nil, err
}

// attrs reads what the interface looks like now.
func (i *Interface) attrs() (*netlink.LinkAttrs, error) {
	link, err := netlink.LinkByIndex(i.Index)
	if err != nil {
		return nil, plain(err)
	}
	return link.Attrs(), nil
}

// link is the interface as the netlink library takes it: it uses the index only.
func (i *Interface) link() netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: i.Index}}
}

func (i *Interface) setMTU(n int) (Undo, error) {
	op := fmt.Sprintf("set MTU %d of %s", n, i.Name)
	old, err := i.attrs()
	if err == nil {
		err = netlink.LinkSetMTU(i.link(), n)
	}
	if err != nil {
		return nil, explain(op, err)
	}
	return i.undo("restore MTU", func() error { return netlink.LinkSetMTU(i.link(), old.MTU) }), nil
}

func (i *Interface) setTxQueueLen(n int) (Undo, error) {
	op := fmt.Sprintf("set transmit queue length %d of %s", n, i.Name)
	old, err := i.attrs()
	if err == nil {
		err = netlink.LinkSetTxQLen(i.link(), n)
	}
	if err != nil {
		return nil, explain(op, err)
	}
	return i.undo("restore transmit queue length", func() error {
		return netlink.LinkSetTxQLen(i.link(), old.TxQLen)
	}), nil
}

func (i *Interface) up() (Undo, error) {
	op := "bring up " + i.Name
	old, err := i.attrs()
	if err != nil {
		return nil, explain(op, err)
	}
	if old.Flags&net.FlagUp != 0 {
		return nothing, nil
	}
	mode, _ := i.addrGenMode() // without IPv6 there is nothing to restore either
	if err := netlink.LinkSetUp(i.link()); err != nil {
		return nil, explain(op, err)
	}
	return i.undo("take down", func() error {
		err := netlink.LinkSetDown(i.link())
		if err == nil {
			err = i.restoreAddrGenMode(mode)
		}
		return err
	}), nil
}

// restoreAddrGenMode undoes what the kernel does when it brings up a device
// without a link layer, such as a TUN: mode EUI64, its default, becomes RANDOM.
func (i *Interface) restoreAddrGenMode(mode int) error {
	now, err := i.addrGenMode()
	if err != nil || now == mode || now != nl.IN6_ADDR_GEN_MODE_RANDOM {
		return nil
	}
	return netlink.LinkSetIP6AddrGenMode(i.link(), mode)
}

// addRoute adds a route, on the link unless there is a gateway.
func (i *Interface) addRoute(p netip.Prefix, gateway netip.Addr) (Undo, error) {
	route := &netlink.Route{
		LinkIndex: i.Index,
		Dst:       ipNet(p),
		Gw:        gateway.AsSlice(),
		Protocol:  RouteProtocol,
		Priority:  metric(p),
	}
	if err := netlink.RouteAdd(route); err != nil {
		return nil, explain(fmt.Sprintf("add route %s to %s", p, i.Name), i.explainRoute(p, err))
	}
	return i.undo("delete route "+p.String()+" of", func() error { return netlink.RouteDel(route) }), nil
}

// metric is the one that the kernel gives to a route to p by itself; naming it
// makes sure that the undo deletes this route and no other.
func metric(p netip.Prefix) int {
	if p.Addr().Is6() {
		return 1024
	}
	return 0
}

// explainRoute knows what the kernel means by an error about a route.
func (i *Interface) explainRoute(p netip.Prefix, err error) error {
	switch {
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w: %s", err, describeRoute(p))
	case errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENETUNREACH):
		return fmt.Errorf("%w: bring the interface up first", err)
	case p.Addr().Is6() && errors.Is(err, unix.EACCES):
		return i.disabled(err)
	case p.Addr().Is6() && noIPv6(err):
		return i.explainNoIPv6(err)
	}
	return err
}

// describeRoute says where an existing route to p leads and whose it is.
func describeRoute(p netip.Prefix) string {
	family := netlink.FAMILY_V4
	if p.Addr().Is6() {
		family = netlink.FAMILY_V6
	}
	routes, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(family, &netlink.Route{Dst: ipNet(p)}, netlink.RT_FILTER_DST)
	})
	const text = "there is such a route already"
	at := slices.IndexFunc(routes, func(r netlink.Route) bool { return r.Priority == metric(p) })
	if err != nil || at < 0 {
		return text // and by now it has gone
	}
	return text + routeDetails(routes[at])
}

func routeDetails(r netlink.Route) (text string) {
	if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
		text += " through " + link.Attrs().Name
	}
	if r.Gw != nil {
		text += " via " + r.Gw.String()
	}
	return fmt.Sprintf("%s (protocol %s, metric %d); remove it, or route narrower prefixes", text, r.Protocol, r.Priority)
}

// undo wraps what takes a change back: once, and well if its object is gone.
func (i *Interface) undo(op string, back func() error) Undo {
	return once(func() error {
		if err := back(); err != nil && !gone(plain(err)) {
			return explain(op+" "+i.Name, err)
		}
		return nil
	})
}

// gone recognises that the kernel does not know the interface (ENODEV), the
// address (EADDRNOTAVAIL) or the route (ESRCH) any more.
func gone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ESRCH) ||
		errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENOENT)
}

// plain turns the netlink library's own error for a missing interface, which
// wraps nothing, into the kernel's.
func plain(err error) error {
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return unix.ENODEV
	}
	return err
}

// explain makes the error of op, and says what gives a missing privilege.
func explain(op string, err error) error {
	err = plain(err)
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%s: %w (needs CAP_NET_ADMIN: run as root; a container is run with --cap-add NET_ADMIN)", op, err)
	}
	return fmt.Errorf("%s: %w", op, err)
}

// noIPv6 recognises that the kernel keeps no IPv6 state for an interface. It
// says EAFNOSUPPORT or EOPNOTSUPP without IPv6 altogether, and EINVAL, ENOBUFS
// or ENODEV for an interface that has none, of which only those are distinct.
func noIPv6(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOBUFS)
}

func (i *Interface) explainNoIPv6(err error) error {
	if attrs, failed := i.attrs(); failed == nil && attrs.MTU < MinMTU {
		return fmt.Errorf("%w: %s has no IPv6, because its MTU %d is under %d", err, i.Name, attrs.MTU, MinMTU)
	}
	return fmt.Errorf("%w: the kernel has no IPv6 (ipv6.disable=1 on its command line, or no such module)", err)
}

// dump repeats list when the kernel says that the answer is inconsistent,
// because something changed while it was made.
func dump[T any](list func() ([]T, error)) (all []T, err error) {
	for range 10 {
		all, err = list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (i *Interface) noAutoLinkLocal() (Undo, error) {
	op := "turn off automatic link-local address of " + i.Name
	old, err := i.addrGenMode()
	if err == nil && old == nl.IN6_ADDR_GEN_MODE_NONE {
		return nothing, nil
	}
	if err == nil {
		err = netlink.LinkSetIP6AddrGenMode(i.link(), nl.IN6_ADDR_GEN_MODE_NONE)
	}
	if err != nil {
		return nil, explain(op, err)
	}
	return i.undo("restore automatic link-local address of", func() error {
		return netlink.LinkSetIP6AddrGenMode(i.link(), old)
	}), nil
}
