package daemon

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/exit"
	"sixin4/cmd/internal/state"
	"sixin4/encap"
	"sixin4/tsp"
	"sixin4/tsp/client"
	"sixin4/tsp/sasl"
)

// asked makes a configuration of connect from pairs of key and text.
func asked(t *testing.T, pairs ...string) config.Connect {
	t.Helper()
	raw := make(config.Raw)
	raw.Set(config.Servers, "192.0.2.2")
	for i := 0; i < len(pairs); i += 2 {
		raw.Set(config.Key(pairs[i]), pairs[i+1])
	}
	cfg, err := config.CheckConnect(raw, config.NewSecret(""))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func given() *client.Lease {
	return &client.Lease{
		Local: netip.MustParseAddr("192.0.2.1"),
		Tunnel: &tsp.Tunnel{
			Type:    tsp.V6V4,
			Server4: netip.MustParseAddr("198.51.100.1"), Client4: netip.MustParseAddr("192.0.2.1"),
			Server6: netip.MustParseAddr("2001:db8::1"), Client6: netip.MustParseAddr("2001:db8::2"),
			Keepalive: time.Minute, KeepaliveTo: netip.MustParseAddr("2001:db8::1"),
		},
	}
}

func TestShapeOfLease(t *testing.T) {
	delegated := netip.MustParsePrefix("2001:db8:1::/48")
	tests := []struct {
		name    string
		pairs   []string
		classic bool
		change  func(*client.Lease)
		want    string // MTU, local, addresses, routes, spare, delegated
	}{
		{"plain", nil, false, nil,
			"1480 192.0.2.1 [fe80::c000:201/64 2001:db8::2/128] [2001:db8::1/128 ::/0] [] []"},
		{"no default route", []string{"no-route", "true"}, false, nil,
			"1480 192.0.2.1 [fe80::c000:201/64 2001:db8::2/128] [2001:db8::1/128] [] []"},
		{"another address answers echo requests", []string{"no-route", "true"}, false,
			func(l *client.Lease) { l.Tunnel.KeepaliveTo = netip.MustParseAddr("2001:db8::53") },
			"1480 192.0.2.1 [fe80::c000:201/64 2001:db8::2/128] [2001:db8::1/128 2001:db8::53/128] [] []"},
		{"as the scripts of old", nil, true, nil,
			"1280 192.0.2.1 [fe80::c000:201/64 2001:db8::2/128] [2001:db8::1/128 2000::/3] [::/0] []"},
		{"with a prefix", nil, false, func(l *client.Lease) { l.Tunnel.Prefix = delegated },
			"1480 192.0.2.1 [fe80::c000:201/64 2001:db8::2/128] [2001:db8::1/128 ::/0] [] [2001:db8:1::/48]"},
		{"the broker's MTU is smaller", nil, false, func(l *client.Lease) { l.Tunnel.MTU = 1400 },
			"1400 192.0.2.1 [fe80::c000:201/64 2001:db8::2/128] [2001:db8::1/128 ::/0] [] []"},
		{"the broker's MTU is larger", nil, false, func(l *client.Lease) { l.Tunnel.MTU = 9000 },
			"1480 192.0.2.1 [fe80::c000:201/64 2001:db8::2/128] [2001:db8::1/128 ::/0] [] []"},
		{"fixed MTU", []string{"mtu", "1300"}, true, func(l *client.Lease) { l.Tunnel.MTU = 1400 },
			"1300 192.0.2.1 [fe80::c000:201/64 2001:db8::2/128] [2001:db8::1/128 2000::/3] [::/0] []"},
		{"local address given", []string{"local", "192.0.2.99"}, false, nil,
			"1480 192.0.2.99 [fe80::c000:263/64 2001:db8::2/128] [2001:db8::1/128 ::/0] [] []"},
		{"a script gives addresses and routes", []string{"script", "/etc/hosts"}, false,
			func(l *client.Lease) { l.Tunnel.Prefix = delegated },
			"1480 192.0.2.1 [fe80::c000:201/64] [] [] [2001:db8:1::/48]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := given()
			if tt.change != nil {
				tt.change(l)
			}
			env := Env{fake: twoPeers(), Negotiation: Negotiation{Classic: tt.classic}}
			cfg := asked(t, tt.pairs...)
			n := &negotiated{tunnel: newTunnel(connectSettings(cfg), env), cfg: cfg}
			s, err := n.shapeOf(l)
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprint(s.mtu, s.local, s.addresses, s.routes, s.spare, s.delegated)
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if len(s.peers) != 1 || s.peers[0].Remote != l.Tunnel.Server4 || s.wireMTU != 1500 {
				t.Errorf("peers %v over %d", s.peers, s.wireMTU)
			}
		})
	}
}

