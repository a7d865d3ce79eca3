package ifcfg

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"sixin4/tun/nstest"
)

// resolved asks for the next hop until the kernel has found its address.
func resolved(t *testing.T, dst string) Hop {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		hop, err := NextHop(netip.MustParseAddr(dst))
		if err == nil {
			return hop
		}
		if !errors.Is(err, ErrUnresolved) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// linkOf returns index and link-layer address of a link in a namespace.
func linkOf(t *testing.T, ns *nstest.NS, name string) (index int, mac net.HardwareAddr) {
	t.Helper()
	inside(t, ns, func() {
		l := must[netlink.Link](t)(netlink.LinkByName(name))
		index, mac = l.Attrs().Index, l.Attrs().HardwareAddr
	})
	return index, mac
}

func TestNextHop(t *testing.T) {
	top := routed(t)
	out, _ := linkOf(t, top.A, "a0")
	_, router := linkOf(t, top.R, nstest.LinkRA)
	for _, tc := range []struct{ name, to string }{
		{"on the link", "192.0.2.254"},
		{"behind a gateway", "198.51.100.2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inside(t, top.A, func() {
				hop := resolved(t, tc.to)
				if hop.Link != out || hop.MAC.String() != router.String() {
					t.Errorf("next hop %+v, want link %d and %v", hop, out, router)
				}
			})
		})
	}
}

func TestNextHopRefuses(t *testing.T) {
	top := routed(t)
	inside(t, top.A, func() {
		if _, err := NextHop(netip.MustParseAddr("192.0.2.1")); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("an address of this host: %v", err)
		}
		if _, err := NextHop(netip.MustParseAddr("192.0.2.255")); err == nil {
			t.Error("a broadcast address has a next hop")
		}
		if _, err := NextHop(netip.MustParseAddr("192.0.2.77")); !errors.Is(err, ErrUnresolved) {
			t.Errorf("a neighbour that is not there: %v", err)
		}
	})
}
