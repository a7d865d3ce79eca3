package daemon

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sixin4/cmd/internal/exit"
	"sixin4/tun/ifcfg"
)

// TestPlanFarEnd: who is asked has a way into the tunnel.
func TestPlanFarEnd(t *testing.T) {
	for _, tt := range []struct {
		name   string
		more   []string
		routes string
		far    string
	}{
		{"on the link", []string{"address", "2001:db8::2/64", "keepalive", "2001:db8::1"}, "", "invalid IP"},
		{"by a route", []string{"address", "2001:db8::2/128", "route", "::/0", "keepalive", "2001:db8:1::1"}, "::/0", "invalid IP"},
		{"elsewhere", []string{"address", "2001:db8::2/64", "keepalive", "2001:db8:1::1"}, "2001:db8:1::1/128", "invalid IP"},
		{"link-local", []string{"keepalive", "fe80::1"}, "", "invalid IP"},
		{"probed", []string{"address", "2001:db8::2/64", "mtu", "probe"}, "", "2001:db8::1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := checked(t, append(tt.more, "remote", "198.51.100.1", "socket", "/s")...)
			p, err := NewPlan(cfg, Env{fake: twoPeers()})
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(texts(p.Routes), " "); got != tt.routes || p.shape().far.String() != tt.far {
				t.Errorf("routes %q, far end %v; want %q, %s", got, p.shape().far, tt.routes, tt.far)
			}
		})
	}
}

// TestPlanBind: routes are those of the interface.
func TestPlanBind(t *testing.T) {
	h := twoPeers()
	h.interfaces = []string{"eth1"}
	h.routes["198.51.100.1 eth1"] = ifcfg.Route{Interface: "eth1", Index: 3, MTU: 1400, LinkMTU: 1500, Source: netip.MustParseAddr("192.0.2.77")}
	p, err := NewPlan(checked(t, "remote", "198.51.100.1", "socket", "/s", "bind-interface", "eth1"), Env{fake: h})
	if err != nil || p.Local.String() != "192.0.2.77" || p.MTU != 1380 {
		t.Errorf("local %v, mtu %d, %v; want 192.0.2.77, 1380", p.Local, p.MTU, err)
	}
	_, err = NewPlan(checked(t, "remote", "198.51.100.1", "socket", "/s", "bind-interface", "eth2"), Env{fake: h})
	want := "--bind-interface eth2: this host has no such interface (ip link shows those it has)"
	if err == nil || err.Error() != want || exit.Code(err) != exit.Usage {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestPathTo: questions leave from the address that the far end is a neighbour of.
func TestPathTo(t *testing.T) {
	s := shape{local: netip.MustParseAddr("192.0.2.1"), addresses: []netip.Prefix{
		netip.MustParsePrefix("fe80::c000:201/64"), netip.MustParsePrefix("2001:db8::2/64"), netip.MustParsePrefix("2001:db8:1::2/64"),
	}}
	for to, from := range map[string]string{
		"2001:db8::1": "2001:db8::2", "2001:db8:1::1": "2001:db8:1::2", "2001:db8:2::1": "2001:db8::2", "fe80::1": "fe80::c000:201",
	} {
		if p, ok := s.pathTo(netip.MustParseAddr(to)); !ok || p.from.String() != from {
			t.Errorf("to %s from %v, %t; want %s", to, p.from, ok, from)
		}
	}
	if _, ok := s.pathTo(netip.Addr{}); ok {
		t.Error("there is a path to nobody")
	}
	if _, ok := (&shape{}).pathTo(netip.MustParseAddr("2001:db8::1")); ok {
		t.Error("there is a path from nowhere")
	}
}

// TestMoved: where the tunnel would move to.
func TestMoved(t *testing.T) {
	before := shape{
		local:     netip.MustParseAddr("192.0.2.1"),
		addresses: []netip.Prefix{netip.MustParsePrefix("fe80::c000:201/64"), netip.MustParsePrefix("2001:db8::2/64")},
		peers:     []PlannedPeer{{Remote: netip.MustParseAddr("198.51.100.1"), MTU: 1480}}, mtu: 1480, wireMTU: 1500, linkMTU: 1500,
	}
	for _, tt := range []struct {
		name  string
		route *ifcfg.Route
		local string
		mtu   int
	}{
		{"the same", &ifcfg.Route{Index: 2, MTU: 1500, Source: netip.MustParseAddr("192.0.2.1")}, "192.0.2.1", 1480},
		{"another", &ifcfg.Route{Index: 3, MTU: 1400, Source: netip.MustParseAddr("203.0.113.5")}, "203.0.113.5", 1380},
		{"no route", nil, "192.0.2.1", 1480},
		{"into the tunnel itself", &ifcfg.Route{Index: 9, MTU: 1480, Source: netip.MustParseAddr("203.0.113.5")}, "192.0.2.1", 1480},
		{"the peer is here", &ifcfg.Route{Index: 1, MTU: 65536, Local: true, Source: netip.MustParseAddr("198.51.100.1")}, "192.0.2.1", 1480},
		{"no address", &ifcfg.Route{Index: 3, MTU: 1500}, "192.0.2.1", 1480},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &fakeHost{routes: map[string]ifcfg.Route{}}
			if tt.route != nil {
				h.routes["198.51.100.1"] = *tt.route
			}
			tunnel := &tunnel{env: Env{fake: h}, iface: &ifcfg.Interface{Index: 9}}
			next := tunnel.moved(&before)
			if next.local.String() != tt.local || int(next.mtu) != tt.mtu || int(next.peers[0].MTU) != tt.mtu || next.addresses[0] != linkLocal(next.local) {
				t.Errorf("moved to %v, mtu %d and %d, %v; want %s, %d", next.local, next.mtu, next.peers[0].MTU, next.addresses, tt.local, tt.mtu)
			}
			if !slices.Equal(before.addresses[1:], next.addresses[1:]) || before.addresses[0].String() != "fe80::c000:201/64" {
				t.Errorf("addresses %v, before %v", next.addresses, before.addresses)
			}
		})
	}
}
