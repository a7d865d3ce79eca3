//go:build 386 || amd64 || arm || arm64 || loong64 || mipsle || mips64le || ppc64le || riscv64

package kernelpath

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
)

// knows fails the test unless the programs know these peers, and have these routes.
func (p *path) knows(t *testing.T, when string, peers []Peer, routes map[netip.Prefix]way) {
	t.Helper()
	var key ends
	var value peer
	known := make(map[ends]peer)
	for all := p.maps[mapPeers].Iterate(); all.Next(&key, &value); {
		known[key] = value
	}
	if len(known) != len(peers) || len(p.peers) != len(peers) {
		t.Errorf("%s: %d peers, and %d on our side, want %d", when, len(known), len(p.peers), len(peers))
	}
	for _, want := range peers {
		if got, ok := known[want.ends()]; !ok || got.Prefixes != want.forKernel().Prefixes {
			t.Errorf("%s: peer %v known: %t, with %x", when, want.Remote, ok, got.Prefixes)
		}
	}
	var to route
	var by way
	found := make(map[netip.Prefix]way)
	for all := p.maps[mapRoutes].Iterate(); all.Next(&to, &by); {
		found[netip.PrefixFrom(netip.AddrFrom16(to.Dst), int(to.Bits))] = by
	}
	if !maps.Equal(found, routes) {
		t.Errorf("%s: routes %v, want %v", when, found, routes)
	}
}

// carry makes counters of a peer that no packet made.
func (p *path) carry(t *testing.T, of Peer) {
	t.Helper()
	var value peer
	if err := p.maps[mapPeers].Lookup(of.ends(), &value); err != nil {
		t.Fatal(err)
	}
	value.TxPackets, value.TxBytes, value.RxPackets, value.RxBytes, value.Heard = 1, 2, 3, 4, 5
	if err := p.maps[mapPeers].Update(of.ends(), &value, ebpf.UpdateExist); err != nil {
		t.Fatal(err)
	}
}

func wayTo(p Peer) way { return way{Ends: p.ends(), Link: uint32(p.Link), MTU: uint32(p.MTU)} }

// TestPeers adds, changes and removes peers, and looks at what the programs know.
func TestPeers(t *testing.T) {
	withRoom(t, 8, func(p *Path, _, link int) error {
		a, b := aPeer(2, link), aPeer(3, link)
		b.Prefixes = append(b.Prefixes, prefixOf(9))
		none, some := Stats{}, Count{3, 4}
		stats := func(when string, of Peer, want bool) {
			t.Helper()
			s, ok := p.PeerStats(of.Local, of.Remote)
			if !ok || want != (s.Rx == some) || want != (s.Tx == Count{1, 2}) || want == s.LastHeard.IsZero() || !want && s != none {
				t.Errorf("%s: %t, %+v; counted: want %t", when, ok, s, want)
			}
		}
		put := func(of Peer) {
			t.Helper()
			if err := p.PutPeer(of); err != nil {
				t.Error(err)
			}
		}
		if s, ok := p.PeerStats(a.Local, a.Remote); ok || s != none {
			t.Errorf("before: %+v", s)
		}
		put(a)
		put(b)
		stats("new", a, false)
		two := map[netip.Prefix]way{prefixOf(2): wayTo(a), prefixOf(3): wayTo(b), prefixOf(9): wayTo(b)}
		p.knows(t, "two", []Peer{a, b}, two)

		p.carry(t, a)
		a.Link, a.MTU, a.Trial = link+1, 1280, true
		put(a)
		two[prefixOf(2)] = way{Ends: a.ends(), Link: uint32(link + 1), MTU: 1280, Trial: 1}
		p.knows(t, "another link", []Peer{a, b}, two)
		stats("another link", a, true)
		a.Trial = false
		put(a)
		two[prefixOf(2)] = wayTo(a)
		p.knows(t, "the trial is over", []Peer{a, b}, two)
		stats("the trial is over", a, true)
		stats("of the other", b, false)

		a.Prefixes = []netip.Prefix{netip.MustParsePrefix("2001:db8:2::/65")}
		put(a)
		delete(two, prefixOf(2))
		two[a.Prefixes[0]] = wayTo(a)
		p.knows(t, "another prefix", []Peer{a, b}, two)
		stats("another prefix", a, false)

		other := netip.AddrPortFrom(a.Remote.Addr(), 4001)
		if err := errors.Join(p.RemovePeer(a.Local, other), p.RemovePeer(a.Remote, a.Local), p.RemovePeer(netip.AddrPort{}, a.Remote)); err != nil {
			t.Errorf("peers that are not there: %v", err)
		}
		if _, ok := p.PeerStats(a.Local, other); ok {
			t.Error("statistics of a peer that is not there")
		}
		if _, ok := p.PeerStats(a.Local, netip.AddrPort{}); ok {
			t.Error("statistics of no peer")
		}
		p.knows(t, "nothing removed", []Peer{a, b}, two)
		if err := errors.Join(p.RemovePeer(b.Local, b.Remote), p.RemovePeer(b.Local, b.Remote)); err != nil {
			t.Error(err)
		}
		p.knows(t, "one removed", []Peer{a}, map[netip.Prefix]way{a.Prefixes[0]: wayTo(a)})
		if err := p.PutPeer(Peer{}); err == nil || !strings.HasPrefix(err.Error(), "kernel path: ends") {
			t.Errorf("no peer: %v", err)
		}
		return nil
	})
}

