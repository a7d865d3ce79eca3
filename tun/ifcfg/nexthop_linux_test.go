package ifcfg

import (
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sixin4/tun/nstest"
)

// resolved asks for the next hop until the kernel has found its address.
func resolved(t *testing.T, src, dst string) Hop {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		hop, err := NextHopVia(addr(src), addr(dst), "")
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
				hop := resolved(t, "192.0.2.1", tc.to)
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
		gateway := net.ParseIP("192.0.2.254")
		link := must[netlink.Link](t)(netlink.LinkByName("a0")).Attrs().Index
		for dst, r := range map[string]*netlink.Route{
			"203.0.113.0/28":  {Type: unix.RTN_UNREACHABLE},
			"203.0.113.16/28": {Gw: gateway, LinkIndex: link, MTU: 1400},
			"203.0.113.48/28": {Gw: gateway, LinkIndex: link, MTU: 1500},
		} {
			r.Dst = ipNet(prefix(dst))
			if err := netlink.RouteAdd(r); err != nil {
				t.Fatal(err)
			}
		}
		for _, tt := range []struct {
			name, from, to string
			want           error
		}{
			{"an address of this host", "192.0.2.1", "192.0.2.1", errors.ErrUnsupported},
			{"a broadcast address", "192.0.2.1", "192.0.2.255", errors.ErrUnsupported},
			{"a neighbour that is not there", "192.0.2.1", "192.0.2.77", ErrUnresolved},
			{"an unreachable network", "192.0.2.1", "203.0.113.1", unix.EHOSTUNREACH},
			{"a way with a smaller MTU than the link", "192.0.2.1", "203.0.113.17", errors.ErrUnsupported},
			{"from an address that is not ours", "192.0.2.9", "192.0.2.254", nil}, // kernels differ
			{"IPv6", "2001:db8::1", "2001:db8::2", errors.ErrUnsupported},
		} {
			if _, err := NextHopVia(addr(tt.from), addr(tt.to), ""); err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
		}
		resolved(t, "192.0.2.1", "203.0.113.49") // the MTU of the link is no smaller one
	})
}

// TestNextHopBySource: the source address takes part in the choice of the route.
func TestNextHopBySource(t *testing.T) {
	top := routed(t)
	if err := top.A.AddAddr("a0", "192.0.2.11/24"); err != nil {
		t.Fatal(err)
	}
	inside(t, top.A, func() {
		rule := netlink.NewRule()
		rule.Src, rule.Table, rule.Priority = ipNet(prefix("192.0.2.11/32")), 100, 100
		link := must[netlink.Link](t)(netlink.LinkByName("a0")).Attrs().Index
		for _, err := range []error{
			netlink.RuleAdd(rule),
			netlink.RouteAdd(&netlink.Route{Dst: ipNet(prefix("198.51.100.0/24")), Table: 100, Type: unix.RTN_PROHIBIT}),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if hop := resolved(t, "192.0.2.1", "198.51.100.2"); hop.Link != link {
			t.Errorf("hop %+v, want link %d", hop, link)
		}
		if _, err := NextHopVia(addr("192.0.2.11"), addr("198.51.100.2"), ""); !errors.Is(err, unix.EACCES) {
			t.Errorf("from the address with a rule: %v, want %v", err, unix.EACCES)
		}
	})
}

// TestNextHopMultipath asks for the same pair of addresses again and again, and
// gets one of the hops each time the same.
func TestNextHopMultipath(t *testing.T) {
	top := routed(t)
	if err := top.R.AddAddr(nstest.LinkRA, "192.0.2.253/24"); err != nil {
		t.Fatal(err)
	}
	_, router := linkOf(t, top.R, nstest.LinkRA)
	inside(t, top.A, func() {
		link := must[netlink.Link](t)(netlink.LinkByName("a0")).Attrs().Index
		err := netlink.RouteAdd(&netlink.Route{Dst: ipNet(prefix("203.0.113.0/24")), MultiPath: []*netlink.NexthopInfo{
			{LinkIndex: link, Gw: net.ParseIP("192.0.2.254")}, {LinkIndex: link, Gw: net.ParseIP("192.0.2.253")},
		}})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if hop := resolved(t, "192.0.2.1", "203.0.113.1"); hop.Link != link || hop.MAC.String() != router.String() {
				t.Errorf("hop %+v, want link %d and %v", hop, link, router)
			}
		}
	})
}

// TestNewRoute4 reads what no test can make the kernel say everywhere.
func TestNewRoute4(t *testing.T) {
	to, link := addr("203.0.113.1"), []byte{7, 0, 0, 0}
	if binary.NativeEndian.Uint32(link) != 7 {
		link = []byte{0, 0, 0, 7}
	}
	six := addr("fe80::1")
	for _, tt := range []struct {
		name  string
		attrs map[uint16][]byte
		want  route4
		err   error
	}{
		{"on the link", map[uint16][]byte{unix.RTA_OIF: link}, route4{link: 7, via: to}, nil},
		{"IPv6 gateway", map[uint16][]byte{unix.RTA_OIF: link, unix.RTA_VIA: append([]byte{10, 0}, six.AsSlice()...)}, route4{link: 7, via: six}, nil},
		{"gateway cut short", map[uint16][]byte{unix.RTA_OIF: link, unix.RTA_VIA: {10, 0, 1}}, route4{}, errShort},
		{"encapsulated", map[uint16][]byte{unix.RTA_OIF: link, unix.RTA_ENCAP_TYPE: {2, 0}}, route4{}, errors.ErrUnsupported},
		{"no link", nil, route4{}, errShort},
	} {
		if got, err := newRoute4(unix.RTN_UNICAST, tt.attrs, to); got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: %+v, %v; want %+v, %v", tt.name, got, err, tt.want, tt.err)
		}
	}
}

func TestSendsAsIs(t *testing.T) {
	noARP := uint32(unix.IFF_NOARP)
	for _, tt := range []struct {
		name string
		link netlink.LinkAttrs
		want bool
	}{
		{"TUN, WireGuard", netlink.LinkAttrs{RawFlags: noARP, EncapType: "none"}, true},
		{"PPP", netlink.LinkAttrs{RawFlags: noARP, EncapType: "ppp"}, true},
		{"Ethernet", netlink.LinkAttrs{EncapType: "ether", HardwareAddr: make([]byte, 6)}, false},
		{"VRF", netlink.LinkAttrs{RawFlags: noARP, EncapType: "ether", HardwareAddr: make([]byte, 6)}, false},
		{"IP tunnel to anywhere", netlink.LinkAttrs{RawFlags: noARP, EncapType: "ipip"}, false},
	} {
		if got := sendsAsIs(&tt.link); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
}
