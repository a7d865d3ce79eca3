//go:build linux

package ifcfg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sixin4/tun/nstest"
)

func routed(t *testing.T) *nstest.Topology {
	t.Helper()
	nstest.Need(t)
	top, err := nstest.Routed()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { top.Close() })
	return top
}

func TestRouteTo(t *testing.T) {
	top := routed(t)
	for _, err := range []error{
		top.A.AddAddr("a0", "2001:db8::1/64"),
		top.A.AddRoute("2001:db8:1::/64", "2001:db8::2"),
		top.A.SetMTU("a0", 1400),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	inside(t, top.A, func() {
		i := must[*Interface](t)(ByName("a0"))
		lo := must[*Interface](t)(ByName("lo"))
		addMTURoute(t, "203.0.113.0/24", "192.0.2.254", 1300)
		for _, tc := range []struct {
			name, to string
			want     Route
		}{
			{"on the link", "192.0.2.7", Route{Interface: "a0", Index: i.Index, MTU: 1400, LinkMTU: 1400, Source: addr("192.0.2.1")}},
			{"through a gateway", "198.51.100.2", Route{Interface: "a0", Index: i.Index, MTU: 1400, LinkMTU: 1400, Source: addr("192.0.2.1"), Gateway: addr("192.0.2.254")}},
			{"written as IPv6", "::ffff:192.0.2.7", Route{Interface: "a0", Index: i.Index, MTU: 1400, LinkMTU: 1400, Source: addr("192.0.2.1")}},
			{"route with an MTU", "203.0.113.9", Route{Interface: "a0", Index: i.Index, MTU: 1300, LinkMTU: 1400, Source: addr("192.0.2.1"), Gateway: addr("192.0.2.254")}},
			{"IPv6", "2001:db8:1::9", Route{Interface: "a0", Index: i.Index, MTU: 1400, LinkMTU: 1400, Source: addr("2001:db8::1"), Gateway: addr("2001:db8::2")}},
			{"our own address", "192.0.2.1", Route{Interface: "lo", Index: lo.Index, MTU: 65536, LinkMTU: 65536, Source: addr("192.0.2.1"), Local: true}},
		} {
			got, err := RouteTo(addr(tc.to))
			if err != nil || got != tc.want {
				t.Errorf("%s: %+v, %v; want %+v", tc.name, got, err, tc.want)
			}
		}
	})
}

func addMTURoute(t *testing.T, dst, via string, mtu int) {
	t.Helper()
	err := netlink.RouteAdd(&netlink.Route{Dst: ipNet(prefix(dst)), Gw: addr(via).AsSlice(), MTU: mtu})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRouteToKnowsThePath lets the kernel learn a path MTU and expects it.
func TestRouteToKnowsThePath(t *testing.T) {
	top := routed(t)
	if err := top.R.SetMTU(nstest.LinkRB, 1350); err != nil {
		t.Fatal(err)
	}
	inside(t, top.A, func() {
		conn := must[net.Conn](t)(net.Dial("udp4", top.AddrB.String()+":9")).(*net.UDPConn)
		defer conn.Close()
		raw := must[syscall.RawConn](t)(conn.SyscallConn())
		err := raw.Control(func(fd uintptr) {
			if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO); err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(make([]byte, 1400)); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.EMSGSIZE) {
			t.Fatalf("%v, want the router's fragmentation needed as EMSGSIZE", err)
		}
		route, err := RouteTo(top.AddrB)
		if err != nil || route.MTU != 1350 {
			t.Errorf("%+v, %v; want MTU 1350", route, err)
		}
		if mtu := route.FixedMTU(); mtu != 1500 {
			t.Errorf("MTU without what was learned: %d, want 1500", mtu)
		}
		dst := &netlink.Route{Dst: ipNet(prefix("203.0.113.0/24")), Gw: net.IPv4(192, 0, 2, 254), MTU: 1400}
		if err := netlink.RouteAdd(dst); err != nil {
			t.Fatal(err)
		}
		if route, err := RouteTo(netip.MustParseAddr("203.0.113.1")); err != nil || route.MTU != 1400 || route.FixedMTU() != 1400 {
			t.Errorf("%+v, %v; want MTU 1400 of the route", route, err)
		}
	})
}

func TestRouteToErrors(t *testing.T) {
	inNew(t, func(ns *nstest.NS) {
		for i, kind := range []int{unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT, unix.RTN_BLACKHOLE} {
			dst := fmt.Sprintf("198.51.100.%d/32", i)
			if err := netlink.RouteAdd(&netlink.Route{Dst: ipNet(prefix(dst)), Type: kind}); err != nil {
				t.Fatal(err)
			}
		}
		if err := ns.AddAddr("lo", "192.0.2.1/24"); err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			name  string
			to    netip.Addr
			cause error
			want  string
		}{
			{"no route", addr("203.0.113.1"), unix.ENETUNREACH, "look up route to 203.0.113.1: network is unreachable: no route matches; is the IPv4 network up, with a default route?"},
			{"no IPv6 route", addr("2001:db8::1"), unix.ENETUNREACH, "look up route to 2001:db8::1: network is unreachable: no route matches; is the IPv6 network up, with a default route?"},
			{"unreachable", addr("198.51.100.0"), unix.EHOSTUNREACH, "look up route to 198.51.100.0: no route to host: a route of type unreachable matches"},
			{"prohibit", addr("198.51.100.1"), unix.EACCES, "look up route to 198.51.100.1: permission denied: a route of type prohibit matches"},
			{"blackhole", addr("198.51.100.2"), unix.EINVAL, "look up route to 198.51.100.2: invalid argument: a route of type blackhole matches"},
			{"broadcast", addr("127.255.255.255"), unix.EADDRNOTAVAIL, "look up route to 127.255.255.255: cannot assign requested address: it is not the address of one host"},
			{"none", netip.Addr{}, nil, "look up route: invalid IP is not the address of a host"},
			{"multicast", addr("224.0.0.1"), nil, "look up route: 224.0.0.1 is not the address of a host"},
			{"unspecified", addr("0.0.0.0"), nil, "look up route: 0.0.0.0 is not the address of a host"},
		} {
			_, err := RouteTo(tc.to)
			if errText(err) != tc.want || tc.cause != nil && !errors.Is(err, tc.cause) {
				t.Errorf("%s: %v\nwant %s", tc.name, err, tc.want)
			}
		}
	})
}

func TestHostPrefixes(t *testing.T) {
	a, b := nstest.Open(t), nstest.Open(t)
	if err := nstest.Link(a, "a0", b, "b0"); err != nil {
		t.Fatal(err)
	}
	inside(t, a, func() {
		i, _ := newTUN(t, "t0")
		must[Undo](t)(i.Up())
		must[Undo](t)(i.AddAddress(prefix("2001:db8:ffff::1/64")))
		lan := must[*Interface](t)(ByName("a0"))
		for _, s := range []string{
			"2001:db8:2::1/64", "2001:db8:2::2/64", "2001:db8:1::1/128", "fd00:1::1/48", "fe80::1/64", "192.0.2.1/24",
		} {
			must[Undo](t)(lan.AddAddress(prefix(s)))
		}
		withPeer := &netlink.Addr{IPNet: ipNet(prefix("2001:db8:3::1/128")), Peer: ipNet(prefix("2001:db8:4::2/64"))}
		if err := netlink.AddrAdd(lan.link(), withPeer); err != nil {
			t.Fatal(err)
		}
		got, err := HostPrefixes(i.Index)
		want := []netip.Prefix{
			prefix("2001:db8:1::1/128"), prefix("2001:db8:2::/64"), prefix("2001:db8:3::1/128"),
			prefix("2001:db8:4::/64"), prefix("fd00:1::/48"),
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v, %v\nwant %v", got, err, want)
		}
		all, err := HostPrefixes(0)
		if err != nil || !slices.Contains(all, prefix("2001:db8:ffff::/64")) {
			t.Errorf("with no exception: %v, %v; want the tunnel's too", all, err)
		}
	})
}

// TestHostAddresses: what is for this host, whichever interface it comes in by.
func TestHostAddresses(t *testing.T) {
	a, b := nstest.Open(t), nstest.Open(t)
	if err := nstest.Link(a, "a0", b, "b0"); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"accept_dad", "dad_transmits"} {
		if err := a.Sysctl("net/ipv6/conf/a0/"+key, "1"); err != nil {
			t.Fatal(err)
		}
	}
	inside(t, a, func() {
		i, _ := newTUN(t, "t0")
		must[Undo](t)(i.Up())
		must[Undo](t)(i.AddAddress(prefix("2001:db8:ffff::1/64")))
		lan := must[*Interface](t)(ByName("a0"))
		for _, s := range []string{"2001:db8:2::1/64", "2001:db8:1::1/128", "fe80::1/64", "192.0.2.1/24"} {
			must[Undo](t)(lan.AddAddress(prefix(s)))
		}
		asked := &netlink.Addr{IPNet: ipNet(prefix("2001:db8:2::2/64"))} // whether somebody else has it
		if err := netlink.AddrAdd(lan.link(), asked); err != nil {
			t.Fatal(err)
		}
		got, err := HostAddresses(i.Index)
		want := []netip.Addr{netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("2001:db8:2::1")}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v\nwant %v", got, err, want)
		}
	})
}

