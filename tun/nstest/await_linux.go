package nstest

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// awaitLimit bounds the wait for the kernel's workers, which take milliseconds.
const awaitLimit = 5 * time.Second

// await makes a change that the kernel finishes a little later, in a worker, and
// returns when it is ready. The kernel's messages to group, of rtnetlink, say
// when to look again.
func await(group uint, change func() error, ready func() (bool, error)) error {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, group)
	if err != nil {
		return fmt.Errorf("watch the kernel: %w", err)
	}
	defer socket.Close()
	timeout := unix.NsecToTimeval(awaitLimit.Nanoseconds())
	if err := socket.SetReceiveTimeout(&timeout); err != nil {
		return fmt.Errorf("watch the kernel: %w", err)
	}
	if err := change(); err != nil {
		return err
	}
	for until := time.Now().Add(awaitLimit); time.Now().Before(until); {
		if done, err := ready(); done || err != nil {
			return err
		}
		_, _, err := socket.Receive()
		if err != nil && !errors.Is(err, unix.ENOBUFS) { // that is: more than it could hold
			return fmt.Errorf("wait for the kernel: %w", err)
		}
	}
	return fmt.Errorf("wait for the kernel: %w", unix.ETIMEDOUT)
}

// setLinkUp waits until a link that has a carrier also sends: until then the
// kernel throws away what is sent. (Linux 6.18 finishes this when it is asked
// about the link; older ones take their time.)
func setLinkUp(l netlink.Link) error {
	index := l.Attrs().Index
	return await(unix.RTNLGRP_LINK, func() error { return netlink.LinkSetUp(l) }, func() (bool, error) {
		now, err := netlink.LinkByIndex(index)
		if err != nil {
			return false, err
		}
		state := now.Attrs().OperState // unknown for lo and TUN, for ever
		carrier := now.Attrs().RawFlags&unix.IFF_LOWER_UP != 0
		return !carrier || state == netlink.OperUp || state == netlink.OperUnknown, nil
	})
}

// addLinkAddr waits until packets to an IPv6 address are delivered, which the
// kernel does a little after it accepted the address. On a link that is down it
// never does.
func addLinkAddr(l netlink.Link, addr *netlink.Addr) error {
	add := func() error { return netlink.AddrAdd(l, addr) }
	if addr.IP.To4() != nil || l.Attrs().RawFlags&unix.IFF_UP == 0 {
		return add()
	}
	return await(unix.RTNLGRP_IPV6_ROUTE, add, func() (bool, error) {
		routes, err := netlink.RouteGet(addr.IP)
		return err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL, nil
	})
}
