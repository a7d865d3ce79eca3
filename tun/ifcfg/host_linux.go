package ifcfg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func routeTo(dst netip.Addr, by string) (Route, error) {
	fail := func(err error) (Route, error) {
		return Route{}, fmt.Errorf("look up route to %s%s: %w", dst, through(by), plain(err))
	}
	found, err := netlink.RouteGetWithOptions(dst.AsSlice(), &netlink.RouteGetOptions{Oif: by})
	if err != nil {
		return fail(explainNoRoute(dst, err))
	}
	if len(found) == 0 {
		return fail(explainNoRoute(dst, unix.ENETUNREACH))
	}
	r := found[0]
	if r.Type != unix.RTN_UNICAST && r.Type != unix.RTN_LOCAL {
		return fail(fmt.Errorf("%w: it is not the address of one host", unix.EADDRNOTAVAIL))
	}
	link, err := netlink.LinkByIndex(r.LinkIndex)
	if err != nil {
		return fail(err)
	}
	route := newRoute(r, link.Attrs())
	if r.MTU > 0 {
		if mtu := fixedMTU(dst, by, route); mtu != route.MTU {
			route.fixed = mtu
		}
	}
	return route, nil
}

// fixedMTU asks for the route as it is set. It keeps what was learned when there is no
// telling.
func fixedMTU(dst netip.Addr, by string, now Route) int {
	found, err := netlink.RouteGetWithOptions(dst.AsSlice(), &netlink.RouteGetOptions{Oif: by, FIBMatch: true})
	switch {
	case err != nil || len(found) == 0:
		return now.MTU
	case found[0].MTU > 0:
		return found[0].MTU
	}
	return now.LinkMTU
}

// through says in an error by which interface, if that was asked for.
func through(link string) string {
	if link == "" {
		return ""
	}
	return " by interface " + link
}

func newRoute(r netlink.Route, link *netlink.LinkAttrs) Route {
	route := Route{
		Interface: link.Name,
		Index:     link.Index,
		MTU:       link.MTU,
		LinkMTU:   link.MTU,
		Source:    addrFrom(r.Src),
		Gateway:   addrFrom(r.Gw),
		Local:     r.Type == unix.RTN_LOCAL,
	}
	if r.MTU > 0 {
		route.MTU = r.MTU
	}
	if via, ok := r.Via.(*netlink.Via); ok { // an IPv4 route with an IPv6 gateway
		route.Gateway = addrFrom(via.Addr)
	}
	return route
}

// explainNoRoute tells apart why the kernel has no route: nothing matches, or
// somebody made a route that refuses.
func explainNoRoute(dst netip.Addr, err error) error {
	version := "IPv4"
	if dst.Is6() {
		version = "IPv6"
	}
	switch {
	case errors.Is(err, unix.ENETUNREACH):
		return fmt.Errorf("%w: no route matches; is the %s network up, with a default route?", err, version)
	case errors.Is(err, unix.EHOSTUNREACH):
		return fmt.Errorf("%w: a route of type unreachable matches", err)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: a route of type prohibit matches", err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: a route of type blackhole matches", err)
	}
	return err
}

// addrFrom returns the zero Addr for what is no address of an interface.
func addrFrom(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	if addr = addr.Unmap(); !addr.IsValid() || addr.IsUnspecified() {
		return netip.Addr{}
	}
	return addr
}

func (i *Interface) state() (up bool, addresses []netip.Prefix, err error) {
	now, err := i.attrs()
	if err != nil {
		return false, nil, err
	}
	list, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(i.link(), netlink.FAMILY_V6) })
	if err != nil {
		return false, nil, fmt.Errorf("list addresses of %s: %w", i.Name, plain(err))
	}
	for _, a := range list {
		bits, _ := a.Mask.Size()
		addresses = append(addresses, netip.PrefixFrom(addrFrom(a.IP), bits))
	}
	return now.Flags&net.FlagUp != 0, addresses, nil
}

