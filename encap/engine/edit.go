package engine

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"sixin4/encap"
)

// Refusal is why a peer could not be put into a table.
type Refusal struct {
	Peer Peer
	Err  error
}

// Change returns a table without the peers at some addresses, and with others, each in
// place of the one at its address if there is one. What the two tables have in common
// they share, so that a change costs some microseconds however many peers there are;
// the counters of an address that stays go on. A peer that cannot be is refused by
// itself, and then there is none at its address.
//
// For a hub: a table of a host should stay as NewTable made it.
//
// The peers taken out are those of protocol 41; ChangeAt takes out any.
func (t *Table) Change(without []netip.Addr, with []Peer) (*Table, []Refusal) {
	at := make([]End, len(without))
	for i, remote := range without {
		at[i] = End{AddrPort: netip.AddrPortFrom(remote, 0)}
	}
	return t.ChangeAt(at, with)
}

// ChangeAt is Change for peers over UDP too.
func (t *Table) ChangeAt(without []End, with []Peer) (*Table, []Refusal) {
	next := *t
	e := editor{Table: &next}
	if 2*(len(without)+len(with)) > t.Len() {
		e.ownAll() // for so many a copy of everything is cheaper
	}
	for _, p := range with { // first, as prefixes may move between peers
		e.clear(p)
	}
	for _, at := range without {
		e.remove(at)
	}
	var refused []Refusal
	for _, p := range with {
		if err := e.put(p); err != nil {
			e.remove(p.End())
			refused = append(refused, Refusal{p, fmt.Errorf("peer %v: %w", p, err)})
		}
	}
	next.settle()
	return &next, refused
}

// WithOurs returns a table with other TableConfig.Ours, at the cost of these.
func (t *Table) WithOurs(list []netip.Prefix) *Table {
	next := *t
	e := editor{Table: &next}
	e.own(list)
	return &next
}

// own makes the sources anew, with what is ours on top: it wins over an equal prefix.
func (e *editor) own(list []netip.Prefix) {
	e.sources = e.routes
	for _, p := range list {
		e.part(e.routes, p.Masked())
		e.sources = e.sources.InsertPersist(p.Masked(), ours)
	}
}

// part notes that somebody has a part of what a peer has, if one has a prefix around p.
func (e *editor) part(of *bart.Table[int32], p netip.Prefix) {
	if i, ok := of.LookupPrefix(p); ok && i != ours && e.at(i).plain {
		e.slot(i).plain = false
	}
}

// editor changes a table that nobody uses yet. What it has in common with another is
// copied before it is changed, unless all is owned.
type editor struct {
	*Table
	owned bool // everything
	lists bool // of slots and of free ones
}

// ownAll copies everything.
func (e *editor) ownAll() {
	e.owned = true
	e.remotes = e.remotes.resized(e.remotes.len)
	e.routes, e.sources = e.routes.Clone(), e.sources.Clone()
	e.ownLists()
	for i, part := range e.slots {
		c := *part
		e.slots[i] = &c
	}
}

func (e *editor) ownLists() {
	if !e.lists {
		e.slots, e.free, e.lists = slices.Clone(e.slots), slices.Clone(e.free), true
	}
}

// slot is the place of an index, to write to.
func (e *editor) slot(i int32) *peer {
	e.ownLists()
	if !e.owned {
		c := *e.slots[i>>slotBits]
		e.slots[i>>slotBits] = &c
	}
	return e.at(i)
}

// clear takes away what the peer at the address of p has, unless p has the same.
func (e *editor) clear(p Peer) {
	i, ok := e.findAt(p.End())
	if !ok || slices.Equal(e.at(i).Prefixes, p.Prefixes) {
		return
	}
	e.removePrefixes(e.at(i).Prefixes, i)
	e.slot(i).Prefixes = nil
}

