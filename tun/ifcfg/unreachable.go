package ifcfg

import (
	"errors"
	"fmt"
	"net/netip"
)

// unreachableMetric is worse than what anybody gives to a route on purpose.
const unreachableMetric = 1<<31 - 1

// AddUnreachable makes this host answer packets to p that no narrower route of its
// own takes, with destination unreachable. A router needs that for a prefix that was
// delegated to it: the parts of it that no LAN has would go out by the default route,
// come back, and circle until their hop limit is used up (RFC 7084, Section 4.3, WPD-5,
// from memory). Another route to all of p goes before it, as its metric is better. p is
// an IPv6 prefix without host bits. The route belongs to no interface and so outlives
// this process: see [DeleteUnreachable].
func AddUnreachable(p netip.Prefix) (Undo, error) {
	if err := checkUnreachable(p); err != nil {
		return nil, fmt.Errorf("add unreachable route: %w", err)
	}
	return addUnreachable(p)
}

// DeleteUnreachable takes back what an [AddUnreachable] of p did whose undo is lost,
// because its process was killed. It touches no route of another origin, and is no
// error when there is none.
func DeleteUnreachable(p netip.Prefix) error {
	if err := checkUnreachable(p); err != nil {
		return fmt.Errorf("delete unreachable route: %w", err)
	}
	return deleteUnreachable(p)
}

func checkUnreachable(p netip.Prefix) error {
	switch err := checkRoute(p); {
	case err != nil:
		return err
	case !p.Addr().Is6():
		return fmt.Errorf("%s is not an IPv6 prefix", p)
	case p.Bits() == 0:
		return errors.New("::/0 is everything")
	}
	return nil
}
