package tsp_test

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"sixin4/tsp"
)

func TestParseTunnelRefuses(t *testing.T) {
	m, err := goodRouter().Message()
	if err != nil {
		t.Fatal(err)
	}
	good := string(m.XML)
	if got, err := tsp.ParseTunnel([]byte(good)); err != nil || !reflect.DeepEqual(got, goodRouter()) {
		t.Fatalf("%+v, %v", got, err)
	}
	const server4, client6 = ">192.0.2.1<", ">2001:0db8:00aa:0000:0000:0000:0000:0002<"
	const prefix, address = ">2001:0db8:0f00:0000:0000:0000:0000:0000<", `<address type="ipv4">192.0.2.2</address>`
	tests := []struct{ name, old, new string }{
		{"type missing", ` type="v6udpv4"`, ""},
		{"type unknown", `"v6udpv4"`, `"v6gre"`},
		{"type of requests", `"v6udpv4"`, `"v6anyv4"`},
		{"lifetime 0", `"86400"`, `"0"`},
		{"lifetime 2^63", `"86400"`, `"9223372036854775808"`},
		{"lifetime 11 years", `"86400"`, `"346896000"`},
		{"lifetime below zero", `"86400"`, `"-1"`},
		{"lifetime empty", `"86400"`, `""`},
		{"keepalive 0", `interval="30"`, `interval="0"`},
		{"keepalive 10^9", `interval="30"`, `interval="1000000000"`},
		{"keepalive without interval", ` interval="30"`, ""},
		{"keepalive to nobody", `<address type="ipv6">2001:0db8:00aa:0000:0000:0000:0000:0001</address>` + "\r\n    </keep", "</keep"},
		{"keepalive to anybody", "2001:0db8:00aa:0000:0000:0000:0000:0001</address>\r\n    </keep", "::</address></keep"},
		{"mtu small", `lifetime=`, `mtu="1279" lifetime=`},
		{"mtu large", `lifetime=`, `mtu="65536" lifetime=`},
		{"no client address", address, ""},
		{"two client addresses", address, address + `<address type="ipv4">192.0.2.3</address>`},
		{"two servers", "</server>", "</server><server></server>"},
		{"no server", "server>", "x>"},
		{"wrong family 4", server4, ">2001:db8::1<"},
		{"wrong family 6", client6, ">192.0.2.2<"},
		{"not an address", server4, ">192.0.2.256<"},
		{"address empty", server4, "><"},
		{"a name", server4, ">broker.example.net<"},
		{"this network", server4, ">0.1.2.3<"},
		{"multicast 4", server4, ">224.0.0.1<"},
		{"broadcast", server4, ">255.255.255.255<"},
		{"loopback for one end", server4, ">127.0.0.1<"},
		{"unspecified", client6, ">::<"},
		{"loopback 6", client6, ">::1<"},
		{"mapped", client6, ">::ffff:192.0.2.2<"},
		{"compatible", client6, ">::192.0.2.2<"},
		{"translated", client6, ">64:ff9b::192.0.2.2<"},
		{"link local", client6, ">fe80::1<"},
		{"link local with zone", client6, ">fe80::1%eth0<"},
		{"zone", client6, ">2001:db8:aa::2%\x41<"},
		{"site local", client6, ">fec0::1<"},
		{"multicast 6", client6, ">ff02::1<"},
		{"both ends the same", client6, ">2001:db8:aa::1<"},
		{"resolver multicast", ">2001:0db8:0000:0000:0000:0000:0000:0053<", ">ff02::1<"},
		{"prefix everything", `length="48">2001:0db8:0f00:0000:0000:0000:0000:0000<`, `length="0">::<`},
		{"prefix length 0", `length="48"`, `length="0"`},
		{"prefix length 31", `length="48"`, `length="31"`},
		{"prefix length 129", `length="48"`, `length="129"`},
		{"prefix length missing", ` length="48"`, ""},
		{"prefix longer than its length", prefix, ">2001:db8:f00:1::<"},
		{"prefix link local", prefix, ">fe80::<"},
		{"prefix multicast", prefix, ">ff00::<"},
		{"prefix empty", prefix, "><"},
		{"prefix of IPv4", prefix, ">192.0.2.0<"},
		{"name a command", ">alice.example.net<", ">`reboot`<"},
		{"name with a blank", ">alice.example.net<", ">alice example<"},
		{"name with an empty label", ">alice.example.net<", ">alice..net<"},
		{"name long", ">alice.example.net<", ">" + strings.Repeat("a.", 127) + "<"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			doc := strings.Replace(good, tt.old, tt.new, 1)
			if tt.name == "no server" {
				doc = strings.ReplaceAll(good, tt.old, tt.new)
			}
			if doc == good {
				t.Fatal("nothing was replaced")
			}
			got, err := tsp.ParseTunnel([]byte(doc))
			if !errors.Is(err, tsp.ErrBadTunnel) && !errors.Is(err, tsp.ErrMalformed) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func goodRouter() *tsp.Tunnel {
	t := goodTunnel()
	t.Prefix = netip.MustParsePrefix("2001:db8:f00::/48")
	t.ClientName = "alice.example.net"
	return t
}

func TestTunnelCheck(t *testing.T) {
	tests := []struct {
		name string
		turn func(*tsp.Tunnel)
		ok   bool
	}{
		{"good", func(*tsp.Tunnel) {}, true},
		{"an MTU", func(t *tsp.Tunnel) { t.MTU = 1480 }, true},
		{"no lifetime", func(t *tsp.Tunnel) { t.Lifetime = 0 }, true},
		{"no keepalive", func(t *tsp.Tunnel) { t.Keepalive, t.KeepaliveTo = 0, netip.Addr{} }, true},
		{"within one host", func(t *tsp.Tunnel) {
			t.Server4 = netip.MustParseAddr("127.0.0.1")
			t.Client4 = netip.MustParseAddr("127.0.0.1")
		}, true},
		{"one address for both, no ports", func(t *tsp.Tunnel) { t.Type, t.Client4 = tsp.V6V4, t.Server4 }, false},
		{"half a second", func(t *tsp.Tunnel) { t.Lifetime = time.Second / 2 }, false},
		{"keepalive to nobody", func(t *tsp.Tunnel) { t.KeepaliveTo = netip.Addr{} }, false},
		{"keepalive to the client", func(t *tsp.Tunnel) { t.KeepaliveTo = t.Client6 }, false},
		{"keepalive to the client's network", func(t *tsp.Tunnel) { t.KeepaliveTo = t.Prefix.Addr().Next() }, false},
		{"keepalive to the broker, within the client's network", func(t *tsp.Tunnel) { t.KeepaliveTo, t.Prefix = t.Server6, netip.PrefixFrom(t.Server6, 64).Masked() }, true},
		{"nine resolvers", func(t *tsp.Tunnel) {
			for len(t.DNS) < 9 {
				t.DNS = append(t.DNS, t.DNS[0])
			}
		}, false},
		{"prefix of a registry", func(t *tsp.Tunnel) { t.Prefix = netip.MustParsePrefix("2001::/16") }, false},
		{"prefix of IPv4", func(t *tsp.Tunnel) { t.Prefix = netip.MustParsePrefix("192.0.2.0/32") }, false},
		{"prefix invalid", func(t *tsp.Tunnel) { t.Prefix = netip.PrefixFrom(t.Client6, -1) }, false},
		{"name with an escape", func(t *tsp.Tunnel) { t.ClientName = "a\x1b" }, false},
		{"a long keepalive", func(t *tsp.Tunnel) { t.Keepalive = 25 * time.Hour }, false},
		{"a small MTU", func(t *tsp.Tunnel) { t.MTU = 576 }, false},
		{"bits behind the prefix", func(t *tsp.Tunnel) { t.Prefix = netip.MustParsePrefix("2001:db8:f00::1/48") }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tunnel := goodRouter()
			tt.turn(tunnel)
			_, err := tunnel.Message()
			if (err == nil) != tt.ok || err != nil && !errors.Is(err, tsp.ErrBadTunnel) {
				t.Error(err)
			}
		})
	}
	without := goodTunnel()
	without.DNS = nil
	if _, err := without.Message(); !errors.Is(err, tsp.ErrBadTunnel) {
		t.Errorf("without resolver: %v", err)
	}
}

func TestConflict(t *testing.T) {
	tests := []struct {
		name string
		own  string
		bad  bool
	}{
		{"elsewhere", "2001:db8:1::/48", false},
		{"the LAN has the client's address", "2001:db8:aa::/64", true},
		{"the LAN is in the prefix", "2001:db8:f00:7::/64", true},
		{"the prefix is in the LAN", "2001:db8::/32", true},
		{"IPv4", "192.0.2.0/24", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := goodRouter().Conflict([]netip.Prefix{netip.MustParsePrefix(tt.own)})
			if errors.Is(err, tsp.ErrBadTunnel) != tt.bad {
				t.Error(err)
			}
		})
	}
}

// TestConflictOfKeepalive: whom to ask is routed into the tunnel as well.
func TestConflictOfKeepalive(t *testing.T) {
	offer, lan := goodRouter(), netip.MustParsePrefix("2001:db8:cc::/64")
	offer.Keepalive, offer.KeepaliveTo = time.Minute, lan.Addr().Next()
	if err := offer.Conflict([]netip.Prefix{lan}); !errors.Is(err, tsp.ErrBadTunnel) {
		t.Errorf("the LAN's router is to be asked: %v", err)
	}
	offer.Keepalive, offer.KeepaliveTo = 0, netip.Addr{}
	if err := offer.Conflict([]netip.Prefix{lan}); err != nil {
		t.Errorf("nobody is to be asked: %v", err)
	}
}

func TestParseRequestCodes(t *testing.T) {
	const host = `<tunnel action="create" type="v6v4" proxy="no"><client><address type="ipv4">192.0.2.2</address>` +
		`<keepalive interval="30"><address type="ipv6">::</address></keepalive>` +
		`<router><prefix length="48"/><dns_server><address type="dn">ns1.example.net</address></dns_server></router></client></tunnel>`
	tests := []struct {
		name, old, new string
		want           tsp.Code
	}{
		{"good", "", "", 0},
		{"no client", "client>", "x>", tsp.BadIPv4},
		{"action", `"create"`, `"destroy"`, tsp.BadRequest},
		{"type", `"v6v4"`, `"v6gre"`, tsp.BadType},
		{"type missing", ` type="v6v4"`, "", tsp.BadType},
		{"proxy", `"no"`, `"maybe"`, tsp.BadRequest},
		{"address", "192.0.2.2", "192.0.2", tsp.BadIPv4},
		{"family", "192.0.2.2", "2001:db8::1", tsp.BadIPv4},
		{"broadcast", "192.0.2.2", "255.255.255.255", tsp.BadIPv4},
		{"v4v6 without its address", `"v6v4"`, `"v4v6"`, tsp.BadIPv6},
		{"interval 0", `"30"`, `"0"`, tsp.BadRequest},
		{"interval long", `"30"`, `"86401"`, tsp.BadRequest},
		{"prefix length", `"48"`, `"129"`, tsp.BadPrefixLength},
		{"prefix length 0", `"48"`, `"0"`, tsp.BadPrefixLength},
		{"name server", "ns1.example.net", "ns1;reboot", tsp.BadDelegation},
		{"no prefix", `<prefix length="48"/>`, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := tsp.ParseRequest([]byte(strings.ReplaceAll(host, tt.old, tt.new)))
			var status *tsp.Error
			if errors.As(err, &status) != (tt.want != 0) || status != nil && status.Code != tt.want {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// TestRequestForms: every request that can be written is read as it was.
func TestRequestForms(t *testing.T) {
	addr4, addr6 := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")
	tests := []tsp.Request{
		{Action: tsp.ActionAccept},
		{Action: tsp.ActionReject},
		{Action: tsp.ActionDelete},
		{Action: tsp.ActionInfo, Type: tsp.V6AnyV4},
		{Action: tsp.ActionCreate, Type: tsp.V6V4, Client: addr4},
		{Action: tsp.ActionCreate, Type: tsp.V6V4, Client: addr4, Proxy: true},
		{Action: tsp.ActionCreate, Type: tsp.V4V6, Client: addr6, Keepalive: time.Minute},
		{Action: tsp.ActionCreate, Type: tsp.V6V4, Client: addr4, Router: &tsp.Router{}},
		{Action: tsp.ActionCreate, Type: tsp.V6UDPV4, Client: addr4, Keepalive: time.Second, Router: &tsp.Router{PrefixLen: 56, DNS: []string{"ns.example.net"}}},
		{Action: tsp.ActionCreate, Type: tsp.V6UDPV4, Client: addr4, Merged: true},
	}
	for _, r := range tests {
		m, err := r.Message()
		if err != nil {
			t.Fatal(err)
		}
		read, err := tsp.ParseMessage(m.Bytes())
		if err != nil || !read.Framed {
			t.Fatalf("%+v, %v", read, err)
		}
		if got, err := tsp.ParseRequest(read.XML); err != nil || !reflect.DeepEqual(*got, r) {
			t.Errorf("%+v, %v, want %+v", got, err, r)
		}
	}
	bad := []tsp.Request{
		{},
		{Action: tsp.ActionCreate},
		{Action: tsp.ActionCreate, Type: tsp.V6V4},
		{Action: tsp.ActionCreate, Type: tsp.V6V4, Client: addr6},
		{Action: tsp.ActionCreate, Type: tsp.V6V4, Client: addr4, Keepalive: time.Millisecond},
		{Action: tsp.ActionCreate, Type: tsp.V6V4, Client: addr4, Router: &tsp.Router{PrefixLen: 48, DNS: []string{`"/>`}}},
	}
	for _, r := range bad {
		if m, err := r.Message(); err == nil {
			t.Errorf("%+v gave %q", r, m.XML)
		}
	}
}