func TestShapeOfOtherType(t *testing.T) {
	l := given()
	l.Tunnel.Type = tsp.V6UDPV4
	cfg := asked(t)
	n := &negotiated{tunnel: newTunnel(connectSettings(cfg), Env{fake: twoPeers()}), cfg: cfg}
	if _, err := n.shapeOf(l); err == nil || !strings.Contains(err.Error(), "v6udpv4") {
		t.Errorf("a tunnel in UDP: %v, want an error that names it", err)
	}
}

func TestReadyLineOfLease(t *testing.T) {
	l := given()
	s := &shape{local: l.Local, mtu: 1480}
	want := "ready: sixin4-0 v6v4 192.0.2.1 -> 198.51.100.1 address 2001:db8::2 mtu 1480"
	if got := readyLine("sixin4-0", s, l.Tunnel); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	l.Tunnel.Prefix = netip.MustParsePrefix("2001:db8:1::/48")
	if got := readyLine("sixin4-0", s, l.Tunnel); got != want+" prefix 2001:db8:1::/48" {
		t.Errorf("with a prefix: %s", got)
	}
}

func TestSameInside(t *testing.T) {
	a := given().Tunnel
	tests := []struct {
		name   string
		change func(*tsp.Tunnel)
		same   bool
	}{
		{"nothing", func(*tsp.Tunnel) {}, true},
		{"our outer address", func(o *tsp.Tunnel) { o.Client4 = netip.MustParseAddr("192.0.2.9") }, true},
		{"the broker's outer address", func(o *tsp.Tunnel) { o.Server4 = netip.MustParseAddr("203.0.113.9") }, true},
		{"lifetime", func(o *tsp.Tunnel) { o.Lifetime = time.Hour }, true},
		{"our address", func(o *tsp.Tunnel) { o.Client6 = netip.MustParseAddr("2001:db8::9") }, false},
		{"the broker's address", func(o *tsp.Tunnel) { o.Server6 = netip.MustParseAddr("2001:db8::9") }, false},
		{"a prefix", func(o *tsp.Tunnel) { o.Prefix = netip.MustParsePrefix("2001:db8:1::/48") }, false},
		{"a name", func(o *tsp.Tunnel) { o.ClientName = "alice.example.net" }, false},
		{"a resolver", func(o *tsp.Tunnel) { o.DNS = []netip.Addr{netip.MustParseAddr("2001:db8::53")} }, false},
	}
	for _, tt := range tests {
		b := *a
		tt.change(&b)
		if got := sameInside(a, &b); got != tt.same {
			t.Errorf("%s changed: same inside %v, want %v", tt.name, got, tt.same)
		}
	}
}

// TestOwnNetworks: what was delegated to us is on our LAN after a while; that is
// no conflict with the next lease.
func TestOwnNetworks(t *testing.T) {
	lan, ours := netip.MustParsePrefix("2001:db8:a::/64"), netip.MustParsePrefix("2001:db8:1:2::/64")
	n := &negotiated{tunnel: newTunnel(settings{}, Env{fake: &fakeHost{prefixes: []netip.Prefix{lan, ours}}})}
	n.now.Store(&shape{delegated: []netip.Prefix{netip.MustParsePrefix("2001:db8:1::/48")}})
	if got, err := (network{t: n}).Own(); err != nil || !slices.Equal(got, []netip.Prefix{lan}) {
		t.Errorf("own networks %v, %v; want %v alone", got, err, lan)
	}
}