func hasAddress(addr netip.Addr) (bool, error) {
	family := netlink.FAMILY_V4
	if addr.Is6() {
		family = netlink.FAMILY_V6
	}
	list, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, family) })
	if err != nil {
		return false, fmt.Errorf("list addresses: %w", plain(err))
	}
	return slices.ContainsFunc(list, func(a netlink.Addr) bool { return addrFrom(a.IP) == addr }), nil
}

func addresses() (all []netip.Addr, err error) {
	list, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", plain(err))
	}
	for _, a := range list {
		all = append(all, addrFrom(a.IP))
	}
	return all, nil
}

// globalAddresses are the IPv6 addresses of global scope, those of one interface excepted.
func globalAddresses(exceptIndex int) ([]netlink.Addr, error) {
	list, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V6) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", plain(err))
	}
	return slices.DeleteFunc(list, func(a netlink.Addr) bool {
		return a.LinkIndex == exceptIndex || a.Scope != int(netlink.SCOPE_UNIVERSE)
	}), nil
}

func hostPrefixes(exceptIndex int) ([]netip.Prefix, error) {
	addrs, err := globalAddresses(exceptIndex)
	if err != nil {
		return nil, err
	}
	var prefixes []netip.Prefix
	for _, a := range addrs {
		for _, n := range []*net.IPNet{a.IPNet, a.Peer} { // with a peer, its prefix is on the link
			if p, ok := prefixFrom(n); ok {
				prefixes = append(prefixes, p)
			}
		}
	}
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	return slices.Compact(prefixes), nil
}

func hostAddresses(exceptIndex int) (all []netip.Addr, err error) {
	if inVRF(exceptIndex) {
		return nil, nil
	}
	list, err := globalAddresses(exceptIndex)
	if err != nil {
		return nil, err
	}
	apart := make(map[int]bool)
	for _, a := range list {
		if a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 {
			continue
		}
		if _, known := apart[a.LinkIndex]; !known {
			apart[a.LinkIndex] = inVRF(a.LinkIndex)
		}
		if !apart[a.LinkIndex] {
			all = append(all, addrFrom(a.IP))
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all), nil
}

// inVRF reports whether an interface is part of a VRF, also when that cannot be found out.
func inVRF(index int) bool {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return true
	}
	if link.Attrs().MasterIndex == 0 {
		return false
	}
	master, err := netlink.LinkByIndex(link.Attrs().MasterIndex)
	return err != nil || master.Type() == "vrf"
}

func prefixFrom(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	p := netip.PrefixFrom(addr, bits).Masked()
	return p, ok && p.IsValid() && addr.IsGlobalUnicast()
}

// settle is how long changes are collected before Watch calls: a link that goes
// up brings addresses and routes with it.
const settle = 50 * time.Millisecond

func watch(ctx context.Context, fn func()) error {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return fmt.Errorf("watch network: %w", err)
	}
	closed := sync.OnceFunc(socket.Close)
	defer context.AfterFunc(ctx, closed)()

	changed := make(chan struct{}, 1)
	failed := make(chan error, 1)
	var reader sync.WaitGroup
	reader.Go(func() { failed <- receive(ctx, socket, changed) })
	defer reader.Wait()
	defer closed() // frees the reader
	fn()
	return deliver(ctx, fn, changed, failed)
}

// receive puts a mark into changed for whatever the kernel says, until the
// socket is closed.
func receive(ctx context.Context, socket *nl.NetlinkSocket, changed chan<- struct{}) error {
	for {
		_, _, err := socket.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, unix.ENOBUFS): // that is: more than it could hold
			return fmt.Errorf("watch network: %w", err)
		}
		select {
		case changed <- struct{}{}:
		default: // one mark is enough
		}
	}
}

// deliver calls fn once for all changes that come within the time to settle.
func deliver(ctx context.Context, fn func(), changed <-chan struct{}, failed <-chan error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-changed:
			select {
			case <-time.After(settle):
			case <-ctx.Done():
				return nil
			}
			select {
			case <-changed: // came meanwhile, and is covered by this call
			default:
			}
			fn()
		}
	}
}
