package config

import (
	"fmt"
	"net/netip"
	"os/exec"
	"reflect"
	"testing"
	"time"

	"sixin4/cmd/internal/exit"
	"sixin4/tun/ifcfg"
)

const (
	wantClamp   = "; auto, off, or 536 to 65455 bytes (1220 is the least that IPv6 always carries)"
	wantBind    = "; an interface of this host belongs here, like eth0 (ip link shows them)"
	wantAsk     = "like 2001:db8::1, or 2001:db8::1,10s"
	wantSeconds = "1s to 24h, like 30s"
	want6rd     = "like 6rd=2001:db8::/32,0,198.51.100.1"
)

// badLinks are wrong values of what has to do with links, the far end and its rules.
var badLinks = []struct {
	name      string
	key       Key
	value     string
	wantCause string
}{
	{"clamp too small", ClampMSS, "535", "out of range" + wantClamp},
	{"clamp too large", ClampMSS, "65456", "out of range" + wantClamp},
	{"clamp word", ClampMSS, "on", "not a number" + wantClamp},
	{"bind to nothing", BindInterface, "", ifcfg.CheckName("").Error() + wantBind},
	{"bind to a path", BindInterface, "a/b", ifcfg.CheckName("a/b").Error() + wantBind},
	{"keepalive IPv4", Keepalive, "192.0.2.1", "an IPv4 address; the far end is asked through the tunnel, by its IPv6 address, " + wantAsk},
	{"keepalive mapped", Keepalive, "::ffff:192.0.2.1", "not an IPv6 address with, perhaps, a time behind it, " + wantAsk},
	{"keepalive is a time", Keepalive, "30s", "not an IPv6 address with, perhaps, a time behind it, " + wantAsk},
	{"keepalive zone", Keepalive, "fe80::1%eth0", "not an IPv6 address with, perhaps, a time behind it, " + wantAsk},
	{"keepalive multicast", Keepalive, "ff02::1", "ff02::1 is not the address of another host, " + wantAsk},
	{"keepalive loopback", Keepalive, "::1", "::1 is not the address of another host, " + wantAsk},
	{"keepalive never", Keepalive, "2001:db8::1,0", `interval "0": out of range; ` + wantSeconds},
	{"keepalive empty interval", Keepalive, "2001:db8::1,", `interval "": not a time; ` + wantSeconds},
	{"keepalive too often", Keepalive, "2001:db8::1,500ms", `interval "500ms": out of range; ` + wantSeconds},
	{"keepalive broken seconds", Keepalive, "2001:db8::1,1500ms", `interval "1500ms": not whole seconds; ` + wantSeconds},
	{"keepalive without address", Keepalive, "2001:db8::1", "the far end cannot answer to a link-local address; give this end one by --address"},
	{"on-up empty", OnUp, "", "empty; a program and its arguments belong here, like /usr/local/bin/tell-me up"},
	{"on-up quote", OnUp, "sh -c 'true", "the quote ' has no end"},
	{"on-up backslash", OnUp, `true \`, `ends with a backslash`},
	{"on-up relative", OnUp, "./up", "./up is a relative path; it has to begin with a slash"},
	{"on-up for a shell", OnUp, "true && true", `no shell runs it, so that & does nothing; write \&, or let one run it: sh -c '...'`},
	{"on-up variable", OnUp, "true $TSP_TUNNEL_INTERFACE", `no shell runs it, so that $ does nothing; write \$, or let one run it: sh -c '...'`},
	{"on-down variable in quotes", OnDown, `true "$HOME"`, `no shell runs it, so that $ does nothing; write \$, or let one run it: sh -c '...'`},
	{"on-down missing", OnDown, "/nonexistent/program up", "no such program, or not one that may be run: exec: \"/nonexistent/program\": stat /nonexistent/program: no such file or directory"},
	{"peer 6to4 without gateway", Peers, "6to4=", "the address of the gateway to native IPv6 is missing, like 6to4=198.51.100.1"},
	{"peer 6to4 two gateways", Peers, "6to4=198.51.100.1,198.51.100.2", "not an IPv4 address, like 6to4=198.51.100.1"},
	{"peer 6to4 IPv6", Peers, "6to4=2001:db8::1", "an IPv6 address; the gateway to native IPv6 is an IPv4 address, like 6to4=198.51.100.1"},
	{"peer 6to4 multicast", Peers, "6to4=224.0.0.1", "a multicast address; the gateway to native IPv6 is the address of a host, like 6to4=198.51.100.1"},
	{"peer 6rd alone", Peers, "6rd", "it takes the prefix of the provider, how many leading bits of IPv4 addresses are left out, and the border relay, " + want6rd},
	{"peer 6rd without relay", Peers, "6rd=2001:db8::/32,0", "it takes the prefix of the provider, how many leading bits of IPv4 addresses are left out, and the border relay, " + want6rd},
	{"peer 6rd empty relay", Peers, "6rd=2001:db8::/32,0,", "the address of the border relay is missing, like 6rd=2001:db8::/32,0,198.51.100.1"},
	{"peer 6rd prefix", Peers, "6rd=2001:db8::1,0,198.51.100.1", "2001:db8::1 is an address; a prefix belongs here: 2001:db8::1/128"},
	{"peer 6rd mask", Peers, "6rd=2001:db8::/32,32,198.51.100.1", `"32": out of range; 0 to 31 leading bits of IPv4 addresses that are left out, ` + want6rd},
	{"peer 6rd too long", Peers, "6rd=2001:db8::/40,0,198.51.100.1", "prefix 2001:db8::/40 and 32 bits of IPv4 are more than 64 bits"},
	{"peer isatap alone", Peers, "isatap", "the address of a router is missing, like isatap=198.51.100.1"},
	{"peer isatap twice", Peers, "isatap=198.51.100.1,198.51.100.1", "198.51.100.1 is given twice"},
	{"peer isatap name", Peers, "isatap=router", "a host name; give its IPv4 address (getent ahostsv4 router prints it)"},
}

func TestBadLinkValue(t *testing.T) {
	for _, tt := range badLinks {
		t.Run(tt.name, func(t *testing.T) {
			origin := Origin{File: "/etc/sixin4/home.toml", Line: 3}
			check(t, withValue(tt.key, Value{Text: tt.value, Origin: origin}),
				fmt.Sprintf("/etc/sixin4/home.toml:3: %s = %q: %s", tt.key, tt.value, tt.wantCause), exit.Config)
			check(t, withValue(tt.key, Value{Text: tt.value}), "--"+string(tt.key)+" "+brief(tt.value, shown)+": "+tt.wantCause, exit.Usage)
		})
	}
}

// TestBadLinks: values that are wrong beside others.
func TestBadLinks(t *testing.T) {
	for _, tt := range []struct {
		name string
		raw  Raw
		want string
	}{
		{"keepalive of oneself", flags("remote", "198.51.100.1", "address", "2001:db8::2/64", "keepalive", "2001:db8::2"),
			"--keepalive 2001:db8::2: is an address of this end; one of the far end belongs here"},
		{"bind to the tunnel", flags("remote", "198.51.100.1", "name", "six0", "bind-interface", "six0"),
			"--bind-interface six0: is the tunnel itself; an interface with IPv4 belongs here, like eth0"},
		{"probe in a hub", flags("peer", "198.51.100.1=2001:db8:1::/48", "mtu", "probe"),
			"--mtu probe: the way to each of several far ends carries something else, and only one can be asked; auto, or a number, for a hub"},
		{"probe, and nobody in the prefix", flags("remote", "198.51.100.1", "address", "2001:db8::2/128", "mtu", "probe"),
			"--mtu probe: nobody is known to ask at the far end; give --keepalive ADDRESS, its IPv6 address in the tunnel"},
		{"two rules", flags("peer", "6to4", "peer", "isatap=198.51.100.1"),
			"--peer isatap=198.51.100.1: besides 6to4; one tunnel has peers by one rule only, make another tunnel for these"},
		{"a relay that is a peer", flags("peer", "198.51.100.1=2001:db8:1::/48", "peer", "6to4=198.51.100.1"),
			"--peer 6to4=198.51.100.1: 198.51.100.1 is a peer already"},
		{"a peer that is a relay", flags("peer", "isatap=198.51.100.1", "peer", "198.51.100.1=2001:db8:1::/48"),
			"--peer 198.51.100.1=2001:db8:1::/48: 198.51.100.1 is a relay of isatap peers already"},
		{"::/0 of two", flags("peer", "198.51.100.2=::/0", "peer", "isatap=198.51.100.1"),
			"--peer isatap=198.51.100.1: ::/0 belongs to peer 198.51.100.2 already"},
		{"a relay is the local end", flags("local", "192.0.2.1", "peer", "isatap=192.0.2.1"),
			"--peer isatap=192.0.2.1: is the local address of this tunnel; the peer is the other end, an address of another host"},
	} {
		t.Run(tt.name, func(t *testing.T) { check(t, tt.raw, tt.want, exit.Usage) })
	}
}

func TestLinks(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("needs a shell")
	}
	c, err := Check(flags("remote", "198.51.100.1", "address", "2001:db8::2/64", "keepalive", "2001:db8::1,10", "bind-interface", "eth1",
		"clamp-mss", "1220", "mtu", "probe", "on-up", `sh -c 'echo "$TSP_OPERATION" >>/tmp/x'  a\ b ""`, "on-down", "sh"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name      string
		got, want any
	}{
		{"keepalive", c.Keepalive, Ask{netip.MustParseAddr("2001:db8::1"), 10 * time.Second}},
		{"bind", c.Bind, "eth1"},
		{"clamp", c.ClampMSS, Clamp{MSS: 1220}},
		{"probe", c.Probe, true},
		{"mtu", int(c.MTU), 0},
		{"far end", c.Far, netip.MustParseAddr("2001:db8::1")},
		{"on-up", c.OnUp, []string{sh, "-c", `echo "$TSP_OPERATION" >>/tmp/x`, "a b", ""}},
		{"on-down", c.OnDown, []string{sh}},
	} {
		if !reflect.DeepEqual(tt.got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, tt.got, tt.want)
		}
	}
}

func TestClampWords(t *testing.T) {
	for text, want := range map[string]Clamp{"auto": {}, "off": {Off: true}, "536": {MSS: 536}, "65455": {MSS: 65455}} {
		c, err := Check(flags("remote", "198.51.100.1", "clamp-mss", text))
		if err != nil || c.ClampMSS != want {
			t.Errorf("%s: %+v, %v; want %+v", text, c.ClampMSS, err, want)
		}
	}
}

// TestNeighbour: who is asked by --mtu probe when nobody is named.
func TestNeighbour(t *testing.T) {
	for _, tt := range []struct {
		addresses []string
		want      string
	}{
		{[]string{"2001:db8::2/64"}, "2001:db8::1"},
		{[]string{"2001:db8::1/64"}, "2001:db8::2"},
		{[]string{"fe80::5/64", "2001:db8::1/128", "2001:db8:1::7/126"}, "2001:db8:1::5"},
		{[]string{"2001:db8::/127"}, "2001:db8::1"},
		{[]string{"2001:db8::1/127"}, "2001:db8::"},
		{[]string{"2001:db8::1/48"}, "invalid IP"},
		{nil, "invalid IP"},
	} {
		var all []netip.Prefix
		for _, a := range tt.addresses {
			all = append(all, netip.MustParsePrefix(a))
		}
		if got := neighbour(all); got.String() != tt.want {
			t.Errorf("%v: %v, want %s", tt.addresses, got, tt.want)
		}
	}
}

func TestMappedPeers(t *testing.T) {
	relay, local := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("203.0.113.9")
	for _, tt := range []struct {
		value, prefixes, own string
		relays               int
	}{
		{"6to4", "[2002::/16]", "2002:cb00:7109::/48", 0},
		{"6to4=198.51.100.1", "[2002::/16 ::/0]", "2002:cb00:7109::/48", 1},
		{"6rd=2001:db8::/32,0,198.51.100.1", "[::/0]", "2001:db8:cb00:7109::/64", 1},
		{"6rd=2001:db8::/32,8,198.51.100.1", "[::/0]", "2001:db8:71:900::/56", 1},
		{"isatap=198.51.100.1,198.51.100.2", "[::/0]", "invalid Prefix", 2},
	} {
		t.Run(tt.value, func(t *testing.T) {
			c, err := Check(flags("peer", tt.value, "address", "2001:db8::1/64"))
			if err != nil {
				t.Fatal(err)
			}
			p := c.Peers[0]
			if !c.Hub || p.Map == nil || p.Remote.IsValid() || len(p.Map.Relays) != tt.relays || tt.relays > 0 && p.Map.Relays[0] != relay {
				t.Fatalf("peer %+v, %+v", p, p.Map)
			}
			if got := fmt.Sprint(p.Prefixes); got != tt.prefixes {
				t.Errorf("prefixes %s, want %s", got, tt.prefixes)
			}
			m, err := p.Map.Mapping(local, c.Addresses)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Prefix().String(); got != tt.own {
				t.Errorf("own prefix %s, want %s", got, tt.own)
			}
		})
	}
}

// TestBadConnectProbe: ways that this host cannot ask about.
func TestBadConnectProbe(t *testing.T) {
	for _, tt := range []struct{ name, key, value, want string }{
		{"proxy", "proxy", "true", "--mtu probe: the tunnel of a proxy ends at another host, so nothing here can ask; auto"},
		{"in UDP", "mode", "v6udpv4", "--mtu probe: not with mode v6udpv4; auto, or 1280 to 65515"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := CheckConnect(flags("server", anyServer, "mtu", "probe", tt.key, tt.value), Secret{})
			if err == nil || err.Error() != tt.want {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}
