package ifcfg

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func (i *Interface) addAddress(p netip.Prefix) (Undo, error) {
	change := func() error { return netlink.AddrAdd(i.link(), &netlink.Addr{IPNet: ipNet(p)}) }
	if p.Addr().Is6() {
		change = func() error { return i.addAddress6(p) }
	}
	if err := change(); err != nil {
		return nil, explain(fmt.Sprintf("add address %s to %s", p, i.Name), i.explainAddress(p, err))
	}
	return i.undo("delete address "+p.String()+" of", func() error {
		return netlink.AddrDel(i.link(), &netlink.Addr{IPNet: ipNet(p)})
	}), nil
}

// addAddress6 adds p and waits until packets to it are delivered. The kernel
// accepts an IPv6 address first and makes its local route a little later, in a
// worker, even without duplicate address detection: what arrives between the
// two is lost.
func (i *Interface) addAddress6(p netip.Prefix) error {
	routes, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return fmt.Errorf("watch routes: %w", err)
	}
	defer routes.Close()
	add := &netlink.Addr{IPNet: ipNet(p), Flags: unix.IFA_F_NODAD}
	if err := netlink.AddrAdd(i.link(), add); err != nil {
		return err
	}
	if now, err := i.attrs(); err != nil || now.Flags&net.FlagUp == 0 {
		return nil // there will be no route before it is up
	}
	awaitLocal(routes, p.Addr())
	return nil
}

const (
	// localLimit bounds the wait for the kernel's worker, which takes milliseconds.
	localLimit = 2 * time.Second
	// localPoll is how often the route is looked for when nothing is told of it: once
	// in a while a busy host was seen to tell of the route before it was found.
	localPoll = 10 * time.Millisecond
)

// awaitLocal returns when the kernel delivers to addr. It gives up without an
// error: the address has been added, and not to know is no reason to undo that.
func awaitLocal(routes *nl.NetlinkSocket, addr netip.Addr) {
	timeout := unix.NsecToTimeval(localPoll.Nanoseconds())
	if routes.SetReceiveTimeout(&timeout) != nil {
		return
	}
	for until := time.Now().Add(localLimit); time.Now().Before(until); {
		found, err := netlink.RouteGet(addr.AsSlice())
		if err == nil && len(found) > 0 && found[0].Type == unix.RTN_LOCAL {
			return
		}
		_, _, err = routes.Receive()
		if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENOBUFS) { // nothing yet; more than it could hold
			return
		}
	}
}

// explainAddress knows what the kernel means by an error about an address.
func (i *Interface) explainAddress(p netip.Prefix, err error) error {
	switch {
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w: %s has it already", err, i.Name)
	case p.Addr().Is6() && errors.Is(err, unix.EACCES):
		return i.disabled(err)
	case p.Addr().Is6() && noIPv6(err):
		return i.explainNoIPv6(err)
	}
	return err
}
