//go:build linux

package ifcfg

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sixin4/tun/nstest"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		os.Exit(runChild(role))
	}
	nstest.Main(m)
}

// inside runs fn in the namespace ns.
func inside(t *testing.T, ns *nstest.NS, fn func()) {
	t.Helper()
	if err := ns.Do(func() error { fn(); return nil }); err != nil {
		t.Fatal(err)
	}
}

// inNew runs fn in a new namespace.
func inNew(t *testing.T, fn func(ns *nstest.NS)) {
	t.Helper()
	ns := nstest.Open(t)
	inside(t, ns, func() { fn(ns) })
}

// newTUN makes a TUN device, down and without addresses, that lives until the
// returned function is called or the test ends.
func newTUN(t *testing.T, name string) (i *Interface, remove func()) {
	t.Helper()
	fd, err := openTUN(name)
	if err != nil {
		t.Fatalf("make TUN device %s: %v", name, err)
	}
	closed := once(func() error { return unix.Close(fd) })
	remove = func() { _ = closed() } // never fails for a valid descriptor
	t.Cleanup(remove)
	if i, err = ByName(name); err != nil {
		t.Fatal(err)
	}
	return i, remove
}

func openTUN(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// look describes everything that this package can change about the namespace:
// links, addresses and the routes of all tables.
func look(t *testing.T) string {
	t.Helper()
	var lines []string
	links, err := dump(netlink.LinkList)
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		a := link.Attrs()
		i := &Interface{Name: a.Name, Index: a.Index}
		mode, _ := i.addrGenMode() // 0 where there is no IPv6
		off, _ := i.readConf("disable_ipv6")
		lines = append(lines, fmt.Sprintf("link %s up=%t mtu=%d qlen=%d genmode=%d disabled=%d",
			a.Name, a.Flags&net.FlagUp != 0, a.MTU, a.TxQLen, mode, off))
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		lines = append(lines, fmt.Sprintf("addr %d %s peer %v scope %d", a.LinkIndex, a.IPNet, a.Peer, a.Scope))
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := dump(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			lines = append(lines, fmt.Sprintf("route %s table %d proto %d metric %d", r, r.Table, r.Protocol, r.Priority))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// must is for what a test needs before it begins.
func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
