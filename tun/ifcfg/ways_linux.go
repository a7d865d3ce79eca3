package ifcfg

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func (w *Ways) to(from, to netip.Addr, by string) (way Way, err error) {
	fail := func(err error) (Way, error) {
		return Way{}, fmt.Errorf("way from %s to %s%s: %w", from, to, through(by), plain(err))
	}
	if !from.Is4() || !to.Is4() {
		return fail(fmt.Errorf("%w: not IPv4", errors.ErrUnsupported))
	}
	route, err := askRoute(from, to, by)
	if err != nil {
		return fail(err)
	}
	way, known := w.links[route.link]
	if !known {
		link, err := netlink.LinkByIndex(route.link)
		if err != nil {
			return fail(err)
		}
		attrs := link.Attrs()
		way = Way{Link: route.link, MTU: attrs.MTU, Ethernet: attrs.EncapType == "ether" && len(attrs.HardwareAddr) == 6}
		if w.links == nil {
			w.links = make(map[int]Way)
		}
		w.links[route.link] = way
	}
	if route.mtu == 0 {
		return way, nil
	}
	_, set, err := routeAttributes(from, to, by, unix.RTM_F_FIB_MATCH) // without what was learned
	if err != nil {
		return fail(err)
	}
	if mtu, err := routeMTU(set); err == nil && mtu != 0 {
		way.MTU = int(mtu)
	}
	return way, nil
}