func TestNames(t *testing.T) {
	inNew(t, func(*nstest.NS) {
		newTUN(t, "six-0")
		newTUN(t, "six-1")
		newTUN(t, "six-3")
		if name, err := FreeName("six-", nil); err != nil || name != "six-2" {
			t.Errorf("%q, %v; want six-2", name, err)
		}
		third := func(name string) bool { return name == "six-2" }
		if name, err := FreeName("six-", third); err != nil || name != "six-4" {
			t.Errorf("free name %q, %v; want six-4 when six-2 is taken otherwise", name, err)
		}
		if _, err := FreeName("a-very-long-name", nil); err == nil || !strings.Contains(err.Error(), "at most 15") {
			t.Errorf("long base: %v, want the limit", err)
		}
		for name, want := range map[string]bool{"six-0": true, "six-2": false, "lo": true} {
			if got, err := Exists(name); err != nil || got != want {
				t.Errorf("%s exists: %t, %v; want %t", name, got, err, want)
			}
		}
		if _, err := ByName("six-2"); !errors.Is(err, unix.ENODEV) || err.Error() != "find interface six-2: no such device" {
			t.Errorf("ByName: %v", err)
		}
	})
}

// TestWatch waits for a call for each kind of change.
func TestWatch(t *testing.T) {
	ns := nstest.Open(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	calls := make(chan struct{}, 100)
	result := make(chan error, 1)
	go func() {
		result <- ns.Do(func() error { return Watch(ctx, func() { calls <- struct{}{} }) })
	}()
	await := func(what string) {
		t.Helper()
		select {
		case <-calls:
		case err := <-result:
			t.Fatalf("%s: Watch ended: %v", what, err)
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: no call", what)
		}
	}
	await("beginning")
	inside(t, ns, func() {
		i, _ := newTUN(t, "t0")
		await("new link")
		must[Undo](t)(i.SetMTU(1400))
		await("MTU")
		must[Undo](t)(i.Up())
		await("up")
		for _, p := range []string{"2001:db8::1/64", "192.0.2.1/24"} {
			must[Undo](t)(i.AddAddress(prefix(p)))
			await("address " + p)
		}
		for _, p := range []string{"2001:db8:1::/64", "198.51.100.0/24"} {
			must[Undo](t)(i.AddRoute(prefix(p)))
			await("route " + p)
		}
	})
	cancel()
	if err := <-result; err != nil {
		t.Errorf("Watch returned %v on cancel", err)
	}
}

func TestWatchCollects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		changed, failed := make(chan struct{}, 1), make(chan error, 1)
		var calls atomic.Int32
		result := make(chan error, 1)
		go func() { result <- deliver(ctx, func() { calls.Add(1) }, changed, failed) }()
		expect := func(when string, want int32) {
			t.Helper()
			synctest.Wait()
			if got := calls.Load(); got != want {
				t.Errorf("%s: %d calls, want %d", when, got, want)
			}
		}
		for range 10 {
			select {
			case changed <- struct{}{}:
			default:
			}
			synctest.Wait()
		}
		expect("ten changes at once", 0)
		<-time.After(settle)
		expect("after the time to settle", 1)
		<-time.After(10 * settle)
		expect("without another change", 1)
		changed <- struct{}{}
		<-time.After(settle)
		expect("after another change", 2)
		changed <- struct{}{}
		synctest.Wait()
		cancel()
		if err := <-result; err != nil {
			t.Errorf("cancelled: %v", err)
		}
		expect("cancelled while settling", 2)
	})
}

func TestWatchFails(t *testing.T) {
	failed := make(chan error, 1)
	failed <- io.ErrUnexpectedEOF
	err := deliver(t.Context(), func() {}, nil, failed)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v, want the error of the socket", err)
	}
}
