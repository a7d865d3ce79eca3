package ifcfg

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sixin4/tun/nstest"
)

const delegated = "2001:db8:f00::/48"

func TestUnreachable(t *testing.T) {
	inNew(t, func(*nstest.NS) {
		i, _ := newTUN(t, "t0")
		upWithoutLinkLocal(t, i)
		must[Undo](t)(i.AddRoute(prefix("::/0")))
		before := look(t)
		undo := must[Undo](t)(AddUnreachable(prefix(delegated)))
		if now := look(t); !strings.Contains(now, delegated) || !strings.Contains(now, "proto 41 metric 2147483647") {
			t.Errorf("no such route in\n%s", now)
		}
		for nth := range 2 {
			if err := undo(); err != nil {
				t.Errorf("undo %d: %v", nth, err)
			}
			if now := look(t); now != before {
				t.Errorf("after undo %d:\n%s\nbefore the change:\n%s", nth, now, before)
			}
		}
	})
}

// TestUnreachableGivesWay: it takes what nothing narrower takes, and nothing else.
func TestUnreachableGivesWay(t *testing.T) {
	inNew(t, func(*nstest.NS) {
		i, _ := newTUN(t, "t0")
		upWithoutLinkLocal(t, i)
		must[Undo](t)(i.AddRoute(prefix("::/0")))
		must[Undo](t)(i.AddRoute(prefix("2001:db8:f00:1::/64")))
		must[Undo](t)(AddUnreachable(prefix(delegated)))
		must[Undo](t)(AddUnreachable(prefix("2001:db8:a::/48")))
		must[Undo](t)(i.AddRoute(prefix("2001:db8:a::/48")))
		for _, tt := range []struct {
			name, to string
			refused  bool
		}{
			{"within", "2001:db8:f00:2::1", true},
			{"a narrower route", "2001:db8:f00:1::1", false},
			{"outside", "2001:db8:f01::1", false},
			{"another route to all of it", "2001:db8:a::1", false},
		} {
			if _, err := RouteTo(addr(tt.to)); errors.Is(err, unix.EHOSTUNREACH) != tt.refused {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
	})
}

// TestUnreachableAnswers sends a packet for a part of the prefix that no LAN has
// through the router, which must answer and not send it back.
func TestUnreachableAnswers(t *testing.T) {
	top := routed(t)
	for _, err := range []error{
		top.A.AddAddr("a0", "2001:db8::1/64"),
		top.A.AddRoute("::/0", "2001:db8::ff"),
		top.R.AddAddr(nstest.LinkRA, "2001:db8::ff/64"),
		top.R.AddRoute("::/0", "2001:db8::1"), // the way a loop would go
		top.R.Sysctl("net/ipv6/conf/all/forwarding", "1"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	inside(t, top.R, func() { must[Undo](t)(AddUnreachable(prefix(delegated))) })
	inside(t, top.A, func() {
		conn := must[net.Conn](t)(net.Dial("udp6", "[2001:db8:f00:2::1]:9"))
		defer conn.Close()
		tellErrors(t, conn.(*net.UDPConn))
		must[int](t)(conn.Write([]byte("hello")))
		must[any](t)(nil, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.ENETUNREACH) {
			t.Errorf("%v, want the router's destination unreachable", err)
		}
	})
}

// tellErrors makes reads fail for errors that the kernel takes for passing ones.
func tellErrors(t *testing.T, conn *net.UDPConn) {
	t.Helper()
	raw := must[syscall.RawConn](t)(conn.SyscallConn())
	var err error
	failed := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
	})
	if err = errors.Join(failed, err); err != nil {
		t.Fatal(err)
	}
}

// TestDeleteUnreachable is what the next start does after a SIGKILL.
func TestDeleteUnreachable(t *testing.T) {
	inNew(t, func(*nstest.NS) {
		i, _ := newTUN(t, "t0")
		upWithoutLinkLocal(t, i)
		must[Undo](t)(i.AddRoute(prefix("2001:db8:a::/48")))
		for _, r := range []*netlink.Route{ // of others: another origin, another metric
			{Dst: ipNet(prefix("2001:db8:b::/48")), Type: unix.RTN_UNREACHABLE, Protocol: unix.RTPROT_STATIC, Priority: unreachableMetric},
			{Dst: ipNet(prefix("2001:db8:c::/48")), Type: unix.RTN_UNREACHABLE, Protocol: RouteProtocol, Priority: 1024},
		} {
			must[any](t)(nil, netlink.RouteAdd(r))
		}
		before := look(t)
		undo := must[Undo](t)(AddUnreachable(prefix(delegated)))
		for _, p := range []string{delegated, delegated, "2001:db8:a::/48", "2001:db8:b::/48", "2001:db8:c::/48"} {
			if err := DeleteUnreachable(prefix(p)); err != nil {
				t.Errorf("delete %s: %v", p, err)
			}
			if now := look(t); now != before {
				t.Errorf("after deleting %s:\n%s\nbefore the change:\n%s", p, now, before)
			}
		}
		if err := undo(); err != nil {
			t.Errorf("undo of what is gone: %v", err)
		}
	})
}

func TestUnreachableErrors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		prefix netip.Prefix
		setup  func(*testing.T, *nstest.NS, *Interface)
		cause  error
		want   string
	}{
		{"IPv4", prefix("192.0.2.0/24"), nil, nil, "add unreachable route: 192.0.2.0/24 is not an IPv6 prefix"},
		{"everything", prefix("::/0"), nil, nil, "add unreachable route: ::/0 is everything"},
		{"nothing", netip.Prefix{}, nil, nil, "add unreachable route: not an address with a prefix length"},
		{"host bits", prefix("2001:db8::1/48"), nil, nil, "add unreachable route: 2001:db8::1/48 has bits set beyond its length: 2001:db8::/48 would be right"},
		{"twice", prefix(delegated), func(t *testing.T, _ *nstest.NS, _ *Interface) {
			must[Undo](t)(AddUnreachable(prefix(delegated)))
		}, unix.EEXIST, "add unreachable route 2001:db8:f00::/48: file exists: another tunnel has this prefix, or one that was killed left its route: ip -6 route del unreachable 2001:db8:f00::/48 metric 2147483647"},
		{"no privilege", prefix(delegated), dropNetAdmin, unix.EPERM,
			"add unreachable route 2001:db8:f00::/48: operation not permitted (needs CAP_NET_ADMIN: run as root; a container is run with --cap-add NET_ADMIN)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inNew(t, func(ns *nstest.NS) {
				if tt.setup != nil {
					tt.setup(t, ns, nil)
				}
				before := look(t)
				undo, err := AddUnreachable(tt.prefix)
				if errText(err) != tt.want || tt.cause != nil && !errors.Is(err, tt.cause) || undo != nil {
					t.Errorf("%v\nwant %s", err, tt.want)
				}
				if now := look(t); now != before {
					t.Errorf("the refused route changed something:\n%s\nbefore:\n%s", now, before)
				}
			})
		})
	}
	if err := DeleteUnreachable(prefix("192.0.2.0/24")); errText(err) != "delete unreachable route: 192.0.2.0/24 is not an IPv6 prefix" {
		t.Errorf("delete: %v", err)
	}
}
