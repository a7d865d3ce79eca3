//go:build linux

package ifcfg

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sixin4/tun/nstest"
)

// changes are all that can be made, each with what it must show in look.
var changes = []struct {
	name   string
	up     bool // the device is up before
	change func(*Interface) (Undo, error)
	shows  string
}{
	{"MTU", true, func(i *Interface) (Undo, error) { return i.SetMTU(1280) }, "link t0 up=true mtu=1280 "},
	{"up", false, func(i *Interface) (Undo, error) { return i.Up() }, "link t0 up=true "},
	{"queue length", true, func(i *Interface) (Undo, error) { return i.SetTxQueueLen(77) }, " qlen=77 "},
	{"no link-local address", false, func(i *Interface) (Undo, error) { return i.NoAutoLinkLocal() }, " genmode=1 "},
	{"address", true, func(i *Interface) (Undo, error) { return i.AddAddress(prefix("2001:db8::2/64")) }, " 2001:db8::2/64 "},
	{"address of a down device", false, func(i *Interface) (Undo, error) { return i.AddAddress(prefix("2001:db8::2/64")) }, " 2001:db8::2/64 "},
	{"address /128", true, func(i *Interface) (Undo, error) { return i.AddAddress(prefix("2001:db8::2/128")) }, " 2001:db8::2/128 "},
	{"link-local address", true, func(i *Interface) (Undo, error) { return i.AddAddress(prefix("fe80::c000:201/64")) }, " fe80::c000:201/64 peer <nil> scope 253"},
	{"IPv4 address", true, func(i *Interface) (Undo, error) { return i.AddAddress(prefix("192.0.2.1/24")) }, " 192.0.2.1/24 "},
	{"route", true, func(i *Interface) (Undo, error) { return i.AddRoute(prefix("2001:db8:1::/48")) }, "2001:db8:1::/48 "},
	{"default route", true, func(i *Interface) (Undo, error) { return i.AddRoute(prefix("::/0")) }, "Dst: ::/0 "},
	{"route via a neighbour", true, func(i *Interface) (Undo, error) {
		return i.AddRouteVia(prefix("2001:db8:1::/48"), netip.MustParseAddr("fe80::1"))
	}, "2001:db8:1::/48 Src: <nil> Gw: fe80::1 "},
	{"IPv4 route", true, func(i *Interface) (Undo, error) { return i.AddRoute(prefix("198.51.100.0/24")) }, "198.51.100.0/24 "},
}

// upWithoutLinkLocal brings i up without the address whose route the kernel
// would make a little later.
func upWithoutLinkLocal(t *testing.T, i *Interface) {
	t.Helper()
	must[Undo](t)(i.NoAutoLinkLocal())
	must[Undo](t)(i.Up())
}

func TestChangeAndUndo(t *testing.T) {
	for _, tc := range changes {
		t.Run(tc.name, func(t *testing.T) {
			inNew(t, func(*nstest.NS) {
				i, _ := newTUN(t, "t0")
				if tc.up {
					upWithoutLinkLocal(t, i)
				}
				before := look(t)
				undo, err := tc.change(i)
				if err != nil {
					t.Fatal(err)
				}
				if now := look(t); strings.Contains(before, tc.shows) || !strings.Contains(now, tc.shows) {
					t.Errorf("want %q after the change only\nbefore:\n%s\nafter:\n%s", tc.shows, before, now)
				}
				for _, nth := range []string{"first", "second"} {
					if err := undo(); err != nil {
						t.Errorf("%s undo: %v", nth, err)
					}
					if now := look(t); now != before {
						t.Errorf("after %s undo:\n%s\nbefore the change:\n%s", nth, now, before)
					}
				}
			})
		})
	}
}

// TestUndoWhenGone removes the interface between each change and its undo.
func TestUndoWhenGone(t *testing.T) {
	for _, tc := range changes {
		t.Run(tc.name, func(t *testing.T) {
			inNew(t, func(*nstest.NS) {
				before := look(t)
				i, remove := newTUN(t, "t0")
				if tc.up {
					upWithoutLinkLocal(t, i)
				}
				undo := must[Undo](t)(tc.change(i))
				remove()
				if err := undo(); err != nil {
					t.Errorf("undo without the interface: %v", err)
				}
				if now := look(t); now != before {
					t.Errorf("afterwards:\n%s\nbefore:\n%s", now, before)
				}
				if _, err := tc.change(i); !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "t0") {
					t.Errorf("change without the interface: %v, want no such device, naming t0", err)
				}
			})
		})
	}
}

// TestUndoWhenTakenBack lets somebody else take the change back first.
func TestUndoWhenTakenBack(t *testing.T) {
	inNew(t, func(*nstest.NS) {
		i, _ := newTUN(t, "t0")
		must[Undo](t)(i.Up())
		address := must[Undo](t)(i.AddAddress(prefix("2001:db8::2/64")))
		route := must[Undo](t)(i.AddRoute(prefix("2001:db8:1::/48")))
		if err := netlink.LinkSetDown(i.link()); err != nil { // takes both with it
			t.Fatal(err)
		}
		if err := errors.Join(route(), address()); err != nil {
			t.Error(err)
		}
	})
}

