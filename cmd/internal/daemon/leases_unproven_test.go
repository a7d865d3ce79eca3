package daemon

import (
	"fmt"
	"net/netip"
	"testing"

	"sixin4/tsp/broker"
	"sixin4/tsp/broker/store"
)

// states counts the leases of the store.
func (o office) states() map[store.State]int {
	o.t.Helper()
	count := make(map[store.State]int)
	for l, err := range o.b.store.Leases(o.t.Context()) {
		if err != nil {
			o.t.Fatal(err)
		}
		count[l.State]++
	}
	return count
}

// TestLeaseUnprovenOfSource: one source holds few addresses that nobody has shown to
// have, and the newest of them.
func TestLeaseUnprovenOfSource(t *testing.T) {
	o := newOffice(t)
	var last *broker.Grant
	for range 3 * unprovenOfSource {
		g, err := o.byDatagram(nil, "192.0.2.1")
		if err != nil {
			t.Fatal(err)
		}
		last = g
	}
	if got := o.states(); got[store.Offered] != unprovenOfSource {
		t.Errorf("leases %v, want %d offered", got, unprovenOfSource)
	}
	if err := o.Accept(t.Context(), last); err != nil {
		t.Errorf("the newest: %v", err)
	}
	if _, err := o.byDatagram(nil, "192.0.2.3"); err != nil {
		t.Errorf("another source: %v", err)
	}
	o.answering(true)
	o.ask(t.Context(), o.byOuter[at("192.0.2.1:0")])
	for i := range unprovenOfSource {
		if _, err := o.byDatagram(o.user(fmt.Sprint("u", i), 0), "192.0.2.1"); err == nil {
			t.Error("a user gets the address of a tunnel that answers")
		}
	}
	if got := o.states(); got[store.Up] != 1 {
		t.Errorf("leases %v, want the proven one up", got)
	}
}

func TestUnproven(t *testing.T) {
	var u unproven
	source := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}) }
	for i := range unprovenOfAll {
		if old, over := u.add(promise{id: fmt.Sprint(i), source: source(i)}); over {
			t.Fatalf("%d: %v has to go", i, old)
		}
	}
	u.remove("0")
	u.remove("0")
	u.remove("none")
	if old, over := u.add(promise{id: "a", source: source(1)}); over {
		t.Errorf("one has been proven, but %v has to go", old)
	}
	if old, over := u.add(promise{id: "b", source: source(2)}); !over || old.id != "1" {
		t.Errorf("%v, %v has to go, want the oldest", old, over)
	}
	for i := range unprovenOfSource - 1 {
		u.remove(fmt.Sprint(100 + i))
		u.add(promise{id: fmt.Sprint("c", i), source: source(9)})
	}
	u.add(promise{id: "c0", source: source(9)}) // the same lease again
	if old, over := u.add(promise{id: "d", source: source(9)}); !over || old.id != "9" {
		t.Errorf("%v, %v has to go, want the oldest of that source", old, over)
	}
	for id := range u.byID {
		u.remove(id)
	}
	if len(u.sources)+u.order.Len() != 0 {
		t.Errorf("%d sources and %d promises are left", len(u.sources), u.order.Len())
	}
}
