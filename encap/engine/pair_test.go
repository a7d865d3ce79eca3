package engine

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/encap"
	"sixin4/encap/packet"
	"sixin4/encap/packettest"
)

// newPair returns two engines, each the other's only peer, with the wire's two
// ways given. A has the network 2001:db8:aaaa::/48, B has 2001:db8:bbbb::/48.
func newPair(t *testing.T, ab, ba interface {
	Reader
	Writer
}, cfg Config) (a, b *rig) {
	a, b = newRig(t, cfg, hostTable()), newRig(t, cfg, TableConfig{
		Peers: []Peer{{Remote: ours4, Prefixes: []netip.Prefix{all}, Outer: encap.Outer{Src: peer4}}},
		Ours:  []netip.Prefix{netip.PrefixFrom(peer6, 128), netip.MustParsePrefix("2001:db8:bbbb::/48")},
	})
	a.lanes[1].Out, a.lanes[0].In = ab, ba
	b.lanes[1].Out, b.lanes[0].In = ba, ab
	return a.start(t), b.start(t)
}

// innerPackets is one of each kind that has to arrive as it was sent.
func innerPackets(src, dst netip.Addr) [][]byte {
	from, to := netip.AddrPortFrom(src, 40000), netip.AddrPortFrom(dst, 443)
	padded := packettest.IPv6(src, dst, 59, nil)
	hopByHop := packettest.IPv6(src, dst, 0, []byte{59, 0, 5, 2, 0, 0, 1, 0})
	ect := udp(src, dst, 9, 100)
	ect[1] |= 2 << 4
	ce := udp(src, dst, 9, 100)
	ce[1] |= 3 << 4
	class := udp(src, dst, 9, 100)
	class[0], class[1], class[3], class[7] = 0x6b, 0x85, 0x77, 1
	return [][]byte{
		packettest.TCP(from, to, 1, nil), packettest.TCP(from, to, 1, packettest.Pattern(1, 1420)),
		packettest.UDP(from, to, nil), udp(src, dst, 1, 1480), udp(src, dst, 2, 1279),
		echo(src, dst), padded, hopByHop, ect, ce, class,
		packettest.IPv6(src, dst, 44, []byte{17, 0, 5, 1, 0, 0, 0, 9, 1, 2, 3}),
	}
}

// TestPair: what A's kernel sends, B's kernel gets, byte by byte, and back.
func TestPair(t *testing.T) {
	for _, split := range []int{0, 60} {
		bubble(t, fmt.Sprintf("head of %d bytes", split), func(t *testing.T) {
			a, b := newPair(t, packettest.NewQueue(), packettest.NewQueue(), Config{})
			a.fromTUN.Split = split
			there, back := innerPackets(host6, netip.MustParseAddr("2001:db8:bbbb::1")), innerPackets(netip.MustParseAddr("2001:db8:bbbb::1"), host6)
			for range 50 {
				a.fromTUN.Push(there...)
				b.fromTUN.Push(back...)
			}
			synctest.Wait()
			equalPackets(t, "A to B", drain(b.toTUN), slices.Repeat(there, 50)...)
			equalPackets(t, "B to A", drain(a.toTUN), slices.Repeat(back, 50)...)
			n := uint64(len(there) * 50)
			for name, e := range map[string]*rig{"A": a, "B": b} {
				s := e.Stats()
				if s.Tx.Packets != n || s.Rx.Packets != n || s.Tx.Bytes != s.Rx.Bytes || s.Peers[0].LastHeard != time.Now() {
					t.Errorf("%s: %+v", name, s)
				}
				wantDrops(t, e.Engine, nil)
			}
		})
	}
}

// TestPairOverBadCable: whatever the wire does, what arrives is what was sent,
// and each end has counted what it saw.
func TestPairOverBadCable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := packettest.CableConfig{Loss: 0.1, Duplicate: 0.1, Reorder: 0.1, Delay: 20 * time.Millisecond, Seed: 41}
		ab, ba := packettest.NewCable(bad), packettest.NewCable(bad)
		a, b := newPair(t, ab, ba, Config{})
		dst := netip.MustParseAddr("2001:db8:bbbb::1")
		for i := range 1000 {
			a.fromTUN.Push(udp(host6, dst, i, 60+i))
		}
		<-time.After(time.Second)
		synctest.Wait()
		got, s := drain(b.toTUN), ab.Stats()
		for _, g := range got {
			if i := numberOf(g); !bytes.Equal(g, udp(host6, dst, i, 60+i)) {
				t.Fatalf("packet %d has changed: % x", i, g)
			}
		}
		if s.Lost == 0 || s.Duplicated == 0 || s.Reordered == 0 || len(got) != 1000-s.Lost+s.Duplicated {
			t.Errorf("%d arrived: %+v", len(got), s)
		}
		if tx, rx := a.Stats().Tx.Packets, b.Stats().Rx.Packets; tx != 1000 || rx != uint64(len(got)) {
			t.Errorf("sent %d, received %d of %d", tx, rx, len(got))
		}
	})
}

