//go:build linux

package ifcfg

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sixin4/tun/nstest"
)

const disabledText = "IPv6 is disabled on t0: sysctl net.ipv6.conf.all.disable_ipv6=0 (docker run --sysctl net.ipv6.conf.all.disable_ipv6=0)"

func TestErrors(t *testing.T) {
	for _, tc := range []struct {
		name  string
		setup func(t *testing.T, ns *nstest.NS, i *Interface)
		call  func(*Interface) (Undo, error)
		cause error
		want  string
	}{
		{"address twice", nil, func(i *Interface) (Undo, error) {
			_, _ = i.AddAddress(prefix("2001:db8::2/64"))
			return i.AddAddress(prefix("2001:db8::2/64"))
		}, unix.EEXIST, "add address 2001:db8::2/64 to t0: file exists: t0 has it already"},
		{"IPv6 disabled", disable, func(i *Interface) (Undo, error) { return i.AddAddress(prefix("2001:db8::2/64")) },
			unix.EACCES, "add address 2001:db8::2/64 to t0: permission denied: " + disabledText},
		{"MTU of the device too small for IPv6", smallMTU, func(i *Interface) (Undo, error) { return i.NoAutoLinkLocal() },
			unix.EAFNOSUPPORT, "turn off automatic link-local address of t0: address family not supported by protocol: t0 has no IPv6, because its MTU 1000 is under 1280"},
		{"MTU too small", nil, func(i *Interface) (Undo, error) { return i.SetMTU(1279) },
			nil, "set MTU of t0: 1279: IPv6 needs at least 1280"},
		{"MTU too large", nil, func(i *Interface) (Undo, error) { return i.SetMTU(70000) },
			unix.EINVAL, "set MTU 70000 of t0: invalid argument"},
		{"queue length", nil, func(i *Interface) (Undo, error) { return i.SetTxQueueLen(-1) },
			nil, "set transmit queue length of t0: -1 is negative"},
		{"route of a down interface", nil, func(i *Interface) (Undo, error) { return i.AddRoute(prefix("::/0")) },
			unix.ENETDOWN, "add route ::/0 to t0: network is down: bring the interface up first"},
		{"IPv4 route of a down interface", nil, func(i *Interface) (Undo, error) { return i.AddRoute(prefix("198.51.100.0/24")) },
			unix.ENETDOWN, "add route 198.51.100.0/24 to t0: network is down: bring the interface up first"},
		{"route with host bits", nil, func(i *Interface) (Undo, error) { return i.AddRoute(prefix("2001:db8::1/64")) },
			nil, "add route to t0: 2001:db8::1/64 has bits set beyond its length: 2001:db8::/64 would be right"},
		{"no route", nil, func(i *Interface) (Undo, error) { return i.AddRoute(netip.Prefix{}) },
			nil, "add route to t0: not an address with a prefix length"},
		{"mapped route", nil, func(i *Interface) (Undo, error) { return i.AddRoute(prefix("::ffff:0:0/96")) },
			nil, "add route to t0: ::ffff:0.0.0.0/96 is an IPv4 prefix written as IPv6"},
		{"route by way of no link-local address", nil, func(i *Interface) (Undo, error) {
			return i.AddRouteVia(prefix("2001:db8::/64"), netip.MustParseAddr("2001:db8::1"))
		}, nil, "add route to t0: gateway 2001:db8::1: an IPv6 route by way of a link-local IPv6 address belongs here"},
		{"IPv4 route by way of an IPv6 address", nil, func(i *Interface) (Undo, error) {
			return i.AddRouteVia(prefix("198.51.100.0/24"), netip.MustParseAddr("fe80::1"))
		}, nil, "add route to t0: gateway fe80::1: an IPv6 route by way of a link-local IPv6 address belongs here"},
		{"no address", nil, func(i *Interface) (Undo, error) { return i.AddAddress(netip.Prefix{}) },
			nil, "add address to t0: not an address with a prefix length"},
		{"mapped address", nil, func(i *Interface) (Undo, error) { return i.AddAddress(prefix("::ffff:192.0.2.1/96")) },
			nil, "add address to t0: ::ffff:192.0.2.1/96 is an IPv4 address written as IPv6"},
		{"unspecified address", nil, func(i *Interface) (Undo, error) { return i.AddAddress(prefix("::/64")) },
			nil, "add address to t0: ::/64 is not the address of a host"},
		{"multicast address", nil, func(i *Interface) (Undo, error) { return i.AddAddress(prefix("ff02::1/64")) },
			nil, "add address to t0: ff02::1/64 is not the address of a host"},
		{"no privilege", dropNetAdmin, func(i *Interface) (Undo, error) { return i.SetMTU(1400) },
			unix.EPERM, "set MTU 1400 of t0: operation not permitted (needs CAP_NET_ADMIN: run as root; a container is run with --cap-add NET_ADMIN)"},
		{"IPv6 disabled, /proc/sys read-only", disableForGood, func(i *Interface) (Undo, error) { return i.EnableIPv6() },
			unix.EROFS, "enable IPv6 on t0: open /proc/sys/net/ipv6/conf/t0/disable_ipv6: read-only file system: " + disabledText},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inNew(t, func(ns *nstest.NS) {
				i, _ := newTUN(t, "t0")
				if tc.setup != nil {
					tc.setup(t, ns, i)
				}
				undo, err := tc.call(i)
				if err == nil || err.Error() != tc.want {
					t.Errorf("%v\nwant %s", err, tc.want)
				}
				if tc.cause != nil && !errors.Is(err, tc.cause) {
					t.Errorf("%v does not wrap %v", err, tc.cause)
				}
				if undo != nil {
					t.Error("an undo beside the error")
				}
			})
		})
	}
}

