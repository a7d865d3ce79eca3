package e2e

import (
	"net/netip"
	"testing"

	"sixin4/encap"
	"sixin4/encap/engine"
	"sixin4/encap/kernelpath"
	"sixin4/tun/nstest"
)

// The inner addresses of a hub: its own, and those of its clients.
const (
	innerHub = innerA
	innerOne = "2001:db8::101"
	innerTwo = "2001:db8::102"
)

// star is a hub whose clients come by a link each: one from 192.0.2.2 on b0 to a0, the
// other from 198.51.100.2 on c0 to h1, with 2001:db8:c::/64 behind it.
type star struct {
	top           *nstest.Topology // of the hub, A, and client one, B
	hub, one, two *host
	paths         [3]*kernelpath.Path // of hub, one and two
	tells         []kernelpath.Peer   // what the hub's was told
}

const portHub = 3653

// newStar is up, by the kernel wherever byKernel is true for the hub, one, two.
func newStar(t testing.TB, byKernel [3]bool, edits ...func(*end)) *star {
	t.Helper()
	s := &star{top: pair(t)}
	second := nstest.Open(t)
	must(t, nstest.Link(s.top.A, "h1", second, "c0"), s.top.A.AddAddr("h1", "198.51.100.1/24"),
		second.AddAddr("c0", "198.51.100.2/24"), second.AddRoute("192.0.2.0/24", "198.51.100.1"))
	addrTwo := netip.MustParseAddr("198.51.100.2")
	client := func(remote netip.Addr, port uint16, prefixes ...string) engine.Peer {
		p := engine.Peer{Remote: remote, Port: port, Outer: encap.Outer{Src: s.top.AddrA}}
		for _, x := range prefixes {
			p.Prefixes = append(p.Prefixes, netip.MustParsePrefix(x))
		}
		return p
	}
	hub := end{
		ns: s.top.A, local: s.top.AddrA, inner: innerHub + "/64", via: "2001:db8:c::/64", port: portHub,
		clients: []engine.Peer{client(s.top.AddrB, 4000, innerOne+"/128"), client(addrTwo, 5000, innerTwo+"/128", "2001:db8:c::/64")},
		blocked: engine.Ports{TCP: []uint16{25}, UDP: []uint16{19}},
	}
	for _, edit := range edits {
		edit(&hub)
	}
	s.hub = tunnel(t, hub)
	far := []netip.Addr{s.top.AddrA}
	s.one = tunnel(t, end{ns: s.top.B, local: s.top.AddrB, inner: innerOne + "/128", remotes: far, via: "2001:db8::/32", port: 4000, farPort: portHub})
	s.two = tunnel(t, end{ns: second, local: addrTwo, inner: innerTwo + "/128", remotes: far, via: "2001:db8::/32", port: 5000, farPort: portHub})
	if byKernel[0] {
		s.paths[0] = s.shortcut(t)
	}
	if byKernel[1] {
		s.paths[1] = shortcutBy(t, s.one, s.top.LinkB, s.top.A, s.top.LinkA)
	}
	if byKernel[2] {
		s.paths[2] = shortcutBy(t, s.two, "c0", s.top.A, "h1")
	}
	return s
}

// shortcut lets the kernel carry what it can of the hub's packets.
func (s *star) shortcut(t testing.TB) *kernelpath.Path {
	t.Helper()
	_, a0 := mac(t, s.hub.ns, s.top.LinkA)
	_, h1 := mac(t, s.hub.ns, "h1")
	outer := s.hub.outer
	p := carryBy(t, s.hub, &kernelpath.Flow{
		Outer: outer, Asks: ownEcho, Here: []netip.Addr{s.hub.source()},
		// All that there is, but for what is more exactly a client's; and a part of what is a client's.
		Ours: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2001:db8:c:0:1::/80")},
		Hub:  &kernelpath.Hub{Links: []int{a0, h1}, Blocked: []kernelpath.Port{{Protocol: 6, Number: 25}, {Protocol: 17, Number: 19}}},
	})
	for i, link := range []int{a0, h1} {
		c := s.hub.clients[i]
		s.tells = append(s.tells, kernelpath.Peer{
			Local: netip.AddrPortFrom(s.hub.local, portHub), Remote: netip.AddrPortFrom(c.Remote, c.Port),
			Prefixes: c.Prefixes, Link: link, MTU: s.hub.mtu(),
		})
		must(t, p.PutPeer(s.tells[i]))
	}
	return p
}

