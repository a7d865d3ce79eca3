package daemon

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"sixin4/encap/engine"
	"sixin4/tsp/broker/store"
)

// TestClientsOfLeases: the kernel has who is proven and takes merged TCP, for as long as
// the tunnel is where it is.
func TestClientsOfLeases(t *testing.T) {
	o := newOffice(t)
	o.sockets(1)
	o.engineRoom()
	s, path, ways, rove, _ := hubShort()
	o.b.short = s
	up := func(from string, merged bool) *liveLease {
		t.Helper()
		at := netip.MustParseAddrPort(from)
		ways[at.Addr()] = 7
		g, err := o.offerMerged(nil, from, o.b.beside.udp[0].Control(), merged)
		if err == nil {
			err = o.Accept(t.Context(), g)
		}
		if err != nil {
			t.Fatal(err)
		}
		return o.byOuter[engine.End{AddrPort: at}]
	}
	have := func(when string, ends ...string) {
		t.Helper()
		o.handOver(t.Context())
		rove()
		var got []string
		for at := range path.peers {
			got = append(got, at.String())
		}
		slices.Sort(got)
		if !slices.Equal(got, ends) {
			t.Errorf("%s: the kernel has %v, want %v", when, got, ends)
		}
	}
	old, one, two := up("192.0.2.31:4000", false), up("192.0.2.32:4000", true), up("192.0.2.33:4000", true)
	have("nobody is proven")
	o.answering(true)
	for _, l := range []*liveLease{old, one, two} {
		o.ask(t.Context(), l)
	}
	have("all are", "192.0.2.32:4000", "192.0.2.33:4000")
	ways[netip.MustParseAddr("192.0.2.34")] = 7
	o.move(t.Context(), one, netip.MustParseAddrPort("192.0.2.34:4000"), time.Now())
	have("one is elsewhere", "192.0.2.33:4000", "192.0.2.34:4000")
	o.end(t.Context(), two, "of the test")
	have("two has ended", "192.0.2.34:4000")
	another := two.Lease
	another.ID, another.Outer = store.NewID(time.Now()), netip.MustParseAddrPort("192.0.2.34:4000")
	o.put(another)
	have("another is where one was, and not proven")
}
