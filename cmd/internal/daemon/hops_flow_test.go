package daemon

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"sixin4/cmd/internal/config"
	"sixin4/encap/wire"
)

// TestShortcutFlow: which tunnels the kernel can carry.
func TestShortcutFlow(t *testing.T) {
	lo, err := net.InterfaceByIndex(1)
	if err != nil {
		t.Skipf("needs a loopback interface: %v", err)
	}
	peer := netip.MustParseAddr("192.0.2.2")
	hop := wire.Hop{Link: lo.Index, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}}
	whole := []PlannedPeer{{Remote: peer, Prefixes: []netip.Prefix{everything}}}
	good := shape{local: netip.MustParseAddr("192.0.2.1"), peers: whole, mtu: 1480, wireMTU: 1500}
	good.addresses = []netip.Prefix{netip.MustParsePrefix("2001:db8::2/128")}
	inUDP := func(s *shape) {
		s.session = new(sessionConn)
		s.peers = []PlannedPeer{{Remote: peer, port: 3653, merged: true, Prefixes: []netip.Prefix{everything}}}
	}
	for _, tt := range []struct {
		name    string
		edit    func(s *shape)
		trouble string
		hops    map[[4]byte]wire.Hop
		want    string
	}{
		{"a hub", func(s *shape) { s.hub = true }, "", nil, "not one peer"},
		{"two peers", func(s *shape) { s.peers = append(s.peers, s.peers...) }, "", nil, "not one peer"},
		{"no peer", func(s *shape) { s.peers = nil }, "", nil, "not one peer"},
		{"one prefix", func(s *shape) {
			s.peers = []PlannedPeer{{Remote: peer, Prefixes: []netip.Prefix{globalUnicast}}}
		}, "", nil, "not one peer"},
		{"in UDP", func(s *shape) { s.session = new(sessionConn) }, "", map[[4]byte]wire.Hop{peer.As4(): hop}, "no merged packets in UDP"},
		{"link of 1299", func(s *shape) { s.wireMTU = 1299 }, "", nil, "less than 1300"},
		{"link of 1307 in UDP", func(s *shape) {
			inUDP(s)
			s.wireMTU = 1307
		}, "", nil, "less than 1308"},
		{"in UDP with a script", func(s *shape) {
			inUDP(s)
			s.addresses = []netip.Prefix{netip.MustParsePrefix("fe80::1/64")}
		}, "", nil, "script's"},
		{"no way", func(*shape) {}, "unreachable", nil, "cannot be reached"},
		{"no next hop", func(*shape) {}, "", nil, "next hop"},
		{"no link-layer address", func(*shape) {}, "", map[[4]byte]wire.Hop{peer.As4(): {Link: lo.Index}}, "not Ethernet"},
		{"another peer's hop", func(*shape) {}, "", map[[4]byte]wire.Hop{{192, 0, 2, 9}: hop}, "next hop"},
	} {
		now := good
		tt.edit(&now)
		tun := &tunnel{}
		tun.now.Store(&now)
		if tt.trouble != "" {
			tun.trouble.Store(&tt.trouble)
		}
		if f, reason := tun.flow(tt.hops); f != nil || !strings.Contains(reason, tt.want) {
			t.Errorf("%s: %v, %q; want %q", tt.name, f, reason, tt.want)
		}
	}
}

func TestNewShortcut(t *testing.T) {
	for wire, want := range map[string]bool{config.WireAuto: true, config.WireBPF: true, config.WirePacket: false, config.WireRaw: false} {
		s := newTunnel(settings{Common: config.Common{Wire: wire}}, Env{}).short
		if (s != nil) != want || s != nil && s.always != (wire == config.WireBPF) {
			t.Errorf("--wire %s: %+v", wire, s)
		}
	}
}
