package daemon

import (
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/exit"
	"sixin4/encap/kernelpath"
	"sixin4/tun/ifcfg"
)

// fakeHost is a host whose network is made up.
type fakeHost struct {
	routes     map[string]ifcfg.Route // by destination
	interfaces []string
	prefixes   []netip.Prefix
	addresses  []netip.Addr
	lost       netip.Addr // that is not the host's any more
	err        error      // of every question but that for a route
}

func (h *fakeHost) RouteTo(dst netip.Addr) (ifcfg.Route, error) {
	if r, ok := h.routes[dst.String()]; ok {
		return r, nil
	}
	return ifcfg.Route{}, syscall.ENETUNREACH
}

func (h *fakeHost) RouteVia(dst netip.Addr, link string) (ifcfg.Route, error) {
	if r, ok := h.routes[dst.String()+" "+link]; ok {
		return r, nil
	}
	return ifcfg.Route{}, syscall.ENETUNREACH
}

func (h *fakeHost) Exists(name string) (bool, error) {
	return slices.Contains(h.interfaces, name), h.err
}

func (h *fakeHost) FreeName(base string, _ func(string) bool) (string, error) {
	return base + "0", h.err
}

func (h *fakeHost) HasAddress(a netip.Addr) (bool, error) { return a != h.lost, h.err }

func (h *fakeHost) Addresses() ([]netip.Addr, error) { return nil, h.err }

func (h *fakeHost) HostAddresses(int) ([]netip.Addr, error) { return h.addresses, h.err }

func (h *fakeHost) HostPrefixes(int) ([]netip.Prefix, error) { return h.prefixes, h.err }

func route(source string, mtu int) ifcfg.Route {
	return ifcfg.Route{Interface: "eth0", Index: 2, MTU: mtu, Source: netip.MustParseAddr(source)}
}

// checked makes a configuration from pairs of key and text.
func checked(t *testing.T, pairs ...string) config.Config {
	t.Helper()
	raw := make(config.Raw)
	for i := 0; i < len(pairs); i += 2 {
		raw.Set(config.Key(pairs[i]), pairs[i+1])
	}
	cfg, err := config.Check(raw)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func twoPeers() *fakeHost {
	return &fakeHost{routes: map[string]ifcfg.Route{
		"198.51.100.1": route("192.0.2.1", 1500),
		"203.0.113.7":  route("192.0.2.99", 1400),
	}}
}

func TestPlanOfHub(t *testing.T) {
	cfg := checked(t, "peer", "198.51.100.1=2001:db8:1::/48", "peer", "203.0.113.7=2001:db8:2::/48", "socket", "/s")
	p, err := NewPlan(cfg, Env{fake: twoPeers()})
	if err != nil {
		t.Fatal(err)
	}
	if p.Local.String() != "192.0.2.1" {
		t.Errorf("local %v, want the source of the first peer's route, 192.0.2.1", p.Local)
	}
	if p.MTU != 1380 || p.wireMTU != 1400 {
		t.Errorf("MTU %d over %d, want the smallest: 1380 over 1400", p.MTU, p.wireMTU)
	}
	if p.Peers[0].MTU != 1480 || p.Peers[1].MTU != 1380 {
		t.Errorf("MTU of the peers %d and %d, want 1480 and 1380", p.Peers[0].MTU, p.Peers[1].MTU)
	}
	if got, want := p.readyLine(true), "ready: sixin4-0 192.0.2.1 -> 2 peers mtu 1380"; got != want {
		t.Errorf("ready line %q, want %q", got, want)
	}
}

func TestPlanOfPeerWithoutRoute(t *testing.T) {
	cfg := checked(t, "peer", "198.51.100.1=2001:db8:1::/48", "peer", "203.0.113.9=2001:db8:2::/48", "socket", "/s")
	p, err := NewPlan(cfg, Env{fake: twoPeers()})
	if err != nil {
		t.Fatal(err)
	}
	if want := "network is unreachable: the MTU is taken to be 1500"; len(p.Warnings) != 1 || p.Warnings[0] != want {
		t.Errorf("warnings %q, want %q", p.Warnings, want)
	}
	if _, err := NewPlan(checked(t, "remote", "203.0.113.9", "socket", "/s"), Env{fake: twoPeers()}); exit.Code(err) != exit.TryAgain {
		t.Errorf("no route and no local address: %v (%d), want status %d", err, exit.Code(err), exit.TryAgain)
	}
}

func TestPlanFails(t *testing.T) {
	h := twoPeers()
	h.err = io.ErrUnexpectedEOF
	for _, name := range []string{"", "six0"} {
		pairs := []string{"remote", "198.51.100.1", "socket", "/s"}
		if name != "" {
			pairs = append(pairs, "name", name)
		}
		if _, err := NewPlan(checked(t, pairs...), Env{fake: h}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("name %q: %v, want %v", name, err, io.ErrUnexpectedEOF)
		}
	}
}

func TestPlanNamesKernelDriver(t *testing.T) {
	h := twoPeers()
	h.interfaces = []string{"sit0"}
	for _, tt := range []struct{ name, key, value, want string }{
		{"host", "remote", "198.51.100.1", "-d 198.51.100.1 "},
		{"hub", "peer", "198.51.100.1=::/0", "-d 198.51.100.1 "},
	} {
		p, err := NewPlan(checked(t, tt.key, tt.value, "socket", "/s"), Env{fake: h})
		if err != nil || len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], tt.want) {
			t.Errorf("%s: %v, warnings %q, want one with %q", tt.name, err, p.Warnings, tt.want)
		}
	}
	cfg := checked(t, "peer", "198.51.100.1=2001:db8:1::/48", "peer", "203.0.113.7=2001:db8:2::/48", "socket", "/s")
	p, err := NewPlan(cfg, Env{fake: h})
	if err != nil || len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "-d PEER ") {
		t.Errorf("hub of two: %v, warnings %q, want one", err, p.Warnings)
	}
}

