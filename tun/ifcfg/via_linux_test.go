package ifcfg

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sixin4/tun/nstest"
)

// TestVia: the interface that is asked for wins over a better route by another.
func TestVia(t *testing.T) {
	nstest.Need(t)
	a, b := nstest.Open(t), nstest.Open(t)
	for _, err := range []error{
		nstest.Link(a, "a0", b, "b0"), nstest.Link(a, "a1", b, "b1"),
		a.AddAddr("a0", "192.0.2.1/24"), a.AddAddr("a1", "203.0.113.1/24"),
		b.AddAddr("b0", "192.0.2.2/24"), b.AddAddr("b1", "203.0.113.2/24"),
		a.AddRoute("198.51.100.0/24", "203.0.113.2"), a.AddRoute("198.51.100.9/32", "192.0.2.2"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	inside(t, a, func() {
		for link, source := range map[string]string{"": "192.0.2.1", "a0": "192.0.2.1", "a1": "203.0.113.1"} {
			r, err := RouteVia(addr("198.51.100.9"), link)
			if err != nil || r.Source != addr(source) || link != "" && r.Interface != link {
				t.Errorf("by %q: %+v, %v; want from %s", link, r, err, source)
			}
			i := must[*Interface](t)(ByName(r.Interface))
			nstest.Eventually(t, 10*time.Second, "the neighbour is known", func() bool {
				hop, err := NextHopVia(addr(source), addr("198.51.100.9"), link)
				return err == nil && hop.Link == i.Index
			})
		}
		if _, err := RouteVia(addr("198.51.100.9"), "a9"); err == nil {
			t.Error("a route by an interface that is not there")
		}
		if _, err := NextHopVia(addr("192.0.2.1"), addr("198.51.100.9"), "a9"); err == nil {
			t.Error("a next hop by an interface that is not there")
		}
		if err := a.SetDown("a1"); err != nil {
			t.Fatal(err)
		}
		if _, err := RouteVia(addr("198.51.100.9"), "a1"); !errors.Is(err, unix.ENETUNREACH) {
			t.Errorf("by an interface that is down: %v", err)
		}
	})
}