// put adds a peer, or replaces the one at its address. When it fails what is there has
// no prefix.
func (e *editor) put(p Peer) error {
	e.clear(p)
	if p.Map != nil {
		p.Remote, p.Port = unspecified4, 0
	}
	p.Outer.Dst = p.Remote
	var (
		h   encap.Header
		udp encap.UDPHeader
		err error
	)
	if p.Port != 0 {
		udp, err = p.Outer.UDPHeader(p.Port)
	} else {
		h, err = p.makeHeader()
	}
	if err != nil {
		return err
	}
	i, ok := e.findAt(p.End())
	if !ok {
		i = e.add(p.End())
	}
	if !slices.Equal(e.at(i).Prefixes, p.Prefixes) {
		if err := e.addPrefixes(p.Prefixes, i); err != nil {
			return err
		}
	}
	at := e.slot(i) // not before: others may have been written to
	*at = peer{header: h, udp: udp, other: p.Map != nil || p.Port != 0, unproven: p.Unproven, trimmed: p.Port != 0 && !p.Outer.ClearDF, rate: rateOf(p.Rate), count: at.count, Peer: p}
	at.plain = len(p.Prefixes) <= len(at.spans) && !slices.ContainsFunc(p.Prefixes, e.shared)
	for n := range at.spans {
		if at.spans[n] = noSpan; n < len(p.Prefixes) {
			at.spans[n] = spanOf(p.Prefixes[n])
		}
	}
	e.metered = e.metered || p.Rate != 0
	return nil
}

// shared reports whether a part of a prefix, or all of it, is not its peer's.
func (e *editor) shared(p netip.Prefix) bool {
	n := 0
	for _, owner := range e.sources.Subnets(p.Masked()) {
		if n++; n > 1 || owner == ours {
			return true
		}
	}
	return false
}

// add adds a peer without anything.
func (e *editor) add(at End) (i int32) {
	e.ownLists()
	if len(e.free) == 0 {
		first := int32(len(e.slots) << slotBits)
		e.slots = append(e.slots, new(slots))
		for i := first + 1<<slotBits - 1; i >= first; i-- {
			e.free = append(e.free, i)
		}
	}
	i, e.free = e.free[len(e.free)-1], e.free[:len(e.free)-1]
	*e.slot(i) = peer{count: new(peerCounters), Peer: Peer{Remote: at.Addr(), Port: at.Port(), Socket: at.Socket}}
	key := at.key()
	if !e.owned {
		e.remotes.own(key)
	}
	e.remotes.put(key, i)
	return i
}

// remove takes the peer at an end out, if there is one.
func (e *editor) remove(at End) {
	i, ok := e.findAt(at)
	if !ok {
		return
	}
	p := e.slot(i)
	e.removePrefixes(p.Prefixes, i)
	*p = peer{}
	e.free = append(e.free, i)
	key := at.key()
	if !e.owned {
		e.remotes.own(key)
	}
	e.remotes.cut(key)
}

// addPrefixes adds all or none.
func (e *editor) addPrefixes(list []netip.Prefix, i int32) error {
	for n, prefix := range list {
		if err := e.checkPrefix(prefix); err != nil {
			e.removePrefixes(list[:n], i)
			return err
		}
		e.part(e.sources, prefix.Masked())
		e.routes = e.insert(e.routes, prefix.Masked(), i)
		if _, ok := e.sources.Get(prefix.Masked()); !ok { // otherwise it is ours, which wins
			e.sources = e.insert(e.sources, prefix.Masked(), i)
		}
	}
	return nil
}

func (e *editor) checkPrefix(prefix netip.Prefix) error {
	if !prefix.IsValid() || !prefix.Addr().Is6() || prefix.Addr().Is4In6() {
		return fmt.Errorf("prefix %v is not IPv6", prefix)
	}
	if other, ok := e.routes.Get(prefix.Masked()); ok {
		return fmt.Errorf("prefix %v belongs to peer %v already", prefix, e.at(other).Peer)
	}
	return nil
}

func (e *editor) removePrefixes(list []netip.Prefix, i int32) {
	for _, prefix := range list {
		e.routes = e.delete(e.routes, prefix.Masked())
		if owner, ok := e.sources.Get(prefix.Masked()); ok && owner == i {
			e.sources = e.delete(e.sources, prefix.Masked())
		}
	}
}

func (e *editor) insert(t *bart.Table[int32], p netip.Prefix, i int32) *bart.Table[int32] {
	if !e.owned {
		return t.InsertPersist(p, i)
	}
	t.Insert(p, i)
	return t
}

func (e *editor) delete(t *bart.Table[int32], p netip.Prefix) *bart.Table[int32] {
	if !e.owned {
		return t.DeletePersist(p)
	}
	t.Delete(p)
	return t
}