func TestMemory(t *testing.T) {
	dir := t.TempDir()
	m := memory{filepath.Join(dir, "last"), filepath.Join(dir, "list")}
	if last, ok := m.Last(); ok || m.List() != nil {
		t.Errorf("before anything: %q, %v", last, m.List())
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(m.SetLast("192.0.2.2"))
	must(m.SetList([]string{"192.0.2.3", "broker.example.net"}))
	must(m.SetList([]string{"192.0.2.4", "broker.example.net"}))
	if last, ok := m.Last(); !ok || last != "192.0.2.2" {
		t.Errorf("last %q, %v", last, ok)
	}
	if got := m.List(); !slices.Equal(got, []string{"192.0.2.4", "broker.example.net"}) {
		t.Errorf("list %q", got)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Errorf("%v, %v: want two files and no leftover", files, err)
	}
	must((memory{}).SetLast("192.0.2.2"))
	must((memory{}).SetList(nil))
	if err := (memory{last: filepath.Join(dir, "no", "file")}).SetLast("x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
}

func TestExitStatusOfLease(t *testing.T) {
	at := func(stage client.Stage, err error) error {
		return &client.Error{Stage: stage, Server: "192.0.2.2", Err: fmt.Errorf("op: %w", err)}
	}
	tests := []struct {
		name string
		err  error
		code int
	}{
		{"stopped", nil, exit.OK},
		{"no such name", at(client.Resolve, io.ErrUnexpectedEOF), exit.TryAgain},
		{"nobody answers", at(client.Connect, syscall.ECONNREFUSED), exit.TryAgain},
		{"busy", at(client.Hello, &tsp.Error{Code: tsp.Busy}), exit.TryAgain},
		{"in progress", at(client.Create, &tsp.Error{Code: tsp.InProgress}), exit.TryAgain},
		{"full", at(client.Create, &tsp.Error{Code: tsp.NoTunnels}), exit.TryAgain},
		{"far end silent", at(client.Keepalive, io.ErrUnexpectedEOF), exit.TryAgain},
		{"version", at(client.Hello, &tsp.Error{Code: tsp.BadVersion}), exit.Unavailable},
		{"type", at(client.Offer, errors.New("not offered")), exit.Unavailable},
		{"refused", at(client.Authenticate, &tsp.Error{Code: tsp.AuthFailed}), exit.Permission},
		{"silent when asked who we are", at(client.Authenticate, tsp.ErrNoAnswer), exit.TryAgain},
		{"hung up on a request", at(client.Create, io.ErrUnexpectedEOF), exit.TryAgain},
		{"nonsense for an answer", at(client.Authenticate, tsp.ErrMalformed), exit.Failure},
		{"no mechanism", at(client.Authenticate, sasl.ErrNoMechanism), exit.Permission},
		{"prefix", at(client.Create, &tsp.Error{Code: tsp.PrefixUnavailable}), exit.Unavailable},
		{"broker's own error", at(client.Create, &tsp.Error{Code: tsp.ServerError}), exit.Failure},
		{"redirected in a circle", at(client.Redirect, errors.New("circle")), exit.Failure},
		{"no right", at(client.Setup, exit.With(exit.Permission, syscall.EPERM)), exit.Permission},
		{"script", at(client.Setup, errors.New("exit status 1")), exit.Failure},
		{"not of the client", errors.New("else"), exit.Failure},
	}
	for _, tt := range tests {
		if got := exit.Code(leaseError(tt.err)); got != tt.code {
			t.Errorf("%s: exit status %d, want %d", tt.name, got, tt.code)
		}
	}
}

func TestRequest(t *testing.T) {
	r := request(asked(t, "prefix-length", "56", "reverse-dns", "ns1.example.net", "keepalive", "1m", "local", "192.0.2.7"))
	want := tsp.Request{
		Type: tsp.V6AnyV4, Client: netip.MustParseAddr("192.0.2.7"), Keepalive: time.Minute,
		Router: &tsp.Router{PrefixLen: 56, DNS: []string{"ns1.example.net"}},
	}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("request %+v, want %+v", r, want)
	}
	if r := request(asked(t)); r.Router != nil || r.Keepalive != 30*time.Second {
		t.Errorf("plain request %+v, want a host's with keepalive 30 s", r)
	}
}

func TestLimit(t *testing.T) {
	for _, tt := range []struct {
		mtu     int
		classic bool
		want    encap.TunMTU
	}{{0, false, 0}, {1400, false, 1400}, {0, true, 1280}, {1400, true, 1280}, {1280, true, 1280}} {
		n := &negotiated{tunnel: newTunnel(settings{}, Env{Negotiation: Negotiation{Classic: tt.classic}})}
		if got := n.limit(&tsp.Tunnel{MTU: tt.mtu}); got != tt.want {
			t.Errorf("MTU %d, classic %v: limit %d, want %d", tt.mtu, tt.classic, got, tt.want)
		}
	}
}

// choosyHost gives the first of its names that is not taken.
type choosyHost struct{ fakeHost }

func (h *choosyHost) FreeName(base string, taken func(string) bool) (string, error) {
	for i := range 9 {
		if name := fmt.Sprint(base, i); !taken(name) {
			return name, nil
		}
	}
	return "", io.ErrUnexpectedEOF
}

// TestNameOfAnother: the state file of a name belongs to another process that has no
// interface yet; an automatic name is another one then, one that was given is an error.
func TestNameOfAnother(t *testing.T) {
	dir := t.TempDir()
	begin := func(pairs ...string) (*negotiated, error) {
		env := Env{fake: &choosyHost{}, SocketDirs: []string{dir}, Logger: slog.New(slog.DiscardHandler)}
		n, err := newNegotiated(asked(t, pairs...), env)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := n.undo.Undo(); err != nil {
				t.Error(err)
			}
		})
		return n, n.setup.begin(t.Context())
	}
	for _, want := range []string{"sixin4-0", "sixin4-1", "sixin4-2"} {
		if n, err := begin(); err != nil || n.name != want || filepath.Base(n.socket) != want+".sock" {
			t.Errorf("%s at %s, %v; want %s", n.name, n.socket, err, want)
		}
	}
	if _, err := begin("name", "sixin4-1"); !errors.Is(err, state.ErrInUse) {
		t.Errorf("a name that is in use: %v", err)
	}
}