// TestPeersExchange: two peers change prefixes one after the other, by whichever way.
func TestPeersExchange(t *testing.T) {
	withRoom(t, 2, func(p *Path, _, link int) error {
		a, b := aPeer(2, link), aPeer(3, link)
		if err := errors.Join(p.PutPeer(a), p.PutPeer(b)); err != nil {
			return err
		}
		a.Prefixes, b.Prefixes = b.Prefixes, a.Prefixes
		if err := errors.Join(p.PutPeer(a), p.PutPeer(b)); err != nil {
			return err
		}
		p.knows(t, "exchanged", []Peer{a, b}, map[netip.Prefix]way{prefixOf(3): wayTo(a), prefixOf(2): wayTo(b)})
		b.Prefixes = a.Prefixes // a peer that is at another port now, before the old one is taken away
		if err := p.PutPeer(b); err != nil {
			return err
		}
		p.knows(t, "taken over", []Peer{a, b}, map[netip.Prefix]way{prefixOf(3): wayTo(b)})
		if err := p.RemovePeer(a.Local, a.Remote); err != nil {
			return err
		}
		p.knows(t, "the one before is gone", []Peer{b}, map[netip.Prefix]way{prefixOf(3): wayTo(b)})
		return nil
	})
}

// TestPeersFull: no peer too many, and none that is half there.
func TestPeersFull(t *testing.T) {
	for _, room := range []int{0, 1} {
		withRoom(t, room, func(p *Path, _, link int) error {
			a, b := aPeer(2, link), aPeer(3, link)
			a.Prefixes = append(a.Prefixes, prefixOf(9))
			if err := p.PutPeer(a); err != nil {
				return err
			}
			only := map[netip.Prefix]way{prefixOf(2): wayTo(a), prefixOf(9): wayTo(a)}
			if err := p.PutPeer(b); err == nil || !strings.HasPrefix(err.Error(), "kernel path: add a peer: ") || errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("no room: %v", err)
			}
			p.knows(t, "full", []Peer{a}, only)
			a.MTU = 1300
			if err := p.PutPeer(a); err != nil {
				t.Errorf("a change where there is no room: %v", err)
			}
			a.Prefixes = []netip.Prefix{prefixOf(4), prefixOf(5)}
			if err := p.PutPeer(a); err != nil {
				t.Errorf("other prefixes where there is no room: %v", err)
			}
			p.knows(t, "changed", []Peer{a}, map[netip.Prefix]way{prefixOf(4): wayTo(a), prefixOf(5): wayTo(a)})
			if err := errors.Join(p.RemovePeer(a.Local, a.Remote), p.PutPeer(b)); err != nil {
				t.Errorf("room again: %v", err)
			}
			p.knows(t, "room again", []Peer{b}, map[netip.Prefix]way{prefixOf(3): wayTo(b)})
			return nil
		})
	}
}

