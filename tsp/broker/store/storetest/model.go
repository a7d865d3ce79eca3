package storetest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"sixin4/tsp/broker/store"
)

// model is what a store should have.
type model struct {
	*env
	s     store.Store
	rand  *rand.Rand
	users map[string]store.Lease     // by ID of the user; zero: no lease yet
	gone  map[netip.Prefix]time.Time // prefixes in quarantine, and until when
}

// testModel: any operations in any order, against a map.
func testModel(e *env) {
	cfg := e.config()
	cfg.Pool = netip.MustParsePrefix("2001:db8:1000::/57")
	m := &model{e, e.open(cfg), rand.New(rand.NewPCG(1, 2)), map[string]store.Lease{}, map[netip.Prefix]time.Time{}}
	for i := range 400 {
		id := m.user()
		switch n := m.rand.IntN(20); {
		case n < 2 || id == "":
			m.users[e.add(m.s, fmt.Sprint("user", i), nil).ID] = store.Lease{}
		case n == 2:
			m.remove(id)
		case n == 3:
			e.pass(time.Duration(m.rand.IntN(30)) * time.Hour)
			_, err := m.s.ExpireBefore(e.Context(), e.clock())
			e.must(err)
		case n == 4:
			e.must(m.s.Close())
			m.s = e.open(cfg)
		case n == 5:
			m.release(id)
		default:
			m.session(id)
		}
	}
	m.check()
}

// user is any of them; "" when there is none.
func (m *model) user() string {
	ids := slices.Sorted(maps.Keys(m.users))
	if len(ids) == 0 {
		return ""
	}
	return ids[m.rand.IntN(len(ids))]
}

func (m *model) remove(id string) {
	m.must(m.s.RemoveUser(m.Context(), id))
	m.quarantine(m.users[id])
	delete(m.users, id)
}

func (m *model) release(id string) {
	l := m.users[id]
	if l.ID == "" {
		return
	}
	m.must(m.s.Release(m.Context(), l.ID, l.Epoch))
	m.quarantine(l)
	m.users[id] = store.Lease{}
}

func (m *model) quarantine(l store.Lease) {
	if l.ID != "" {
		m.gone[l.Prefix] = m.clock().Add(24*time.Hour - time.Second) // the store's began a moment ago
	}
}

// session gets a user's lease and brings it up.
func (m *model) session(id string) {
	l := m.users[id]
	got, err := m.s.Reserve(m.Context(), store.Want{UserID: id, PrefixLen: 60 + m.rand.IntN(5)})
	if errors.Is(err, store.ErrFull) && l.ID == "" {
		return
	}
	m.must(err)
	if l.ID != "" && (got.ID != l.ID || got.Prefix != l.Prefix || got.Client6 != l.Client6) {
		m.Fatalf("%+v, was %+v", got, l)
	}
	for p, until := range m.gone {
		if p.Overlaps(got.Prefix) && m.clock().Before(until) {
			m.Fatalf("%v is in quarantine, and given to %+v", p, got)
		}
	}
	m.users[id] = m.activate(m.s, got)
}

func (m *model) check() {
	held := map[string]store.Lease{}
	for id, l := range m.users {
		if l.ID != "" {
			held[id] = l
		}
	}
	got := map[string]store.Lease{}
	for _, l := range m.disjoint(m.s) {
		if l.State != store.Quarantined {
			got[l.UserID] = l
		}
	}
	m.equal("leases", got, held)
	if len(held) < 5 || len(m.gone) < 5 {
		m.Errorf("only %d leases and %d in quarantine: nothing was tried", len(held), len(m.gone))
	}
}
