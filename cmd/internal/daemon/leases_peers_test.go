package daemon

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/encap/engine"
	"sixin4/tsp/broker/store"
)

// TestLeasesPeers: the list of a hub with few peers is exact, and that of one with many
// is made anew once a second at most.
func TestLeasesPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 4
		o := newLeases(nil)
		add := func(n byte) {
			at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 0, n}), 0)
			o.byOuter[engine.End{AddrPort: at}] = &liveLease{Lease: store.Lease{Outer: at}}
		}
		remotes := func() (list []netip.Addr) {
			for _, p := range o.peers(most) {
				list = append(list, p.Remote)
			}
			slices.SortFunc(list, netip.Addr.Compare)
			return list
		}
		for n := range byte(most) {
			if add(n); len(remotes()) != int(n)+1 {
				t.Fatalf("of %d there are %v", n+1, remotes())
			}
		}
		first := remotes()
		clear(o.byOuter)
		for n := range byte(2 * most) {
			add(100 + n)
		}
		if got := remotes(); !slices.Equal(got, first) {
			t.Errorf("%v a moment after %v", got, first)
		}
		<-time.After(fewAge)
		if got := remotes(); len(got) != most || got[0].As4()[3] < 100 {
			t.Errorf("%v after a second", got)
		}
		clear(o.byOuter)
		add(7)
		if got := remotes(); len(got) != 1 || got[0].As4()[3] != 7 {
			t.Errorf("%v where one is left", got)
		}
	})
}