// writeLimit fails after n bytes.
type writeLimit struct{ n int }

func (w *writeLimit) Write(b []byte) (int, error) {
	if w.n -= len(b); w.n < 0 {
		return 0, io.ErrShortWrite
	}
	return len(b), nil
}

func TestPlanText(t *testing.T) {
	p := Plan{Changes: []string{"do this", "do that"}, Warnings: []string{"mind the gap"}}
	var text strings.Builder
	if err := p.WriteText(&text); err != nil || text.String() != "do this\ndo that\nwarning: mind the gap\n" {
		t.Errorf("text %q, %v", text.String(), err)
	}
	if err := p.WriteText(&writeLimit{10}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("WriteText to a full disk: %v, want %v", err, io.ErrShortWrite)
	}
}

func TestLinkLocal(t *testing.T) {
	got := linkLocal(netip.MustParseAddr("192.0.2.1"))
	if want := netip.MustParsePrefix("fe80::192.0.2.1/64"); got != want {
		t.Errorf("linkLocal = %v, want %v", got, want)
	}
}

// TestSelfRouteRefused: the interface is up, and a peer is now routed into it.
func TestSelfRouteRefused(t *testing.T) {
	h := twoPeers()
	cfg := checked(t, "peer", "198.51.100.1=2001:db8:1::/48", "peer", "203.0.113.7=2001:db8:2::/48", "socket", "/s")
	p, err := NewPlan(cfg, Env{fake: h})
	if err != nil {
		t.Fatal(err)
	}
	tun := &tunnel{env: Env{fake: h}, name: "six0", iface: &ifcfg.Interface{Name: "six0", Index: 7}}
	if err := tun.checkRoutes(p.shape()); err != nil {
		t.Errorf("peers over another interface: %v", err)
	}
	h.routes["203.0.113.7"] = ifcfg.Route{Interface: "six0", Index: 7, MTU: 1480}
	err = tun.checkRoutes(p.shape())
	want := "--peer 203.0.113.7=2001:db8:2::/48: is routed into its own tunnel six0; " +
		"it needs a route over another interface (ip route get 203.0.113.7 shows it)"
	if err == nil || err.Error() != want || exit.Code(err) != exit.Usage {
		t.Errorf("got %v (%d)\nwant %s", err, exit.Code(err), want)
	}
}

func TestOurs(t *testing.T) {
	tun := &tunnel{
		env: Env{fake: &fakeHost{
			prefixes: []netip.Prefix{netip.MustParsePrefix("2001:db8:a::/64")}, addresses: []netip.Addr{netip.MustParseAddr("2001:db8:a::1")},
		}},
		iface: &ifcfg.Interface{Index: 7},
		short: new(shortcut),
	}
	now := shape{
		addresses: []netip.Prefix{netip.MustParsePrefix("fe80::c000:201/64"), netip.MustParsePrefix("2001:db8::2/64")},
		delegated: []netip.Prefix{netip.MustParsePrefix("2001:db8:1::/48")},
	}
	got, here, err := tun.ours(now)
	want := []netip.Prefix{
		netip.MustParsePrefix("2001:db8:a::/64"), netip.MustParsePrefix("fe80::c000:201/128"), netip.MustParsePrefix("2001:db8::2/128"),
		netip.MustParsePrefix("2001:db8:1::/48"),
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("ours = %v, %v; want %v", got, err, want)
	}
	if len(here) != 1 || here[0] != netip.MustParseAddr("2001:db8:a::1") {
		t.Errorf("here = %v", here)
	}
}

// TestHere: the kernel takes packets in for the tunnel's own addresses and for as many of
// the others as there is room for.
func TestHere(t *testing.T) {
	elsewhere := make([]netip.Addr, kernelpath.MaxHere+3)
	for i := range elsewhere {
		elsewhere[i] = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i)})
	}
	own := netip.MustParsePrefix("2001:db8:1::/64")
	for _, tt := range []struct{ tunnels, others, want int }{
		{1, 0, 1}, {1, 2, 3}, {1, len(elsewhere), kernelpath.MaxHere}, {kernelpath.MaxHere, 2, kernelpath.MaxHere}, {kernelpath.MaxHere + 1, 2, kernelpath.MaxHere + 1},
	} {
		tun := &tunnel{seen: seen{here: elsewhere[:tt.others]}}
		got := tun.here(&shape{addresses: slices.Repeat([]netip.Prefix{own}, tt.tunnels)})
		if len(got) != tt.want || got[0] != own.Addr() || tt.others > 0 && tt.want > tt.tunnels && got[tt.tunnels] != elsewhere[0] {
			t.Errorf("%d addresses of the tunnel, %d others: %v", tt.tunnels, tt.others, got)
		}
	}
}

func TestSourceOfErrors(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pairs []string
		want  string
	}{
		{"first global", []string{"address", "fe80::1/64", "address", "2001:db8::2/64"}, "2001:db8::2"},
		{"none", nil, "fe80::c000:201"},
	} {
		p, err := NewPlan(checked(t, append([]string{"remote", "198.51.100.1", "socket", "/s"}, tt.pairs...)...), Env{fake: twoPeers()})
		if err != nil {
			t.Fatal(err)
		}
		now := p.shape()
		if got := now.source().String(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
