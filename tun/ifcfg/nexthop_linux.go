package ifcfg

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// knownStates are those of neighbour entries whose link-layer address is used to
// send (NUD_VALID of linux/neighbour.h).
const knownStates = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT

func nextHop(dst netip.Addr) (Hop, error) {
	route, err := routeTo(dst)
	if err != nil {
		return Hop{}, err
	}
	if route.Local {
		return Hop{}, fmt.Errorf("next hop to %s: %w: it is this host", dst, errors.ErrUnsupported)
	}
	to := dst
	if route.Gateway.IsValid() {
		to = route.Gateway
	}
	link, err := netlink.LinkByIndex(route.Index)
	if err != nil {
		return Hop{}, fmt.Errorf("next hop to %s: %w", dst, plain(err))
	}
	hop := Hop{Link: route.Index}
	attrs := link.Attrs()
	if attrs.RawFlags&unix.IFF_NOARP != 0 && len(attrs.HardwareAddr) == 0 {
		return hop, nil // a link without link-layer addresses
	}
	hop.MAC, err = neighbour(route.Index, to)
	if err != nil {
		return Hop{}, fmt.Errorf("next hop to %s: neighbour %s on %s: %w", dst, to, attrs.Name, err)
	}
	return hop, nil
}

// neighbour returns the link-layer address of a host on a link. It tells the
// kernel that the entry is in use, so that the kernel finds the address out, and
// confirms it from time to time, as it does for packets that it routes itself.
func neighbour(link int, to netip.Addr) (net.HardwareAddr, error) {
	family := unix.AF_INET
	if to.Is6() {
		family = unix.AF_INET6
	}
	use := &netlink.Neigh{LinkIndex: link, Family: family, IP: to.AsSlice(), Flags: netlink.NTF_USE}
	if err := netlink.NeighSet(use); err != nil {
		return nil, plain(err)
	}
	entries, err := dump(func() ([]netlink.Neigh, error) { return netlink.NeighList(link, family) })
	if err != nil {
		return nil, plain(err)
	}
	for _, e := range entries {
		if addrFrom(e.IP) == to && e.State&knownStates != 0 {
			return e.HardwareAddr, nil
		}
	}
	return nil, ErrUnresolved
}
