package ifcfg

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"sixin4/tun/nstest"
)

// TestOneNeighbour: through a route by way of a neighbour the kernel keeps one entry,
// however many destinations there are.
func TestOneNeighbour(t *testing.T) {
	gateway := netip.MustParseAddr("fe80::1")
	for _, tc := range []struct {
		name string
		add  func(*Interface) (Undo, error)
		want int
	}{
		{"on the link", func(i *Interface) (Undo, error) { return i.AddRoute(prefix("2001:db8:1::/48")) }, 8},
		{"by way of one", func(i *Interface) (Undo, error) { return i.AddRouteVia(prefix("2001:db8:1::/48"), gateway) }, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inNew(t, func(*nstest.NS) {
				i, _ := newTUN(t, "t0")
				upWithoutLinkLocal(t, i)
				must[Undo](t)(i.AddAddress(prefix("2001:db8::2/128")))
				must[Undo](t)(tc.add(i))
				c := must[net.PacketConn](t)(net.ListenPacket("udp6", "[2001:db8::2]:0"))
				defer c.Close()
				for n := range 8 {
					to := netip.MustParseAddrPort(fmt.Sprintf("[2001:db8:1::%d]:9", n+1))
					must[int](t)(c.WriteTo([]byte("packet"), net.UDPAddrFromAddrPort(to)))
				}
				var got []string
				for _, n := range must[[]netlink.Neigh](t)(netlink.NeighList(i.Index, netlink.FAMILY_V6)) {
					if n.IP.IsGlobalUnicast() || n.IP.Equal(gateway.AsSlice()) { // not those of multicast listeners
						got = append(got, n.IP.String())
					}
				}
				if len(got) != tc.want {
					t.Errorf("neighbours %v, want %d", got, tc.want)
				}
			})
		})
	}
}