// TestPeersClosed: a path that is closed says so, or nothing.
func TestPeersClosed(t *testing.T) {
	withRoom(t, 2, func(p *Path, _, link int) error {
		a := aPeer(2, link)
		if err := errors.Join(p.PutPeer(a), p.Close()); err != nil {
			return err
		}
		if err := p.PutPeer(a); !errors.Is(err, os.ErrClosed) {
			t.Errorf("put: %v", err)
		}
		if err := p.RemovePeer(a.Local, a.Remote); !errors.Is(err, os.ErrClosed) {
			t.Errorf("remove: %v", err)
		}
		if s, ok := p.PeerStats(a.Local, a.Remote); ok || s != (Stats{}) {
			t.Errorf("statistics: %+v", s)
		}
		return nil
	})
}

// TestSetHub: programs are at the links that a hub has now, and peers and what was
// counted outlive the flow.
func TestSetHub(t *testing.T) {
	withRoom(t, 2, func(p *Path, _, link int) error {
		l, err := net.InterfaceByName("b0")
		if err != nil {
			return err
		}
		second := l.Index
		a := aPeer(2, link)
		look := func(when string, want ...int) {
			t.Helper()
			for _, at := range []int{link, second} {
				if ids, err := p.Programs(at); err != nil || (len(ids) == 1) != slices.Contains(want, at) || len(ids) > 1 {
					t.Errorf("%s: programs %v at link %d, %v", when, ids, at, err)
				}
			}
			p.knows(t, when, []Peer{a}, map[netip.Prefix]way{prefixOf(2): wayTo(a)})
			if s, ok := p.PeerStats(a.Local, a.Remote); !ok || s.Rx != (Count{3, 4}) {
				t.Errorf("%s: %t, %+v", when, ok, s)
			}
		}
		if err := p.PutPeer(a); err != nil {
			return err
		}
		p.carry(t, a)
		look("before")
		hub := func(links ...int) *Flow { return &Flow{Here: aFlow().Here, Hub: &Hub{Links: links}} }
		for _, step := range []struct {
			name  string
			flow  *Flow
			links []int
		}{
			{"one link", hub(link), []int{link}},
			{"another besides", hub(link, second), []int{link, second}},
			{"the other way round, and twice", hub(second, link, second), []int{link, second}},
			{"the other", hub(second), []int{second}},
			{"nothing", nil, nil},
			{"both at once", hub(link, second), []int{link, second}},
		} {
			if err := p.Set(step.flow); err != nil {
				t.Errorf("%s: %v", step.name, err)
			}
			look(step.name, step.links...)
		}
		if err := p.Set(hub()); err == nil || !strings.Contains(err.Error(), "without links") {
			t.Errorf("without links: %v", err)
		}
		look("without links")
		if err := p.Set(hub(link, 1<<20)); err == nil || errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("a link that is not there: %v", err)
		}
		look("a link that is not there")
		return nil
	})
}

// TestSetHubLinkGone: a link that goes away takes its program along, and stands in nobody's
// way.
func TestSetHubLinkGone(t *testing.T) {
	withRoom(t, 1, func(p *Path, _, link int) error {
		more := func(name, peer string) int {
			t.Helper()
			if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: peer}); err != nil {
				t.Fatal(err)
			}
			l, err := net.InterfaceByName(name)
			if err != nil {
				t.Fatal(err)
			}
			return l.Index
		}
		set := func(links ...int) error { return p.Set(&Flow{Here: aFlow().Here, Hub: &Hub{Links: links}}) }
		passing := more("c0", "d0")
		if err := set(link, passing); err != nil {
			return err
		}
		l, err := netlink.LinkByName("c0")
		if err != nil {
			return err
		}
		if err := netlink.LinkDel(l); err != nil {
			return err
		}
		if ids, err := p.Programs(link); len(ids) != 1 || err != nil {
			t.Errorf("at the link that stays: %v, %v", ids, err)
		}
		if err := set(link); err != nil {
			t.Errorf("without it: %v", err)
		}
		again := more("c0", "d0")
		if err := set(link, again); err != nil {
			t.Errorf("with a new one: %v", err)
		}
		if ids, err := p.Programs(again); len(ids) != 1 || err != nil {
			t.Errorf("at the new one: %v, %v", ids, err)
		}
		return nil
	})
}
