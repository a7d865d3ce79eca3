//go:build linux

package nstest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// exchange sends a datagram from one namespace to an address in another and
// waits for it there.
func exchange(t *testing.T, from, to *NS, address string) {
	t.Helper()
	var in, out *net.UDPConn
	err := inOrder(
		func() error {
			return to.Do(func() (err error) {
				in, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(address)})
				return err
			})
		},
		func() error {
			return from.Do(func() (err error) {
				out, err = net.DialUDP("udp", nil, in.LocalAddr().(*net.UDPAddr))
				return err
			})
		},
		func() error { return in.SetDeadline(time.Now().Add(5 * time.Second)) },
		func() error { _, err := out.Write([]byte("hello")); return err },
		func() error { _, err := in.Read(make([]byte, 16)); return err },
	)
	for _, conn := range []*net.UDPConn{in, out} {
		if conn != nil {
			conn.Close()
		}
	}
	if err != nil {
		t.Errorf("datagram to %s: %v", address, err)
	}
}

func TestTopologies(t *testing.T) {
	Need(t)
	for name, build := range map[string]func() (*Topology, error){"pair": Pair, "routed": Routed} {
		t.Run(name, func(t *testing.T) {
			top, err := build()
			if err != nil {
				t.Fatal(err)
			}
			defer top.Close()
			exchange(t, top.A, top.B, top.AddrB.String())
			exchange(t, top.B, top.A, top.AddrA.String())
			if err := errors.Join(top.Close(), top.Close()); err != nil {
				t.Errorf("close twice: %v", err)
			}
		})
	}
}

// TestIPv6AtOnce fails if an address has to wait for duplicate address
// detection: a socket cannot be bound to a tentative address.
func TestIPv6AtOnce(t *testing.T) {
	a, b := Open(t), Open(t)
	err := inOrder(
		func() error { return Link(a, "a0", b, "b0") },
		func() error { return a.AddAddr("a0", "2001:db8::1/64") },
		func() error { return b.AddAddr("b0", "2001:db8::2/64") },
		func() error { return b.AddAddr("lo", "2001:db8:1::1/128") },
		func() error { return a.AddRoute("2001:db8:1::/64", "2001:db8::2") },
		func() error { return a.AddRoute("2001:db8:2::/64", "a0") },
	)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, a, b, "2001:db8::2")
	exchange(t, a, b, "2001:db8:1::1")
	if err := a.DelRoute("2001:db8:1::/64", "2001:db8::2"); err != nil {
		t.Error(err)
	}
	err = a.Do(func() error {
		_, err := net.Dial("udp", "[2001:db8:1::1]:1")
		return err
	})
	if !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("dial after DelRoute: %v, want network unreachable", err)
	}
}

func TestLinkChanges(t *testing.T) {
	a, b := Open(t), Open(t)
	if err := Link(a, "a0", b, "b0"); err != nil {
		t.Fatal(err)
	}
	err := inOrder(
		func() error { return a.SetMTU("a0", 1300) },
		func() error { return a.AddAddr("a0", "192.0.2.1/24") },
		func() error { return a.DelAddr("a0", "192.0.2.1/24") },
		func() error { return a.SetDown("a0") },
	)
	if err != nil {
		t.Fatal(err)
	}
	var attrs *netlink.LinkAttrs
	var addrs []netlink.Addr
	err = a.withLink("look at", "a0", func(l netlink.Link) (err error) {
		attrs = l.Attrs()
		addrs, err = netlink.AddrList(l, netlink.FAMILY_V4)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if attrs.MTU != 1300 || attrs.Flags&net.FlagUp != 0 || len(addrs) != 0 {
		t.Errorf("MTU %d, flags %v, addresses %v; want 1300, down, none", attrs.MTU, attrs.Flags, addrs)
	}
	if err := a.DelLink("a0"); err != nil {
		t.Error(err)
	}
	if err := b.SetUp("b0"); err == nil || !strings.Contains(err.Error(), "b0") {
		t.Errorf("the other end after DelLink: %v, want an error that names it", err)
	}
}

func TestLinkStats(t *testing.T) {
	top := pair(t)
	before, err := top.A.LinkStats(top.LinkA)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, top.A, top.B, top.AddrB.String())
	after, err := top.A.LinkStats(top.LinkA)
	if err != nil {
		t.Fatal(err)
	}
	if after.TxPackets <= before.TxPackets || after.TxBytes < before.TxBytes+5 {
		t.Errorf("counters %+v after a datagram, %+v before", after, before)
	}
	if _, err := top.A.LinkStats("none0"); err == nil || !strings.Contains(err.Error(), "none0") {
		t.Errorf("counters of a link that does not exist: %v", err)
	}
}

func pair(t *testing.T) *Topology {
	t.Helper()
	Need(t)
	top, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { top.Close() })
	return top
}

