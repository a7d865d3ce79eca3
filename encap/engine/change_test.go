package engine

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sixin4/encap"
)

// roster is the model of a table that changes: what is in it, as NewTable takes it.
type roster struct {
	cfg   TableConfig
	rnd   *rand.Rand
	count map[netip.Addr]*peerCounters
}

// change invents changes, does them to the model, and returns them.
func (r *roster) change() (without []netip.Addr, with []Peer) {
	touched := map[netip.Addr]bool{}
	for range 1 + r.rnd.IntN(1+r.rnd.IntN(8)) {
		remote := hubAddr(r.rnd.IntN(40))
		if touched[remote] {
			continue
		}
		touched[remote] = true
		if r.rnd.IntN(3) == 0 {
			without = append(without, remote)
			continue
		}
		p := Peer{Remote: remote, Outer: encap.Outer{Src: ours4}, Unproven: r.rnd.IntN(2) == 0}
		for range r.rnd.IntN(4) {
			p.Prefixes = append(p.Prefixes, netip.PrefixFrom(randomAddr(r.rnd), 40+r.rnd.IntN(89)))
		}
		if i := r.find(remote); i >= 0 && r.rnd.IntN(3) == 0 {
			p.Prefixes = r.cfg.Peers[i].Prefixes
		}
		with = append(with, p)
	}
	r.cfg.Peers = slices.DeleteFunc(r.cfg.Peers, func(p Peer) bool { return touched[p.Remote] })
	return without, with
}

func (r *roster) find(remote netip.Addr) int {
	return slices.IndexFunc(r.cfg.Peers, func(p Peer) bool { return p.Remote == remote })
}

// take puts those of with into the model that NewTable takes, in order, and returns the
// others.
func (r *roster) take(with []Peer) (refused []netip.Addr) {
	for _, p := range with {
		more := r.cfg
		more.Peers = append(slices.Clone(r.cfg.Peers), p)
		if _, err := NewTable(more); err != nil {
			refused = append(refused, p.Remote)
			continue
		}
		r.cfg.Peers = more.Peers
	}
	return refused
}

// TestChangeAgainstNewTable: after any number of changes the look-ups are those of a
// table that was made anew, the tables before are as they were, and counters stay with
// their address.
func TestChangeAgainstNewTable(t *testing.T) {
	for seed := range uint64(40) {
		r := &roster{rnd: rand.New(rand.NewPCG(seed, 1)), count: map[netip.Addr]*peerCounters{}}
		r.cfg = TableConfig{Hub: true, Self: ours6}
		table := mustTable(t, r.cfg)
		for range 60 {
			was, before := look(table, r.rnd.Uint64()), table
			without, with := r.change()
			next, refusals := table.Change(without, with)
			if r.rnd.IntN(4) == 0 {
				r.cfg.Ours = []netip.Prefix{netip.PrefixFrom(randomAddr(r.rnd), 32+r.rnd.IntN(97)).Masked()}
				if n := len(r.cfg.Peers); n > 0 && len(r.cfg.Peers[n-1].Prefixes) > 0 {
					r.cfg.Ours = append(r.cfg.Ours, r.cfg.Peers[n-1].Prefixes[0])
				}
				next = next.WithOurs(r.cfg.Ours)
			}
			table = next
			var refused []netip.Addr
			for _, x := range refusals {
				refused = append(refused, x.Peer.Remote)
			}
			if want := r.take(with); !slices.Equal(refused, want) {
				t.Fatalf("seed %d: refused are %v, want %v: %v", seed, refused, want, refusals)
			}
			compare(t, table, mustTable(t, r.cfg), r.rnd)
			r.checkCounters(t, table)
			if !slices.Equal(look(before, was[0].seed), was) {
				t.Fatalf("seed %d: the table before is not as it was", seed)
			}
		}
	}
}

// checkCounters: those of an address that stayed are the same.
func (r *roster) checkCounters(t *testing.T, table *Table) {
	t.Helper()
	now := map[netip.Addr]*peerCounters{}
	for p := range table.all() {
		now[p.Remote] = p.count
		if old := r.count[p.Remote]; old != nil && old != p.count {
			t.Fatalf("%v has other counters", p.Remote)
		}
	}
	r.count = now
}

// verdict is an answer of a table, which does not depend on how it numbers peers.
type verdict struct {
	seed     uint64
	out, in  encap.Drop
	to, from netip.Addr
}

// look asks a table many things, the same ones for one seed.
func look(t *Table, seed uint64) (all []verdict) {
	rnd := rand.New(rand.NewPCG(seed, 2))
	for range 50 {
		all = append(all, ask(t, rnd, seed))
	}
	return all
}

func ask(t *Table, rnd *rand.Rand, seed uint64) (v verdict) {
	inner := encap.IPv6(echo(randomAddr(rnd), randomAddr(rnd)))
	v.seed = seed
	i, d := t.outbound(inner)
	if v.out = d; d == encap.Forward {
		v.to = t.at(i).Remote
	}
	i, d = t.inbound(keyOf(hubAddr(rnd.IntN(40)).As4()), inner)
	if v.in = d; d == encap.Forward {
		v.from = t.at(i).Remote
	}
	return v
}

