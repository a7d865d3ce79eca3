package ifcfg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// knownStates are those of neighbour entries whose link-layer address is used to
// send (NUD_VALID of linux/neighbour.h).
const knownStates = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT

func nextHop(from, to netip.Addr, by string) (Hop, error) {
	fail := func(err error) (Hop, error) {
		return Hop{}, fmt.Errorf("next hop from %s to %s%s: %w", from, to, through(by), plain(err))
	}
	if !from.Is4() || !to.Is4() {
		return fail(fmt.Errorf("%w: not IPv4", errors.ErrUnsupported))
	}
	route, err := askRoute(from, to, by)
	if err != nil {
		return fail(err)
	}
	link, err := netlink.LinkByIndex(route.link)
	if err != nil {
		return fail(err)
	}
	attrs := link.Attrs()
	if route.mtu != 0 && route.mtu < uint32(attrs.MTU) {
		return fail(fmt.Errorf("%w: the way carries less than the link", errors.ErrUnsupported))
	}
	hop := Hop{Link: route.link}
	if sendsAsIs(attrs) {
		return hop, nil
	}
	if hop.MAC, err = neighbour(route.link, route.via); err != nil {
		return fail(fmt.Errorf("neighbour %s on %s: %w", route.via, attrs.Name, err))
	}
	return hop, nil
}

// sendsAsIs recognises links that need to know nothing but the packet (PPP, TUN,
// WireGuard). Others without link-layer addresses, such as IP tunnels, may
// take their destination from the kernel's route. (NUD_NOARP is no known state
// either: it is what the neighbours on those have, and on a VRF.)
func sendsAsIs(link *netlink.LinkAttrs) bool {
	kind := link.EncapType
	return link.RawFlags&unix.IFF_NOARP != 0 && len(link.HardwareAddr) == 0 &&
		(kind == "none" || kind == "ppp")
}

// route4 is what the kernel answers about an IPv4 route.
type route4 struct {
	link int
	via  netip.Addr // the gateway, of either IP version, or the destination itself
	mtu  uint32     // of the route, or learned; 0: the link's
}

// askRoute asks for the route of a packet with both addresses, as policy routing
// needs it. It refuses routes by which packets do not leave as they are.
func askRoute(from, to netip.Addr, by string) (route4, error) {
	kind, attrs, err := routeAttributes(from, to, by, 0)
	if err != nil {
		return route4{}, err
	}
	return newRoute4(kind, attrs, to)
}

// routeAttributes are the type and the attributes of such a route; flags are those of
// struct rtmsg.
func routeAttributes(from, to netip.Addr, by string, flags uint32) (kind uint8, attrs map[uint16][]byte, err error) {
	request := nl.NewNetlinkRequest(unix.RTM_GETROUTE, unix.NLM_F_REQUEST)
	request.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET, Dst_len: 32, Src_len: 32, Flags: flags}})
	request.AddData(nl.NewRtAttr(unix.RTA_DST, to.AsSlice()))
	request.AddData(nl.NewRtAttr(unix.RTA_SRC, from.AsSlice()))
	if by != "" {
		link, err := netlink.LinkByName(by)
		if err != nil {
			return 0, nil, err
		}
		request.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(link.Attrs().Index))))
	}
	answers, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
	if err != nil {
		return 0, nil, err
	}
	if len(answers) != 1 || len(answers[0]) < unix.SizeofRtMsg {
		return 0, nil, errShort
	}
	attrs, err = attributes(answers[0][unix.SizeofRtMsg:])
	return nl.DeserializeRtMsg(answers[0]).Type, attrs, err
}

func newRoute4(kind uint8, attrs map[uint16][]byte, to netip.Addr) (route4, error) {
	switch {
	case kind == unix.RTN_LOCAL:
		return route4{}, fmt.Errorf("%w: it is this host", errors.ErrUnsupported)
	case kind != unix.RTN_UNICAST:
		return route4{}, fmt.Errorf("%w: it is not the address of one host", errors.ErrUnsupported)
	case attrs[unix.RTA_ENCAP_TYPE] != nil:
		return route4{}, fmt.Errorf("%w: the route encapsulates", errors.ErrUnsupported)
	case len(attrs[unix.RTA_OIF]) < 4:
		return route4{}, errShort
	}
	r := route4{link: int(binary.NativeEndian.Uint32(attrs[unix.RTA_OIF])), via: to}
	if via, ok := netip.AddrFromSlice(attrs[unix.RTA_GATEWAY]); ok {
		r.via = via
	}
	if b := attrs[unix.RTA_VIA]; len(b) > 2 { // an address family before the address
		via, ok := netip.AddrFromSlice(b[2:])
		if !ok {
			return route4{}, errShort
		}
		r.via = via
	}
	var err error
	r.mtu, err = routeMTU(attrs)
	return r, err
}

// routeMTU is that of a route, 0 if it has none.
func routeMTU(attrs map[uint16][]byte) (uint32, error) {
	metrics, err := attributes(attrs[unix.RTA_METRICS])
	if mtu := metrics[unix.RTAX_MTU]; len(mtu) == 4 {
		return binary.NativeEndian.Uint32(mtu), err
	}
	return 0, err
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