// of returns what the hub's path has carried for a client, 0 or 1.
func (s *star) of(t testing.TB, client int) kernelpath.Stats {
	t.Helper()
	stats, ok := s.paths[0].PeerStats(s.tells[client].Local, s.tells[client].Remote)
	if !ok {
		t.Fatalf("no statistics of client %d", client)
	}
	return stats
}

var everywhere = [3]bool{true, true, true}

// TestKernelHubTransfer: a hub and its clients by the kernel, and either of them alone.
func TestKernelHubTransfer(t *testing.T) {
	for _, c := range []struct {
		name     string
		byKernel [3]bool
	}{{"everywhere", everywhere}, {"the hub alone", [3]bool{true, false, false}}, {"the clients alone", [3]bool{false, true, true}}} {
		t.Run(c.name, func(t *testing.T) {
			s := newStar(t, c.byKernel)
			size := medium() / 10
			third := behind(t, s.two.ns, 1400)
			ns := []*nstest.NS{s.one.ns, s.two.ns, third}
			for i, addr := range []string{innerOne, innerTwo, innerC} {
				transfer(t, s.hub.ns, ns[i], addr, size)
				transfer(t, ns[i], s.hub.ns, innerHub, size/2)
			}
			least := uint64(size)
			if c.byKernel[0] {
				one, two, all := s.of(t, 0), s.of(t, 1), carried(t, s.paths[0])
				if one.Tx.Bytes < least || two.Tx.Bytes < 2*least || one.LastHeard.IsZero() != !c.byKernel[1] {
					t.Errorf("the hub's kernel carried only %+v and %+v", one, two)
				}
				if c.byKernel[1] && (one.Rx.Bytes < least/2 || two.Rx.Bytes < least) {
					t.Errorf("the hub's kernel carried in only %+v and %+v", one.Rx, two.Rx)
				}
				if all.Tx.Packets != one.Tx.Packets+two.Tx.Packets || all.Rx.Bytes != one.Rx.Bytes+two.Rx.Bytes || all.TxWhole == 0 {
					t.Errorf("in all %+v, of one %+v, of two %+v", all, one, two)
				}
			}
			if c.byKernel[2] {
				two := carried(t, s.paths[2])
				if two.Tx.Bytes < least/2 || c.byKernel[0] && two.Rx.Bytes < least {
					t.Errorf("the client's kernel carried only %+v", two)
				}
			}
			s.drops(t)
		})
	}
}

// TestKernelHubForwarded: to a network behind the hub packets come in by the engine, from
// there they go out by the kernel. What one client sends to another is the engine's.
func TestKernelHubForwarded(t *testing.T) {
	s := newStar(t, everywhere)
	third := behindHub(t, s.hub.ns)
	size := medium() / 10
	transfer(t, s.one.ns, s.two.ns, innerTwo, size)
	if all := carried(t, s.paths[0]); all.Tx.Packets+all.Rx.Packets != 0 {
		t.Errorf("from client to client: %+v", all)
	}
	transfer(t, s.one.ns, third, innerE, size)
	if in := s.of(t, 0).Rx.Packets; in != 0 {
		t.Errorf("%d packets to be forwarded came in by the kernel", in)
	}
	before := s.of(t, 1).Tx.Bytes
	transfer(t, third, s.two.ns, innerTwo, size)
	if out := s.of(t, 1).Tx.Bytes - before; out < uint64(size) {
		t.Errorf("%d bytes from the network went out by the kernel, want %d", out, size)
	}
	s.drops(t, encap.DropInnerRouter) // from client to client is not the shortest way
}

// drops is that of its hosts. The hub has no peer for the kernel's multicast.
func (s *star) drops(t testing.TB, allowed ...encap.Drop) {
	t.Helper()
	for _, h := range []*host{s.hub, s.one, s.two} {
		h.drops(t, append(allowed, fullRing, encap.DropNoPeer)...)
	}
}

const innerE = "2001:db8:e::2"

// behindHub adds a host on a network behind the hub.
func behindHub(t testing.TB, hub *nstest.NS) *nstest.NS {
	t.Helper()
	e := nstest.Open(t)
	must(t, nstest.Link(hub, "lan1", e, "e0"), hub.Sysctl("net/ipv6/conf/all/forwarding", "1"),
		hub.AddAddr("lan1", "2001:db8:e::1/64"), e.AddAddr("e0", innerE+"/64"), e.AddRoute("::/0", "2001:db8:e::1"))
	return e
}