func compare(t *testing.T, got, want *Table, rnd *rand.Rand) {
	t.Helper()
	seed := rnd.Uint64()
	if g, w := look(got, seed), look(want, seed); !slices.Equal(g, w) {
		t.Fatalf("look-ups\n%v\nwant\n%v", g, w)
	}
	if got.Len() != want.Len() || got.host != want.host {
		t.Fatalf("%d peers, host %v; want %d, %v", got.Len(), got.host, want.Len(), want.host)
	}
	for p := range want.all() {
		i, ok := got.find(p.Remote)
		if !ok || !slices.Equal(got.at(i).Prefixes, p.Prefixes) || got.at(i).Unproven != p.Unproven || got.at(i).unproven != p.unproven {
			t.Fatalf("%v is not as it should be", p.Remote)
		}
	}
}

// TestChangeMany grows a hub from nothing and shrinks it again, by one and by many.
func TestChangeMany(t *testing.T) {
	const n = 3000
	all := manyPeers(n).Peers
	for _, step := range []int{1, 7, 1000} {
		table := mustTable(t, TableConfig{Hub: true})
		for part := range slices.Chunk(all, step) {
			var refused []Refusal
			if table, refused = table.Change(nil, part); refused != nil {
				t.Fatal(refused)
			}
		}
		slots := len(table.slots)
		if table.Len() != n || slots > n/8 {
			t.Errorf("%d peers in %d parts", table.Len(), slots)
		}
		for i, p := range all {
			if at, d := table.inbound(keyOf(p.Remote.As4()), echo(p.Prefixes[0].Addr(), host6)); d != encap.Forward || table.at(at).Remote != p.Remote {
				t.Fatalf("peer %d: %v", i, d)
			}
		}
		for part := range slices.Chunk(all, step) {
			var remotes []netip.Addr
			for _, p := range part {
				remotes = append(remotes, p.Remote)
			}
			table, _ = table.Change(remotes, nil)
		}
		if table.Len() != 0 || table.routes.Size() != 0 || table.sources.Size() != 0 {
			t.Errorf("%d peers, %d and %d prefixes are left", table.Len(), table.routes.Size(), table.sources.Size())
		}
		if table, _ = table.Change(nil, all); len(table.slots) != slots {
			t.Errorf("%d parts when it has grown again, want %d: slots are used again", len(table.slots), slots)
		}
	}
}

// TestChangeOne is about single changes.
func TestChangeOne(t *testing.T) {
	const a, b = "198.51.100.1", "198.51.100.2"
	base := mustTable(t, TableConfig{Hub: true, Peers: []Peer{peerOf(a, "2001:db8:a::/48"), peerOf(b, "2001:db8:b::/48")}})
	for _, c := range []struct {
		name    string
		without []netip.Addr
		with    []Peer
		want    string // remotes with their prefixes
		refused string // in the error
	}{
		{"nothing", nil, nil, "198.51.100.1 [2001:db8:a::/48] 198.51.100.2 [2001:db8:b::/48]", ""},
		{"one goes", []netip.Addr{addr(a)}, nil, "198.51.100.2 [2001:db8:b::/48]", ""},
		{"one that is not there goes", []netip.Addr{addr("198.51.100.9"), {}, addr("2001:db8::1")}, nil, "198.51.100.1 [2001:db8:a::/48] 198.51.100.2 [2001:db8:b::/48]", ""},
		{"a prefix moves", []netip.Addr{addr(a)}, []Peer{peerOf("198.51.100.3", "2001:db8:a::/48")}, "198.51.100.2 [2001:db8:b::/48] 198.51.100.3 [2001:db8:a::/48]", ""},
		{"two change places", nil, []Peer{peerOf(a, "2001:db8:b::/48"), peerOf(b, "2001:db8:a::/48")}, "198.51.100.1 [2001:db8:b::/48] 198.51.100.2 [2001:db8:a::/48]", ""},
		{"another prefix", nil, []Peer{peerOf(a, "2001:db8:c::/48")}, "198.51.100.1 [2001:db8:c::/48] 198.51.100.2 [2001:db8:b::/48]", ""},
		{"the same address twice", nil, []Peer{peerOf(a, "2001:db8:c::/48"), peerOf(a, "2001:db8:d::/48")}, "198.51.100.1 [2001:db8:d::/48] 198.51.100.2 [2001:db8:b::/48]", ""},
		{"gone and come", []netip.Addr{addr(a)}, []Peer{peerOf(a, "2001:db8:a::/48")}, "198.51.100.1 [2001:db8:a::/48] 198.51.100.2 [2001:db8:b::/48]", ""},
		{"another's prefix", nil, []Peer{peerOf(a, "2001:db8:a::/48", "2001:db8:b::/48")}, "198.51.100.2 [2001:db8:b::/48]", "peer 198.51.100.1: prefix 2001:db8:b::/48 belongs to peer 198.51.100.2"},
		{"a new one with another's prefix", nil, []Peer{peerOf("198.51.100.3", "2001:db8:c::/48", "2001:db8:b::/48")}, "198.51.100.1 [2001:db8:a::/48] 198.51.100.2 [2001:db8:b::/48]", "belongs to peer 198.51.100.2"},
		{"a prefix twice", nil, []Peer{peerOf(a, "2001:db8:c::/48", "2001:db8:c::1/48")}, "198.51.100.2 [2001:db8:b::/48]", "belongs to peer 198.51.100.1"},
		{"no address", nil, []Peer{peerOf("", "2001:db8:c::/48")}, "198.51.100.1 [2001:db8:a::/48] 198.51.100.2 [2001:db8:b::/48]", "not an IPv4 address"},
		{"ours", nil, []Peer{peerOf("192.0.2.1", "2001:db8:c::/48")}, "198.51.100.1 [2001:db8:a::/48] 198.51.100.2 [2001:db8:b::/48]", "both 192.0.2.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			next, refused := base.Change(c.without, c.with)
			var got []string
			for p := range next.all() {
				prefixes := make([]string, len(p.Prefixes))
				for i, x := range p.Prefixes {
					prefixes[i] = x.String()
				}
				got = append(got, p.Remote.String()+" ["+strings.Join(prefixes, " ")+"]")
			}
			slices.Sort(got)
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("peers %s\nwant  %s", s, c.want)
			}
			if (len(refused) == 1) != (c.refused != "") || c.refused != "" && !strings.Contains(refused[0].Err.Error(), c.refused) {
				t.Errorf("refused %v, want %q", refused, c.refused)
			}
			if next.routes.Size() != strings.Count(c.want, "::/48") {
				t.Errorf("%d routes for %s", next.routes.Size(), c.want)
			}
		})
	}
}