func TestStackHalfWay(t *testing.T) {
	inNew(t, func(*nstest.NS) {
		i, _ := newTUN(t, "t0")
		other, _ := newTUN(t, "other0")
		upWithoutLinkLocal(t, other)
		must[Undo](t)(other.AddRoute(prefix("::/0")))
		before := look(t)

		var stack Stack
		for _, step := range []func() (Undo, error){
			i.NoAutoLinkLocal,
			func() (Undo, error) { return i.SetMTU(1480) },
			i.Up,
			func() (Undo, error) { return i.SetMTU(1400) },
			func() (Undo, error) { return i.AddAddress(prefix("2001:db8::2/64")) },
			func() (Undo, error) { return i.AddRoute(prefix("2001:db8:1::/48")) },
		} {
			if err := stack.Keep(step()); err != nil {
				t.Fatal(err)
			}
		}
		err := stack.Keep(i.AddRoute(prefix("::/0")))
		const want = "add route ::/0 to t0: file exists: there is such a route already through other0 (protocol 41, metric 1024); remove it, or route narrower prefixes"
		if err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
		if err := stack.Undo(); err != nil {
			t.Error(err)
		}
		if now := look(t); now != before {
			t.Errorf("after undo:\n%s\nbefore:\n%s", now, before)
		}
	})
}

func TestStackOrderAndErrors(t *testing.T) {
	var stack Stack
	var order []string
	failing := true
	step := func(name string, err error) Undo {
		return func() error {
			order = append(order, name)
			if failing {
				return err
			}
			return nil
		}
	}
	stack.Push(step("first", io.EOF))
	stack.Push(nil)
	stack.Push(step("second", nil))
	stack.Push(step("third", io.ErrClosedPipe))
	if err := stack.Undo(); !errors.Is(err, io.EOF) || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("undo: %v, want both errors", err)
	}
	failing = false
	for range 2 {
		if err := stack.Undo(); err != nil {
			t.Errorf("undo again: %v", err)
		}
	}
	if got := strings.Join(order, " "); got != "third second first third first" {
		t.Errorf("order %s", got)
	}
}

// TestUndoLeavesWhatWasThere changes what is as wanted already.
func TestUndoLeavesWhatWasThere(t *testing.T) {
	inNew(t, func(*nstest.NS) {
		i, _ := newTUN(t, "t0")
		for _, change := range []func() (Undo, error){
			i.NoAutoLinkLocal, i.Up, i.EnableIPv6,
			func() (Undo, error) { return i.SetMTU(1500) },
		} {
			must[Undo](t)(change())
			before := look(t)
			if err := must[Undo](t)(change())(); err != nil {
				t.Error(err)
			}
			if now := look(t); now != before {
				t.Errorf("after doing again and undoing:\n%s\nbefore:\n%s", now, before)
			}
		}
	})
}

func TestNoAutoLinkLocal(t *testing.T) {
	inNew(t, func(*nstest.NS) {
		for name, off := range map[string]bool{"auto0": false, "none0": true} {
			i, _ := newTUN(t, name)
			if off {
				must[Undo](t)(i.NoAutoLinkLocal())
			}
			must[Undo](t)(i.Up())
			addrs, err := netlink.AddrList(i.link(), netlink.FAMILY_V6)
			if err != nil || (len(addrs) == 0) != off {
				t.Errorf("%s has addresses %v, %v", name, addrs, err)
			}
		}
	})
}

// TestAddressDelivers fails if an address is not local at once; without the wait
// that happens for a few in a hundred.
func TestAddressDelivers(t *testing.T) {
	inNew(t, func(*nstest.NS) {
		i, _ := newTUN(t, "t0")
		upWithoutLinkLocal(t, i)
		for n := range 300 {
			p := prefix(fmt.Sprintf("2001:db8::%x/64", n+1))
			must[Undo](t)(i.AddAddress(p))
			if route, err := RouteTo(p.Addr()); err != nil || !route.Local {
				t.Fatalf("address %s: %+v, %v; want a local one", p, route, err)
			}
		}
	})
}

// TestAddressAtOnce fails if the kernel first looks for a duplicate: a socket
// cannot be bound to a tentative address. DAD is on in this namespace.
func TestAddressAtOnce(t *testing.T) {
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
		i := must[*Interface](t)(ByName("a0"))
		must[Undo](t)(i.AddAddress(prefix("2001:db8::1/64")))
		conn, err := net.ListenPacket("udp6", "[2001:db8::1]:0")
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	})
}

// TestNoAutoConfig turns router advertisements off and on again.
func TestNoAutoConfig(t *testing.T) {
	ns := nstest.Open(t)
	must[any](t)(nil, ns.Do(func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "t0"}, PeerName: "t1"})
	}))
	inside(t, ns, func() {
		i := must[*Interface](t)(ByName("t0"))
		keys := []string{"accept_ra", "autoconf", "accept_redirects"}
		for _, key := range keys {
			if must[int](t)(i.readConf(key)) == 0 {
				t.Errorf("%s is off before", key)
			}
		}
		undo := must[Undo](t)(i.NoAutoConfig())
		for _, key := range keys {
			if must[int](t)(i.readConf(key)) != 0 {
				t.Errorf("%s is still on", key)
			}
		}
		must[any](t)(nil, undo())
		for _, key := range keys {
			if must[int](t)(i.readConf(key)) == 0 {
				t.Errorf("%s is off after the undo", key)
			}
		}
	})
}