// TestHubRoutes: each of a thousand peers gets its own packets and no others, and
// each may send from its own prefix.
func TestHubRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000
		r := newRig(t, Config{}, hubTable(n)).start(t)
		var out, in, want [][]byte
		for i := range n {
			out = append(out, udp(host6, hubHost(i), i, 200))
			want = append(want, udp(hubHost(i), host6, i, 100+i%7))
			in = append(in, wrapped(hubAddr(i), want[i]))
		}
		sent := r.out(out...)
		for i, b := range sent {
			if dst := encap.IPv4(b).Dst(); dst != hubAddr(i) || !bytes.Equal(b[20:], out[i]) {
				t.Fatalf("packet %d went to %v", i, dst)
			}
		}
		equalPackets(t, "from peers", r.in(in...), want...)
		wantDrops(t, r.Engine, nil)
		s := r.Stats()
		for i, p := range s.Peers {
			if p.Remote != hubAddr(i) || p.Tx != (Count{1, 200}) || p.Rx != (Count{1, uint64(100 + i%7)}) || p.Prefixes[0] != hubPrefix(i) || p.LastHeard.IsZero() {
				t.Fatalf("peer %d: %+v", i, p)
			}
		}
		if len(sent) != n || len(s.Peers) != n || s.Tx.Packets != n || s.Rx.Packets != n {
			t.Errorf("%d sent, %d peers, %+v, %+v", len(sent), len(s.Peers), s.Tx, s.Rx)
		}
	})
}

// uplinkTable is a hub whose first peer has everything that no other one has.
func uplinkTable() TableConfig {
	c := hubTable(3)
	c.Peers[0].Prefixes = append(c.Peers[0].Prefixes, all)
	return c
}

// TestHubLinkLocal: a neighbour solicitation to the link-local address of a peer
// finds it (RFC 4213, Section 3.8), whatever prefixes there are.
func TestHubLinkLocal(t *testing.T) {
	for name, table := range map[string]TableConfig{"hub": hubTable(1000), "hub with a default peer": uplinkTable()} {
		bubble(t, name, func(t *testing.T) {
			r := newRig(t, Config{}, table).start(t)
			for i := range min(len(table.Peers), 300) {
				dst := linkLocal4(hubAddr(i))
				p := solicitation(linkLocal4(ours4), dst, dst)
				sent := r.out(p)
				if len(sent) != 1 || encap.IPv4(sent[0]).Dst() != hubAddr(i) || !bytes.Equal(sent[0][20:], p) {
					t.Fatalf("to peer %d: % x", i, sent)
				}
			}
			wantDrops(t, r.Engine, nil)
		})
	}
}

// TestHubLinkLocalNobody: neither a link-local address of no peer, nor one that
// only ends like a peer's, nor link scope multicast has a way out of a hub.
func TestHubLinkLocalNobody(t *testing.T) {
	for _, table := range []TableConfig{hubTable(3), uplinkTable()} {
		bubble(t, fmt.Sprint(len(table.Peers[0].Prefixes), " prefixes"), func(t *testing.T) {
			r := newRig(t, Config{}, table).start(t)
			like := linkLocal4(hubAddr(1)).As16()
			like[7] = 1
			for _, dst := range []netip.Addr{linkLocal4(other4), netip.AddrFrom16(like), netip.MustParseAddr("fe80::1234:5678:9abc:def0"), netip.MustParseAddr("ff02::1")} {
				if sent := r.out(echo(linkLocal4(ours4), dst)); len(sent) != 0 {
					t.Errorf("%v went to %v", dst, encap.IPv4(sent[0]).Dst())
				}
			}
			wantDrops(t, r.Engine, map[encap.Drop]uint64{encap.DropNoPeer: 4})
		})
	}
}

// TestHostSendsEverythingToItsPeer, link scope too.
func TestHostSendsEverythingToItsPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{}, hostTable()).start(t)
		for _, dst := range []netip.Addr{other6, peer6, linkLocal4(peer4), linkLocal4(other4), netip.MustParseAddr("ff02::2"), netip.MustParseAddr("fd00::1"), ours6} {
			for _, src := range []netip.Addr{ours6, host6, linkLocal4(ours4), other6} {
				if sent := r.out(echo(src, dst)); len(sent) != 1 || encap.IPv4(sent[0]).Dst() != peer4 {
					t.Errorf("%v to %v: % x", src, dst, sent)
				}
			}
		}
		wantDrops(t, r.Engine, nil)
	})
}

// TestMergedPacketsStayMerged: what the wire says of a packet reaches the TUN.
func TestMergedPacketsStayMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{}, hostTable()).start(t)
		inner := packettest.TCP(netip.AddrPortFrom(other6, 1), netip.AddrPortFrom(host6, 2), 1, packettest.Pattern(0, 30000))
		copy(inner[56:], []byte{0, 0})
		sum := packettest.Sum(packettest.PseudoHeader(inner, 6))
		inner[56], inner[57] = byte(sum>>8), byte(sum)
		r.fromWire.PushEntries(packettest.Entry{Bytes: wrapped(peer4, inner), Seg: 1400})
		synctest.Wait()
		got := r.toTUN.Drain()
		if len(got) != 1 || got[0].Seg != 1400 || got[0].Sum != packet.SumPartial || !bytes.Equal(got[0].Bytes, inner) {
			t.Errorf("%+v", got)
		}
		if s := r.Stats(); s.Rx != (Count{1, uint64(len(inner))}) {
			t.Errorf("%+v", s.Rx)
		}
	})
}
