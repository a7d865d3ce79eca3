package nstest

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func link(a *NS, aName string, b *NS, bName string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = aName
	err := b.withFD(func(fd int) error {
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: bName, PeerNamespace: netlink.NsFd(fd)}
		return a.Do(func() error { return netlink.LinkAdd(veth) })
	})
	if err != nil {
		return fmt.Errorf("add veth %s to %s: %w", aName, bName, err)
	}
	return inOrder(
		func() error { return a.SetUp(aName) },
		func() error { return b.SetUp(bName) },
		func() error { return a.SetUp(aName) }, // it has a carrier only now: wait
	)
}

// withLink runs fn inside the namespace with the named link.
func (ns *NS) withLink(op, name string, fn func(netlink.Link) error) error {
	return ns.Do(func() error {
		link, err := netlink.LinkByName(name)
		if err == nil {
			err = fn(link)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", op, name, err)
		}
		return nil
	})
}

func (ns *NS) setMTU(name string, mtu int) error {
	return ns.withLink(fmt.Sprintf("set MTU %d of", mtu), name, func(l netlink.Link) error {
		return netlink.LinkSetMTU(l, mtu)
	})
}

func (ns *NS) setUp(name string, up bool) error {
	if up {
		return ns.withLink("set up", name, setLinkUp)
	}
	return ns.withLink("set down", name, netlink.LinkSetDown)
}

func (ns *NS) delLink(name string) error {
	return ns.withLink("delete", name, netlink.LinkDel)
}

func (ns *NS) addAddr(name, prefix string) error {
	return ns.changeAddr("add", name, prefix, addLinkAddr)
}

func (ns *NS) delAddr(name, prefix string) error {
	return ns.changeAddr("delete", name, prefix, netlink.AddrDel)
}

func (ns *NS) changeAddr(op, name, prefix string, change func(netlink.Link, *netlink.Addr) error) error {
	p, err := netip.ParsePrefix(prefix)
	if err != nil {
		return fmt.Errorf("%s address: %w", op, err)
	}
	addr := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return ns.withLink(op+" address "+prefix+" of", name, func(l netlink.Link) error {
		return change(l, addr)
	})
}

func (ns *NS) addRoute(dst, via string) error {
	return ns.changeRoute("add", dst, via, netlink.RouteAdd)
}

func (ns *NS) delRoute(dst, via string) error {
	return ns.changeRoute("delete", dst, via, netlink.RouteDel)
}

func (ns *NS) changeRoute(op, dst, via string, change func(*netlink.Route) error) error {
	p, err := netip.ParsePrefix(dst)
	if err != nil {
		return fmt.Errorf("%s route: %w", op, err)
	}
	return ns.Do(func() error {
		route := &netlink.Route{Dst: ipNet(p)}
		if err := setNextHop(route, via); err != nil {
			return fmt.Errorf("%s route to %s: %w", op, dst, err)
		}
		if err := change(route); err != nil {
			return fmt.Errorf("%s route to %s via %s: %w", op, dst, via, err)
		}
		return nil
	})
}

// setNextHop makes via, an address or the name of a link, the route's next hop.
func setNextHop(route *netlink.Route, via string) error {
	if gateway, err := netip.ParseAddr(via); err == nil {
		route.Gw = gateway.AsSlice()
		return nil
	}
	link, err := netlink.LinkByName(via)
	if err != nil {
		return fmt.Errorf("find %s: %w", via, err)
	}
	route.LinkIndex = link.Attrs().Index
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (ns *NS) linkStats(name string) (Stats, error) {
	var stats Stats
	err := ns.withLink("read counters of", name, func(l netlink.Link) error {
		s := l.Attrs().Statistics
		if s == nil {
			return fmt.Errorf("none given: %w", unix.ENODATA)
		}
		stats = Stats{
			RxPackets: s.RxPackets, TxPackets: s.TxPackets,
			RxBytes: s.RxBytes, TxBytes: s.TxBytes,
			RxErrors: s.RxErrors, TxErrors: s.TxErrors,
			RxDropped: s.RxDropped, TxDropped: s.TxDropped,
		}
		return nil
	})
	return stats, err
}