// TestEngineChange: what an engine has counted goes on, also over SetTable.
func TestEngineChange(t *testing.T) {
	bubble(t, "hub", func(t *testing.T) {
		r := newRig(t, Config{}, hubTable(2)).start(t)
		r.out(udp(host6, hubHost(0), 0, 100), udp(host6, hubHost(1), 1, 100))
		if refused := r.Change([]netip.Addr{hubAddr(1)}, hubTable(3).Peers[2:]); refused != nil {
			t.Error(refused)
		}
		r.SetOurs([]netip.Prefix{hubPrefix(2)})
		r.out(udp(host6, hubHost(0), 0, 100), udp(host6, hubHost(1), 1, 100), udp(host6, hubHost(2), 2, 100))
		r.in(wrapped(hubAddr(2), udp(hubHost(2), host6, 0, 100)))
		wantDrops(t, r.Engine, map[encap.Drop]uint64{encap.DropNoPeer: 1, encap.DropInnerSourceOurs: 1})
		r.SetTable(mustTable(t, hubTable(1)))
		for i, want := range []uint64{2, 0, 0} {
			p, ok := r.Peer(hubAddr(i))
			if p.Tx.Packets != want || ok != (want > 0) {
				t.Errorf("peer %d: %+v, %v; want %d packets", i, p, ok, want)
			}
		}
		if s := r.Stats(); len(s.Peers) != 1 || r.Totals().Tx != s.Tx || s.Tx.Packets != 4 {
			t.Errorf("%+v", s)
		}
	})
}

// TestSameSource: what a source was in one batch it need not be in the next.
func TestSameSource(t *testing.T) {
	elsewhere := netip.MustParseAddr("2001:db8:bbbb::1")
	bubble(t, "host", func(t *testing.T) {
		r := newRig(t, Config{}, hostTable()).start(t)
		p := wrapped(peer4, udp(elsewhere, ours6, 0, 100))
		if n := len(r.in(p, p)); n != 2 {
			t.Fatalf("%d packets passed, want 2", n)
		}
		r.SetOurs([]netip.Prefix{netip.PrefixFrom(elsewhere, 64).Masked()})
		if n := len(r.in(p, p)); n != 0 {
			t.Errorf("%d packets passed from a network of this host", n)
		}
		r.SetOurs(nil)
		if n := len(r.in(p)); n != 1 {
			t.Error("what is ours no more does not pass")
		}
		wantDrops(t, r.Engine, map[encap.Drop]uint64{encap.DropInnerSourceOurs: 2})
	})
}

// BenchmarkChange is one tunnel more and one fewer.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{1, 1000, 20_000, 100_000} {
		c := manyPeers(n + 1)
		last := c.Peers[n]
		c.Peers, c.Hub = c.Peers[:n], true
		table := mustTable(b, c)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				next, _ := table.Change(nil, []Peer{last})
				table, _ = next.Change([]netip.Addr{last.Remote}, nil)
			}
		})
	}
}
