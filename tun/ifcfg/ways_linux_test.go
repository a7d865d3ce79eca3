package ifcfg

import (
	"errors"
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sixin4/tun/nstest"
)

// TestWays: by which link packets leave, as both their addresses have it.
func TestWays(t *testing.T) {
	top := routed(t)
	other := nstest.Open(t)
	if err := nstest.Link(top.A, "a1", other, "c0"); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{top.A.AddAddr("a0", "192.0.2.11/24"), top.A.AddAddr("a1", "203.0.113.129/25")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	inside(t, top.A, func() {
		index := func(name string) int { return must[netlink.Link](t)(netlink.LinkByName(name)).Attrs().Index }
		a0, a1 := index("a0"), index("a1")
		gateway := net.ParseIP("192.0.2.254")
		rule := netlink.NewRule()
		rule.Src, rule.Table, rule.Priority = ipNet(prefix("192.0.2.11/32")), 100, 100
		for _, err := range []error{
			netlink.RuleAdd(rule),
			netlink.RouteAdd(&netlink.Route{Dst: ipNet(prefix("198.51.100.0/24")), Table: 100, Gw: net.ParseIP("203.0.113.130"), LinkIndex: a1}),
			netlink.RouteAdd(&netlink.Route{Dst: ipNet(prefix("203.0.113.0/28")), Type: unix.RTN_UNREACHABLE}),
			netlink.RouteAdd(&netlink.Route{Dst: ipNet(prefix("203.0.113.16/28")), Gw: gateway, LinkIndex: a0, MTU: 1400}),
			netlink.RouteAdd(&netlink.Route{Dst: ipNet(prefix("203.0.113.48/28")), MTU: 1420, MultiPath: []*netlink.NexthopInfo{
				{LinkIndex: a0, Gw: gateway}, {LinkIndex: a0, Gw: net.ParseIP("192.0.2.253")},
			}}),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		var ways Ways
		for _, tt := range []struct {
			name, from, to, link string
			want                 Way
			err                  error
		}{
			{"on the link", "192.0.2.1", "192.0.2.254", "", Way{a0, 1500, true}, nil},
			{"behind a gateway", "192.0.2.1", "198.51.100.2", "", Way{a0, 1500, true}, nil},
			{"by a rule about the source", "192.0.2.11", "198.51.100.2", "", Way{a1, 1500, true}, nil},
			{"by an interface that is asked for", "192.0.2.11", "192.0.2.254", "a0", Way{a0, 1500, true}, nil},
			{"with an MTU of its own", "192.0.2.1", "203.0.113.17", "", Way{a0, 1400, true}, nil},
			{"one of two gateways, with an MTU of its own", "192.0.2.1", "203.0.113.49", "", Way{a0, 1420, true}, nil},
			{"this host", "192.0.2.1", "203.0.113.129", "", Way{}, errors.ErrUnsupported},
			{"unreachable", "192.0.2.1", "203.0.113.1", "", Way{}, unix.EHOSTUNREACH},
			{"IPv6", "2001:db8::1", "2001:db8::2", "", Way{}, errors.ErrUnsupported},
		} {
			got, err := ways.To(addr(tt.from), addr(tt.to), tt.link)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%s: %+v, %v; want %+v, %v", tt.name, got, err, tt.want, tt.err)
			}
		}
		tun, _ := newTUN(t, "t0")
		must[Undo](t)(tun.Up())
		if err := netlink.RouteAdd(&netlink.Route{Dst: ipNet(prefix("203.0.113.32/28")), LinkIndex: tun.Index}); err != nil {
			t.Fatal(err)
		}
		if way, err := ways.To(addr("192.0.2.1"), addr("203.0.113.33"), ""); err != nil || way.Link != tun.Index || way.Ethernet {
			t.Errorf("a TUN: %+v, %v", way, err)
		}
	})
}