func disable(t *testing.T, ns *nstest.NS, _ *Interface) {
	t.Helper()
	if err := ns.Sysctl("net/ipv6/conf/all/disable_ipv6", "1"); err != nil {
		t.Fatal(err)
	}
}

func smallMTU(t *testing.T, ns *nstest.NS, _ *Interface) {
	t.Helper()
	if err := ns.SetMTU("t0", 1000); err != nil {
		t.Fatal(err)
	}
}

// disableForGood makes /proc/sys read-only for this thread, as a container's is.
func disableForGood(t *testing.T, ns *nstest.NS, i *Interface) {
	t.Helper()
	disable(t, ns, i)
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	err := errors.Join(
		unix.Unshare(unix.CLONE_NEWNS),
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND|unix.MS_REC, ""),
		unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""),
	)
	if err != nil {
		t.Fatal(err)
	}
}

// dropNetAdmin takes CAP_NET_ADMIN from the effective set of this thread for the
// duration of the test.
func dropNetAdmin(t *testing.T, _ *nstest.NS, _ *Interface) {
	t.Helper()
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		t.Fatal(err)
	}
	sets[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	if err := unix.Capset(&header, &sets[0]); err != nil {
		t.Fatal(err)
	}
}

// TestRouteOfSomebodyElse names the gateway of the route that is in the way, and
// leaves it alone.
func TestRouteOfSomebodyElse(t *testing.T) {
	a, b := nstest.Open(t), nstest.Open(t)
	for _, err := range []error{
		nstest.Link(a, "a0", b, "b0"),
		a.AddAddr("a0", "2001:db8::1/64"),
		a.AddRoute("::/0", "2001:db8::2"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	inside(t, a, func() {
		i, _ := newTUN(t, "t0")
		upWithoutLinkLocal(t, i)
		before := look(t)
		_, err := i.AddRoute(prefix("::/0"))
		const want = "add route ::/0 to t0: file exists: there is such a route already through a0 via 2001:db8::2 (protocol boot, metric 1024); remove it, or route narrower prefixes"
		if err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
		if now := look(t); now != before {
			t.Errorf("the refused route changed something:\n%s\nbefore:\n%s", now, before)
		}
	})
}

// TestEnableIPv6 turns IPv6 on for one interface of a host that has it off, and
// sends a datagram over it to prove that this is enough.
func TestEnableIPv6(t *testing.T) {
	a, b := nstest.Open(t), nstest.Open(t)
	disable(t, b, nil)
	for _, err := range []error{
		b.Sysctl("net/ipv6/conf/default/disable_ipv6", "1"),
		nstest.Link(a, "a0", b, "b0"),
		a.AddAddr("a0", "2001:db8::1/64"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var in *net.UDPConn
	inside(t, b, func() {
		i := must[*Interface](t)(ByName("b0"))
		before := look(t)
		undo := must[Undo](t)(i.EnableIPv6())
		address := must[Undo](t)(i.AddAddress(prefix("2001:db8::2/64")))
		in = must[*net.UDPConn](t)(net.ListenUDP("udp6", &net.UDPAddr{IP: net.ParseIP("2001:db8::2")}))
		defer in.Close()
		inside(t, a, func() { send(t, in.LocalAddr().String()) })
		if err := in.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Read(make([]byte, 10)); err != nil {
			t.Errorf("datagram: %v", err)
		}
		if err := errors.Join(address(), undo(), undo()); err != nil {
			t.Error(err)
		}
		if now := look(t); now != before {
			t.Errorf("after undo:\n%s\nbefore:\n%s", now, before)
		}
	})
}

func send(t *testing.T, to string) {
	t.Helper()
	conn, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Error(err)
	}
}

func TestCheckName(t *testing.T) {
	for _, tc := range []struct{ name, want string }{
		{"sixin4-0", ""},
		{"a", ""},
		{"exactly15bytes.", ""},
		{"zwölf", ""},
		{"", "is empty"},
		{"sixteen-bytes-xy", "has 16 bytes, at most 15 are possible"},
		{".", "is the name of a directory"},
		{"..", "is the name of a directory"},
		{"all", "stands for all interfaces in net.ipv6.conf"},
		{"default", "stands for all interfaces in net.ipv6.conf"},
		{"a/b", "the character '/' is not allowed"},
		{"a b", "the character ' ' is not allowed"},
		{"a:1", "the character ':' is not allowed"},
		{"tun%d", "the character '%' is not allowed"},
		{"a\x00b", `the character '\x00' is not allowed`},
		{"a\x1b[2J", `the character '\x1b' is not allowed`},
		{"à", `the character '\u00a0' is not allowed`},
	} {
		err := CheckName(tc.name)
		if got := errText(err); tc.want == "" && got != "" || !strings.HasSuffix(got, tc.want) {
			t.Errorf("%q: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestCheckNameAgainstKernel asks the kernel: what it does not call an interface
// by, CheckName refuses.
func TestCheckNameAgainstKernel(t *testing.T) {
	inNew(t, func(*nstest.NS) {
		i, _ := newTUN(t, "t0")
		names := []string{".", "..", "exactly15bytes."}
		for b := 1; b < 256; b++ {
			names = append(names, "a"+string([]byte{byte(b)})+"b")
		}
		refused := 0
		for _, name := range names {
			err := netlink.LinkSetName(i.link(), name)
			if now := must[*netlink.LinkAttrs](t)(i.attrs()); err != nil || now.Name != name {
				refused++
				if CheckName(name) == nil {
					t.Errorf("%q passes, but the kernel does not take it: %v", name, err)
				}
			}
		}
		if refused == 0 || refused == len(names) {
			t.Errorf("the kernel refused %d of %d names: this tested nothing", refused, len(names))
		}
		for _, name := range []string{"all", "default"} { // may be given, but not at birth
			if fd, err := openTUN(name); err == nil {
				unix.Close(fd)
				t.Errorf("the kernel makes an interface called %s", name)
			}
		}
	})
}
