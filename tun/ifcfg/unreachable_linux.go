package ifcfg

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// unreachableRoute has everything by which the kernel tells this route from others.
func unreachableRoute(p netip.Prefix) *netlink.Route {
	return &netlink.Route{
		Dst:      ipNet(p),
		Type:     unix.RTN_UNREACHABLE,
		Table:    unix.RT_TABLE_MAIN,
		Protocol: RouteProtocol,
		Priority: unreachableMetric,
	}
}

func addUnreachable(p netip.Prefix) (Undo, error) {
	if err := netlink.RouteAdd(unreachableRoute(p)); err != nil {
		return nil, explain(fmt.Sprintf("add unreachable route %s", p), explainUnreachable(p, err))
	}
	return once(func() error { return deleteUnreachable(p) }), nil
}

func deleteUnreachable(p netip.Prefix) error {
	if err := netlink.RouteDel(unreachableRoute(p)); err != nil && !gone(plain(err)) {
		return explain(fmt.Sprintf("delete unreachable route %s", p), err)
	}
	return nil
}

// explainUnreachable knows what the kernel means by an error about such a route.
func explainUnreachable(p netip.Prefix, err error) error {
	switch {
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w: another tunnel has this prefix, or one that was killed left its route: ip -6 route del unreachable %s metric %d",
			err, p, unreachableMetric)
	case noIPv6(err):
		return fmt.Errorf("%w: the kernel has no IPv6 (ipv6.disable=1 on its command line, or no such module)", err)
	}
	return err
}
