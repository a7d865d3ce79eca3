package storetest

import "sixin4/tsp/broker/store"

// testCountLeases has leases in every state, and looks at each step.
func testCountLeases(e *env) {
	s := e.open(e.config())
	counts := func(when string, want map[store.State]int) {
		e.Helper()
		got, err := s.CountLeases(e.Context())
		e.must(err)
		e.equal(when, got, want)
	}
	counts("none", map[store.State]int{})
	e.reserve(s, e.add(s, "ann", nil).ID)
	counts("one offered", map[store.State]int{store.Offered: 1})
	up, down, back := e.up(s, e.add(s, "bob", nil).ID), e.up(s, e.add(s, "cy", nil).ID), e.up(s, e.add(s, "dan", nil).ID)
	counts("three up", map[store.State]int{store.Offered: 1, store.Up: 3})
	e.must(s.Deactivate(e.Context(), down.ID, down.Epoch))
	e.must(s.Release(e.Context(), back.ID, back.Epoch))
	counts("one each", map[store.State]int{store.Offered: 1, store.Up: 1, store.Down: 1, store.Quarantined: 1})
	e.must(s.Release(e.Context(), up.ID, up.Epoch))
	counts("two in quarantine", map[store.State]int{store.Offered: 1, store.Down: 1, store.Quarantined: 2})
}
