package engine

import (
	"fmt"
	"net/netip"
	"testing"

	"sixin4/encap"
	"sixin4/encap/packettest"
)

var (
	relay4  = netip.MustParseAddr("198.51.100.9")
	site4   = netip.MustParseAddr("203.0.113.5")
	of6to4  = netip.MustParsePrefix("2002::/16")
	site6   = netip.MustParseAddr("2002:cb00:7105::1")
	own6to4 = netip.MustParseAddr("2002:c000:201::1")
)

func mapping(t testing.TB, m *encap.Mapping, err error) *encap.Mapping {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// mappedPeer is a peer with a mapping for prefixes.
func mappedPeer(m *encap.Mapping, prefixes ...netip.Prefix) Peer {
	return Peer{Map: m, Prefixes: prefixes, Outer: encap.Outer{Src: ours4}}
}

// TestMappedPeers is the rows 6to4, 6rd and ISATAP, alone and beside the peers of a hub.
func TestMappedPeers(t *testing.T) {
	m6to4, err := encap.Map6to4(ours4, relay4)
	mapping(t, m6to4, err)
	alone, err := encap.Map6to4(ours4)
	mapping(t, alone, err)
	m6rd, err := encap.Map6rd(ours4, netip.MustParsePrefix("2001:db8::/32"), 8, relay4)
	mapping(t, m6rd, err)
	isatap, err := encap.MapISATAP(ours4, []netip.Prefix{netip.MustParsePrefix("2001:db8:5::/64")}, relay4)
	mapping(t, isatap, err)
	native, own6rd := addr("2001:db9::1"), addr("2001:db8:2:100::7") // 192.0.2.1 less 8 bits
	for _, c := range []struct {
		name     string
		m        *encap.Mapping
		prefixes []netip.Prefix
		src, dst netip.Addr // inner, of what is sent
		to       netip.Addr
		want     encap.Drop
		from     netip.Addr // who sends something back, from dst to src
		back     encap.Drop
	}{
		{"6to4: to the IPv4 in 2002:V4::", m6to4, []netip.Prefix{of6to4, all}, own6to4, site6, site4, 0, site4, 0},
		{"6to4: native by the gateway", m6to4, []netip.Prefix{of6to4, all}, own6to4, native, relay4, 0, relay4, 0},
		{"6to4: native without a gateway", alone, []netip.Prefix{of6to4}, own6to4, native, relay4, encap.DropNoPeer, relay4, encap.DropNotRelay},
		{"6to4: 127.0.0.1 refused", m6to4, []netip.Prefix{of6to4, all}, own6to4, addr("2002:7f00:1::1"), relay4, encap.DropMappedDestination, relay4, encap.DropInnerSource6to4},
		{"6to4: 224.0.0.1 refused", m6to4, []netip.Prefix{of6to4, all}, own6to4, addr("2002:e000:1::1"), relay4, encap.DropMappedDestination, relay4, encap.DropInnerSource6to4},
		{"6to4: a 2002: source must hold the outer source", m6to4, []netip.Prefix{of6to4, all}, own6to4, site6, site4, 0, other4, encap.DropMappedSource},
		{"6to4: native sources only from relays", m6to4, []netip.Prefix{of6to4, all}, own6to4, native, relay4, 0, site4, encap.DropNotRelay},
		{"6to4: for another site", m6to4, []netip.Prefix{of6to4, all}, host6, site6, site4, 0, site4, encap.DropMappedOther},
		{"6rd: prefix and masked IPv4 bits", m6rd, []netip.Prefix{all}, own6rd, addr("2001:db8:0:700::1"), addr("192.0.0.7"), 0, addr("192.0.0.7"), 0},
		{"6rd: others by the relay", m6rd, []netip.Prefix{all}, own6rd, native, relay4, 0, relay4, 0},
		{"6rd: source in the prefix must match", m6rd, []netip.Prefix{all}, own6rd, addr("2001:db8:0:700::1"), addr("192.0.0.7"), 0, addr("192.0.0.8"), encap.DropMappedSource},
		{"6rd: others only from the relay", m6rd, []netip.Prefix{all}, own6rd, native, relay4, 0, site4, encap.DropNotRelay},
		{"ISATAP: ::0:5efe:V4", isatap, []netip.Prefix{all}, host6, addr("2001:db8:5::5efe:203.0.113.5"), site4, 0, site4, 0},
		{"ISATAP: ::200:5efe:V4", isatap, []netip.Prefix{all}, host6, addr("2001:db8:5::200:5efe:203.0.113.5"), site4, 0, site4, 0},
		{"ISATAP: link-local", isatap, []netip.Prefix{all}, linkLocal4(ours4), addr("fe80::5efe:203.0.113.5"), site4, 0, site4, 0},
		{"ISATAP: elsewhere by a router", isatap, []netip.Prefix{all}, host6, native, relay4, 0, relay4, 0},
		{"ISATAP: source must match", isatap, []netip.Prefix{all}, host6, addr("2001:db8:5::5efe:203.0.113.5"), site4, 0, other4, encap.DropMappedSource},
		{"ISATAP: or come from a router", isatap, []netip.Prefix{all}, host6, native, relay4, 0, site4, encap.DropNotRelay},
	} {
		for _, hub := range []bool{false, true} {
			bubble(t, fmt.Sprintf("%s, hub %t", c.name, hub), func(t *testing.T) {
				table := TableConfig{Ours: hostTable().Ours, Peers: []Peer{mappedPeer(c.m, c.prefixes...)}}
				if hub {
					table.Peers, table.Hub = append(hubTable(2).Peers, table.Peers...), true
				}
				r := newRig(t, Config{}, table).start(t)
				out, in := udp(c.src, c.dst, 1, 100), udp(c.dst, c.src, 1, 100)
				drops, want := map[encap.Drop]uint64{}, [][]byte{}
				if drops[c.want]++; c.want == encap.Forward {
					want = append(want, packettest.Outer(ours4, c.to, 1, out))
				}
				equalPackets(t, "sent", r.out(out), want...)
				drain(r.toTUN) // answers
				want = nil
				if drops[c.back]++; c.back == encap.Forward {
					want = append(want, in)
				}
				equalPackets(t, "received", r.in(wrapped(c.from, in)), want...)
				drops[encap.Forward] = 0
				wantDrops(t, r.Engine, drops)
				s := r.Stats()
				last := s.Peers[len(s.Peers)-1]
				if last.Tx != s.Tx || last.Rx != s.Rx || s.Tx.Packets+s.Rx.Packets+dropped(r.lanes[0])+dropped(r.lanes[1]) != 2 {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// TestMappedBesideOthers: the peers of a hub are found as ever, by longest prefix and by
// outer address, and a table has one mapping.
func TestMappedBesideOthers(t *testing.T) {
	m, err := encap.Map6to4(ours4)
	mapping(t, m, err)
	table := hubTable(2)
	table.Peers = append(table.Peers, mappedPeer(m, of6to4))
	special := netip.MustParsePrefix("2002:cb00:7105::/48")
	table.Peers[0].Prefixes = append(table.Peers[0].Prefixes, special)
	bubble(t, "longest prefix", func(t *testing.T) {
		r := newRig(t, Config{}, table).start(t)
		a, b := udp(own6to4, site6, 1, 100), udp(host6, h1, 1, 100)
		equalPackets(t, "sent", r.out(a, b), packettest.Outer(ours4, hubAddr(0), 1, a), packettest.Outer(ours4, hubAddr(1), 1, b))
		equalPackets(t, "received", r.in(wrapped(hubAddr(1), udp(h1, host6, 1, 100))), udp(h1, host6, 1, 100))
		wantDrops(t, r.Engine, nil)
	})
	table.Peers = append(table.Peers, mappedPeer(m, all))
	if _, err := NewTable(table); err == nil {
		t.Error("two mappings in a table")
	}
}

// TestMappedChange: a mapping comes, and its counters stay while a table is replaced.
func TestMappedChange(t *testing.T) {
	m, err := encap.Map6to4(ours4)
	mapping(t, m, err)
	bubble(t, "change", func(t *testing.T) {
		r := newRig(t, Config{}, hubTable(2)).start(t)
		if refused := r.Change(nil, []Peer{mappedPeer(m, of6to4)}); len(refused) != 0 {
			t.Fatal(refused)
		}
		p := udp(own6to4, site6, 1, 100)
		equalPackets(t, "sent", r.out(p), packettest.Outer(ours4, site4, 1, p))
		r.SetTable(mustTable(t, TableConfig{Peers: []Peer{mappedPeer(m, of6to4)}}))
		equalPackets(t, "sent", r.out(p), packettest.Outer(ours4, site4, 2, p))
		if refused := r.Change([]netip.Addr{netip.IPv4Unspecified()}, nil); len(refused) != 0 {
			t.Fatal(refused)
		}
		r.out(p)
		wantDrops(t, r.Engine, map[encap.Drop]uint64{encap.DropNoPeer: 1})
	})
}

// TestMappedICMP: errors about packets to mapped peers are believed when the quoted
// destination is the one that the mapping gives.
func TestMappedICMP(t *testing.T) {
	m, err := encap.Map6to4(ours4)
	mapping(t, m, err)
	bubble(t, "6to4", func(t *testing.T) {
		relay := packettest.NewQueue()
		r := newRig(t, Config{Relay: relay}, TableConfig{Ours: hostTable().Ours, Peers: []Peer{mappedPeer(m, of6to4)}}).start(t)
		for _, to := range []netip.Addr{site4, other4} {
			r.ICMP(icmp4(3, 1, 0, packettest.Outer(ours4, to, 1, udp(own6to4, site6, 1, 100)), 548))
		}
		if n := len(drain(relay)); n != 1 || r.Stats().ICMP.Doubted[encap.DoubtInnerForeign] != 1 {
			t.Errorf("%d relayed, %+v", n, r.Stats().ICMP)
		}
	})
}