func TestSetFeature(t *testing.T) {
	top := pair(t)
	for _, tc := range []struct {
		name  string
		shows []string // the kernel's names of it
	}{
		{"gro", []string{"rx-gro"}},
		{"gso", []string{"tx-generic-segmentation"}},
		{"tso", []string{"tx-tcp-segmentation", "tx-tcp6-segmentation"}},
		{"rx-udp-gro-forwarding", []string{"rx-udp-gro-forwarding"}},
		{"rx-gro-list", []string{"rx-gro-list"}},
		{"tx-udp-segmentation", []string{"tx-udp-segmentation"}},
		{"tx-checksum-ip-generic", []string{"tx-checksum-ip-generic"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// Off comes last but one, so that what depends on it is on again.
			for _, on := range []bool{true, false, true} {
				if err := top.A.SetFeature(top.LinkA, tc.name, on); err != nil {
					t.Fatal(err)
				}
				active, err := top.A.Features(top.LinkA)
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range tc.shows {
					if got, known := active[name]; !known || got != on {
						t.Errorf("%s is %t (known: %t) after %s=%t", name, got, known, tc.name, on)
					}
				}
			}
		})
	}
}

func TestSetFeatureErrors(t *testing.T) {
	top := pair(t)
	for _, tc := range []struct {
		name, link, feature string
		cause               error
		says                string
	}{
		{"unknown feature", top.LinkA, "rx-magic", unix.EOPNOTSUPP, "rx-magic"},
		{"fixed feature", top.LinkA, "rx-fcs", unix.EOPNOTSUPP, "rx-fcs is still false"},
		{"no such link", "none0", "gro", unix.ENODEV, "none0"},
		{"name too long", "a-name-of-16-byt", "gro", unix.ENODEV, "a-name-of-16-byt"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := top.A.SetFeature(tc.link, tc.feature, true)
			if !errors.Is(err, tc.cause) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v; want %v and the words %q", err, tc.cause, tc.says)
			}
		})
	}
}

func TestSetGRODefer(t *testing.T) {
	NeedMachine(t)
	top := pair(t)
	if err := top.A.SetGRODefer(top.LinkA, 100000, 10); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]int{"gro_flush_timeout": 100000, "napi_defer_hard_irqs": 10} {
		if got := readSysfs(t, top.A, "class/net/a0/"+file); got != want {
			t.Errorf("%s of a0 is %d, want %d", file, got, want)
		}
		if got := readSysfs(t, top.B, "class/net/b0/"+file); got == want {
			t.Errorf("%s of b0 is %d too", file, got)
		}
	}
	if err := top.A.SetGRODefer("b0", 1, 1); !errors.Is(err, unix.ENOENT) {
		t.Errorf("link of another namespace: %v, want not exist", err)
	}
}

func readSysfs(t *testing.T, ns *NS, path string) (value int) {
	t.Helper()
	err := ns.Do(func() error {
		tree, err := openSysfs()
		if err != nil {
			return err
		}
		defer unix.Close(tree)
		fd, err := unix.Openat(tree, path, unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		b := make([]byte, 32)
		n, err := unix.Read(fd, b)
		if err != nil {
			return err
		}
		value, err = strconv.Atoi(strings.TrimSpace(string(b[:n])))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestSysctl(t *testing.T) {
	const path = "net/ipv4/ip_forward"
	a, b := Open(t), Open(t)
	if err := a.Sysctl(path, "1"); err != nil {
		t.Fatal(err)
	}
	for ns, want := range map[*NS]string{a: "1", b: "0"} {
		err := ns.Do(func() error {
			got, err := os.ReadFile("/proc/sys/" + path)
			if strings.TrimSpace(string(got)) != want {
				t.Errorf("%s is %q, want %s", path, got, want)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if err := a.Sysctl("net/no/such", "1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("unknown sysctl: %v, want not exist", err)
	}
}

// TestReadyAtOnce asks the kernel whether it has finished what Link and AddAddr
// began, many times: it is often a little late. (A first datagram is no proof of
// it. The neighbour discovery before it is repeated, after a second.)
func TestReadyAtOnce(t *testing.T) {
	a, b := Open(t), Open(t)
	for range 50 {
		err := inOrder(
			func() error { return Link(a, "a0", b, "b0") },
			func() error { return a.withLink("look at", "a0", sends) },
			func() error { return a.AddAddr("a0", "2001:db8::1/64") },
			func() error { return a.Do(delivers) },
			func() error { return a.DelLink("a0") },
		)
		if err != nil {
			t.Fatal(err)
		}
	}
}

func sends(l netlink.Link) error {
	if state := l.Attrs().OperState; state != netlink.OperUp {
		return fmt.Errorf("link is %s", state)
	}
	return nil
}

func delivers() error {
	routes, err := netlink.RouteGet(net.ParseIP("2001:db8::1"))
	if err == nil && (len(routes) == 0 || routes[0].Type != unix.RTN_LOCAL) {
		err = fmt.Errorf("route to the address is %v", routes)
	}
	return err
}
