package kernelpath

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sixin4/encap"
)

// aPeer is number n of a hub's, with a /64 of its own.
func aPeer(n, link int) Peer {
	return Peer{
		Local: netip.MustParseAddrPort("192.0.2.1:3653"), Remote: netip.MustParseAddrPort(fmt.Sprintf("192.0.2.%d:4000", n)),
		Prefixes: []netip.Prefix{prefixOf(n)}, Link: link, MTU: 1472,
	}
}

func prefixOf(n int) netip.Prefix { return netip.MustParsePrefix(fmt.Sprintf("2001:db8:%d::/64", n)) }

// TestForKernelUDP: what a tunnel in UDP has besides.
func TestForKernelUDP(t *testing.T) {
	f := aFlow()
	if k := f.forKernel(7); k.UDP != 0 || k.Hub != 0 || k.Way.Ends.SrcPort != [2]byte{} || k.Way.Ends.DstPort != [2]byte{} || k.Way.Trial != 0 {
		t.Errorf("of protocol 41: %+v", k.Way)
	}
	f.SrcPort, f.DstPort, f.Asks, f.Trial = 0x1234, 3653, 0x5678, true
	want := way{Ends: ends{[4]byte{192, 0, 2, 1}, [4]byte{192, 0, 2, 2}, [2]byte{0x12, 0x34}, [2]byte{0x0e, 0x45}}, Link: 1, MTU: 1480, Trial: 1}
	if k := f.forKernel(7); k.UDP != 1 || k.Hub != 0 || k.Asks != [2]byte{0x56, 0x78} || k.Way != want {
		t.Errorf("UDP %d, hub %d, asks % x, %+v, want %+v", k.UDP, k.Hub, k.Asks, k.Way, want)
	}
}

func TestForKernelHub(t *testing.T) {
	f := &Flow{
		Outer: encap.Outer{TTL: 9, DSCP: 0x20, ClearDF: true}, Asks: 0x5678,
		Here: []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")},
		Hub:  &Hub{Links: []int{5, 6}, Blocked: []Port{{6, 25}, {17, 0x1234}}},
	}
	k := f.forKernel(7)
	if k.Device != 7 || k.Hub != 1 || k.UDP != 1 || k.TTL != 9 || k.TOS != 0x20 || k.DF != [2]byte{} || k.Asks != [2]byte{0x56, 0x78} || k.Way != (way{}) {
		t.Errorf("%+v", k)
	}
	if k.HereLen != 2 || k.Here[1] != f.Here[1].As16() || k.OursLen != 0 {
		t.Errorf("%d addresses %x, %d prefixes", k.HereLen, k.Here[:2], k.OursLen)
	}
	smtp, other := k.BlockedPorts[0], k.BlockedPorts[1]
	if k.Blocked != 2 || smtp.Number != [2]byte{0, 25} || smtp.Protocol != 6 || other.Number != [2]byte{0x12, 0x34} || other.Protocol != 17 {
		t.Errorf("%d blocked: %v", k.Blocked, k.BlockedPorts[:3])
	}
	if got := f.links(); !slices.Equal(got, f.Hub.Links) {
		t.Errorf("links %v", got)
	}
	if got := aFlow().links(); !slices.Equal(got, []int{1}) {
		t.Errorf("links of one far end: %v", got)
	}
}

func TestPeerCheck(t *testing.T) {
	for _, tt := range []struct {
		name        string
		edit        func(*Peer)
		want        string // in the error; empty: none
		unsupported bool
	}{
		{"fine", func(*Peer) {}, "", false},
		{"two prefixes", func(p *Peer) { p.Prefixes = append(p.Prefixes, prefixOf(9)) }, "", false},
		{"on trial", func(p *Peer) { p.Trial = true }, "", false},
		{"IPv6 here", func(p *Peer) { p.Local = netip.MustParseAddrPort("[2001:db8::1]:1") }, "[2001:db8::1]:1 and 192.0.2.2:4000: not of IPv4", false},
		{"IPv6 there", func(p *Peer) { p.Remote = netip.MustParseAddrPort("[2001:db8::1]:1") }, "not of IPv4", false},
		{"mapped", func(p *Peer) { p.Remote = netip.MustParseAddrPort("[::ffff:192.0.2.2]:1") }, "not of IPv4", false},
		{"nowhere", func(p *Peer) { p.Remote = netip.AddrPort{} }, "not of IPv4", false},
		{"no port here", func(p *Peer) { p.Local = netip.AddrPortFrom(p.Local.Addr(), 0) }, "192.0.2.1:0 and", false},
		{"no port there", func(p *Peer) { p.Remote = netip.AddrPortFrom(p.Remote.Addr(), 0) }, "not of IPv4 and UDP", false},
		{"no prefix", func(p *Peer) { p.Prefixes = nil }, "0 prefixes of a peer, 1 to 2", true},
		{"three prefixes", func(p *Peer) { p.Prefixes = make([]netip.Prefix, 3) }, "3 prefixes of a peer, 1 to 2", true},
		{"prefix of IPv4", func(p *Peer) { p.Prefixes[0] = netip.MustParsePrefix("0.0.0.0/0") }, "prefixes [0.0.0.0/0] of a peer: not of IPv6", false},
		{"a prefix that is none", func(p *Peer) { p.Prefixes = append(p.Prefixes, netip.Prefix{}) }, "invalid Prefix] of a peer: not of IPv6", false},
		{"no link", func(p *Peer) { p.Link = 0 }, "link 0: no interface index", false},
		{"MTU too small", func(p *Peer) { p.MTU = 1279 }, "MTU 1279: out of range, 1280 to 65515", false},
		{"MTU too large", func(p *Peer) { p.MTU = 65516 }, "MTU 65516", false},
	} {
		p := aPeer(2, 1)
		tt.edit(&p)
		err := p.check()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if errors.Is(err, errors.ErrUnsupported) != tt.unsupported {
			t.Errorf("%s: %v: unsupported %t, want %t", tt.name, err, !tt.unsupported, tt.unsupported)
		}
	}
}

// TestPeerForKernel: a peer with one prefix has it twice, since an empty one would be
// that of every source.
func TestPeerForKernel(t *testing.T) {
	p := aPeer(2, 1)
	p.Prefixes[0] = netip.MustParsePrefix("2001:db8:2:3::1/63")
	k := p.forKernel()
	if k.Prefixes[0] != k.Prefixes[1] || k.Prefixes[0] != newPrefix(p.Prefixes[0]) || k.Prefixes[0].Mask[7] != 0xfe {
		t.Errorf("one prefix: %x", k.Prefixes)
	}
	p.Prefixes = append(p.Prefixes, netip.MustParsePrefix("2001:db8::7/128"))
	if k = p.forKernel(); k.Prefixes[0] != newPrefix(p.Prefixes[0]) || k.Prefixes[1] != newPrefix(p.Prefixes[1]) {
		t.Errorf("two prefixes: %x", k.Prefixes)
	}
	if r := newRoute(p.Prefixes[0]); r.Bits != 63 || r.Dst != netip.MustParseAddr("2001:db8:2:2::").As16() {
		t.Errorf("route %+v", r)
	}
}
