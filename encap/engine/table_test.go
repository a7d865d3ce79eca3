package engine

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"sixin4/encap"
)

func peerOf(remote string, prefixes ...string) Peer {
	p := Peer{Outer: encap.Outer{Src: ours4}}
	if remote != "" {
		p.Remote = addr(remote)
	}
	for _, s := range prefixes {
		p.Prefixes = append(p.Prefixes, netip.MustParsePrefix(s))
	}
	return p
}

func TestNewTableRefuses(t *testing.T) {
	one, two := "198.51.100.1", "198.51.100.2"
	for _, c := range []struct {
		name  string
		peers []Peer
		want  string // in the error
	}{
		{"no peers", nil, "no peers"},
		{"no remote", []Peer{peerOf("", "::/0")}, "not an IPv4 address"},
		{"IPv6 remote", []Peer{peerOf("2001:db8::1", "::/0")}, "peer 2001:db8::1: "},
		{"multicast remote", []Peer{peerOf("224.0.0.1", "::/0")}, "not a unicast address"},
		{"remote is ours", []Peer{peerOf("192.0.2.1", "::/0")}, "both 192.0.2.1"},
		{"remote twice", []Peer{peerOf(one, "2001:db8::/48"), peerOf(one, "2001:db8:1::/48")}, "peer 198.51.100.1: configured twice"},
		{"prefix of two", []Peer{peerOf(one, "2001:db8::/48"), peerOf(two, "2001:db8::/48")}, "peer 198.51.100.2: prefix 2001:db8::/48 belongs to peer 198.51.100.1"},
		{"prefix of two, one with host bits", []Peer{peerOf(one, "2001:db8::/48"), peerOf(two, "2001:db8::5/48")}, "belongs to peer 198.51.100.1"},
		{"prefix twice in one peer", []Peer{peerOf(one, "2001:db8::/48", "2001:db8::/48")}, "belongs to peer 198.51.100.1"},
		{"IPv4 prefix", []Peer{peerOf(one, "192.0.2.0/24")}, "192.0.2.0/24 is not IPv6"},
		{"mapped prefix", []Peer{peerOf(one, "::ffff:192.0.2.0/120")}, "is not IPv6"},
		{"no prefix", []Peer{{Remote: addr(one), Prefixes: make([]netip.Prefix, 1), Outer: encap.Outer{Src: ours4}}}, "is not IPv6"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := NewTable(TableConfig{Peers: c.peers}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want something with %q", err, c.want)
			}
		})
	}
}

// model is the peer table as a list that is searched from end to end.
type model []modelEntry

type modelEntry struct {
	prefix netip.Prefix
	owner  int32
}

func (m model) owner(a netip.Addr) (owner int32, ok bool) {
	best := -1
	for _, e := range m {
		if e.prefix.Contains(a) && e.prefix.Bits() > best {
			best, owner, ok = e.prefix.Bits(), e.owner, true
		}
	}
	return owner, ok
}

// randomTable has prefixes that lie within each other, and the model of them:
// routes, and sources with what is ours on top.
func randomTable(t *testing.T, rnd *rand.Rand) (table *Table, routes, sources model) {
	var c TableConfig
	seen := map[netip.Prefix]bool{}
	random := func() netip.Prefix { return netip.PrefixFrom(randomAddr(rnd), 32+rnd.IntN(97)).Masked() }
	for i := range 2 + rnd.IntN(10) {
		p := Peer{Remote: hubAddr(i), Outer: encap.Outer{Src: ours4}}
		for range rnd.IntN(6) {
			prefix := random()
			if !seen[prefix] {
				seen[prefix] = true
				p.Prefixes = append(p.Prefixes, prefix)
				routes = append(routes, modelEntry{prefix, int32(i)})
			}
		}
		c.Peers = append(c.Peers, p)
	}
	for range rnd.IntN(4) {
		c.Ours = append(c.Ours, random())
		sources = append(sources, modelEntry{c.Ours[len(c.Ours)-1], ours})
	}
	sources = append(sources, routes...) // ours first: it wins over an equal prefix
	return mustTable(t, c), routes, sources
}

// randomAddr returns one of few addresses close to each other.
func randomAddr(rnd *rand.Rand) netip.Addr {
	a := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	for i := 4; i < 16; i++ {
		a[i] = byte(rnd.IntN(2)) << rnd.IntN(8)
	}
	return netip.AddrFrom16(a)
}

// TestTableAgainstModel compares look-ups both ways with the list's.
func TestTableAgainstModel(t *testing.T) {
	rnd, verdicts := rand.New(rand.NewPCG(6, 4)), [encap.NumDrops]int{}
	for range 200 {
		table, routes, sources := randomTable(t, rnd)
		for range 200 {
			inner := encap.IPv6(echo(randomAddr(rnd), randomAddr(rnd)))
			i, d := table.outbound(inner)
			verdicts[d]++
			to, ok := routes.owner(inner.Dst())
			from, known := sources.owner(inner.Src())
			switch {
			case !ok && d != encap.DropNoPeer, ok && known && from == to && d != encap.DropHairpin,
				ok && (!known || from != to) && (d != encap.Forward || i != to):
				t.Fatalf("outbound to peer %d, %v; the model says %d, %v, from %d, %v", i, d, to, ok, from, known)
			}
			sender := rnd.IntN(table.Len())
			i, d = table.inbound(keyOf(hubAddr(sender).As4()), inner)
			verdicts[d]++
			want := encap.DropInnerSourceNotPeers
			if known && from == ours {
				want = encap.DropInnerSourceOurs
			} else if known && from == int32(sender) {
				want = encap.Forward
			}
			if d != want || d == encap.Forward && i != int32(sender) {
				t.Fatalf("inbound from peer %d: %d, %v, want %v", sender, i, d, want)
			}
		}
	}
	for _, d := range []encap.Drop{encap.Forward, encap.DropNoPeer, encap.DropHairpin, encap.DropInnerSourceOurs, encap.DropInnerSourceNotPeers} {
		if verdicts[d] < 100 {
			t.Errorf("%v was met %d times only", d, verdicts[d])
		}
	}
}

// TestOursWinsOverAnEqualPrefix of a peer.
func TestOursWinsOverAnEqualPrefix(t *testing.T) {
	table := mustTable(t, TableConfig{Peers: []Peer{peerOf("198.51.100.1", "2001:db8::/48")}, Ours: []netip.Prefix{netip.MustParsePrefix("2001:db8::/48")}})
	if _, d := table.inbound(keyOf(addr("198.51.100.1").As4()), encap.IPv6(echo(addr("2001:db8::1"), host6))); d != encap.DropInnerSourceOurs {
		t.Error(d)
	}
	if i, d := table.outbound(encap.IPv6(echo(host6, addr("2001:db8::1")))); i != 0 || d != encap.Forward {
		t.Error(i, d)
	}
}

// TestHub: a hub may have no peer yet, or only one that everything else goes to, and
// is a hub all the same.
func TestHub(t *testing.T) {
	for name, c := range map[string]TableConfig{
		"no peers":  {Hub: true},
		"one peer":  {Hub: true, Peers: hostTable().Peers},
		"two peers": {Hub: true, Peers: hubTable(2).Peers},
	} {
		table, err := NewTable(c)
		if err != nil || table.host {
			t.Errorf("%s: host %v, %v; want a hub", name, table != nil && table.host, err)
		}
	}
}
