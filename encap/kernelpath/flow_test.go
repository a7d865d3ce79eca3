package kernelpath

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"sixin4/encap"
)

// aFlow is one that the kernel can carry.
func aFlow() *Flow {
	return &Flow{
		Outer: encap.Outer{Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2")},
		Link:  1, LinkMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, HopMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2},
		MTU: 1480, Here: []netip.Addr{netip.MustParseAddr("2001:db8::1")},
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name        string
		edit        func(*Flow)
		want        string // in the error; empty: none
		unsupported bool
	}{
		{"fine", func(*Flow) {}, "", false},
		{"no addresses", func(f *Flow) { f.Outer = encap.Outer{} }, "not an IPv4 address", false},
		{"no link", func(f *Flow) { f.Link = 0 }, "link 0: no interface index", false},
		{"point to point", func(f *Flow) { f.HopMAC = nil }, "not Ethernet", true},
		{"InfiniBand", func(f *Flow) { f.LinkMAC = make([]byte, 20) }, "not Ethernet", true},
		{"MTU too small", func(f *Flow) { f.MTU = 1279 }, "MTU 1279: out of range, 1280 to 65515", false},
		{"MTU too large", func(f *Flow) { f.MTU = 65516 }, "MTU 65516", false},
		{"many prefixes", func(f *Flow) { f.Ours = make([]netip.Prefix, MaxOurs+1) }, "65 prefixes of this host, at most 64", true},
		{"many addresses", func(f *Flow) { f.Here = make([]netip.Addr, MaxHere+1) }, "17 addresses of this host, at most 16", true},
		{"UDP", func(f *Flow) { f.SrcPort, f.DstPort = 4000, 3653 }, "", false},
		{"one port", func(f *Flow) { f.SrcPort = 4000 }, "ports 4000 and 0: a tunnel in UDP has both", false},
		{"the other port", func(f *Flow) { f.DstPort = 3653 }, "ports 0 and 3653: a tunnel in UDP has both", false},
		{"hub, of which no more is asked", func(f *Flow) { *f = Flow{Hub: &Hub{Links: []int{1}}} }, "", false},
		{"hub of many addresses", func(f *Flow) {
			f.Here, f.Hub = make([]netip.Addr, MaxHere+1), &Hub{Links: []int{1}}
		}, "17 addresses of this host, at most 16", true},
		{"hub without links", func(f *Flow) { f.Hub = &Hub{} }, "a hub without links", false},
		{"hub with all ports", func(f *Flow) { f.Hub = &Hub{Links: []int{1}, Blocked: make([]Port, MaxBlocked)} }, "", false},
		{"hub with many ports", func(f *Flow) {
			f.Hub = &Hub{Links: []int{1}, Blocked: make([]Port, MaxBlocked+1)}
		}, "17 blocked ports, at most 16", true},
	} {
		f := aFlow()
		tt.edit(f)
		err := f.check()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if errors.Is(err, errors.ErrUnsupported) != tt.unsupported {
			t.Errorf("%s: %v: unsupported %t, want %t", tt.name, err, !tt.unsupported, tt.unsupported)
		}
	}
}

func TestForKernel(t *testing.T) {
	f := aFlow()
	f.Ours = []netip.Prefix{
		netip.MustParsePrefix("2001:db8:1:2::3/47"), netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("::/0"),
	}
	k := f.forKernel(7)
	if k.Device != 7 || k.Way.Link != 1 || k.Way.MTU != 1480 || k.TTL != encap.DefaultTTL || k.TOSMask != 3 || k.HopsMask != 0 || k.DF != [2]byte{0x40} {
		t.Errorf("%+v", k)
	}
	if want := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0}; !bytes.Equal(k.Ethernet[:], want) {
		t.Errorf("Ethernet header % x, want % x", k.Ethernet, want)
	}
	if k.HereLen != 1 || k.OursLen != 2 || k.Ours[0].Value != [16]byte{0x20, 1, 0xd, 0xb8} ||
		k.Ours[0].Mask != [16]byte{255, 255, 255, 255, 255, 254} || k.Ours[1].Mask != [16]byte{} {
		t.Errorf("%d addresses, %d prefixes %x", k.HereLen, k.OursLen, k.Ours[:2])
	}
}
