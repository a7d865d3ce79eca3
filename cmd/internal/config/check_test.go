package config

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"sixin4/cmd/internal/exit"
	"sixin4/tun/ifcfg"
)

// flags builds a Raw as the command line does, from pairs of key and text.
func flags(pairs ...string) Raw {
	raw := make(Raw)
	for i := 0; i < len(pairs); i += 2 {
		raw.Set(Key(pairs[i]), pairs[i+1])
	}
	return raw
}

// badValues are values that are wrong by themselves, with the reason that stands
// after the value in the message.
var badValues = []struct {
	name      string
	key       Key
	value     string
	wantCause string
}{
	{"remote IPv6", Remote, "2001:db8::1", "an IPv6 address; the far end of the tunnel is an IPv4 address, like 198.51.100.1"},
	{"remote IPv6 prefix", Remote, "2001:db8::/64", "an IPv6 address; the far end of the tunnel is an IPv4 address, like 198.51.100.1"},
	{"remote mapped", Remote, "::ffff:198.51.100.1", "an IPv6 address; the far end of the tunnel is an IPv4 address, like 198.51.100.1"},
	{"remote prefix", Remote, "198.51.100.1/24", "a prefix; an address belongs here: 198.51.100.1"},
	{"remote prefix out of range", Remote, "198.51.100.1/33", "not an IPv4 address, like 198.51.100.1"},
	{"remote name", Remote, "tunnel.example.com", "a host name; give its IPv4 address (getent ahostsv4 tunnel.example.com prints it)"},
	{"remote empty", Remote, "", "not an IPv4 address, like 198.51.100.1"},
	{"remote with port", Remote, "198.51.100.1:3653", "not an IPv4 address, like 198.51.100.1"},
	{"remote leading zero", Remote, "198.51.100.01", "not an IPv4 address, like 198.51.100.1"},
	{"remote unspecified", Remote, "0.0.0.0", "in 0.0.0.0/8, no address of a host; the far end of the tunnel is the address of a host, like 198.51.100.1"},
	{"remote multicast", Remote, "224.0.0.1", "a multicast address; the far end of the tunnel is the address of a host, like 198.51.100.1"},
	{"remote broadcast", Remote, "255.255.255.255", "the broadcast address; the far end of the tunnel is the address of a host, like 198.51.100.1"},
	{"remote loopback", Remote, "127.0.0.1", "a loopback address; the far end of the tunnel is the address of a host, like 198.51.100.1"},
	{"remote reserved", Remote, "240.0.0.1", "in 240.0.0.0/4, which is reserved; the far end of the tunnel is the address of a host, like 198.51.100.1"},
	{"local IPv6", Local, "2001:db8::1", "an IPv6 address; the local end of the tunnel is an IPv4 address, like 192.0.2.1 (or auto)"},
	{"local prefix", Local, "192.0.2.1/24", "a prefix; an address belongs here: 192.0.2.1"},
	{"local name", Local, "eth0", "a host name; give its IPv4 address (getent ahostsv4 eth0 prints it)"},
	{"local multicast", Local, "239.1.1.1", "a multicast address; the local end of the tunnel is the address of a host, like 192.0.2.1 (or auto)"},
	{"address IPv4", Address, "192.0.2.1", "an IPv4 address; the tunnel carries IPv6: an IPv6 address and its length belong here, like 2001:db8::2/64"},
	{"address IPv4 with length", Address, "192.0.2.1/24", "an IPv4 address; the tunnel carries IPv6: an IPv6 address and its length belong here, like 2001:db8::2/64"},
	{"address of length 0", Address, "2001:db8::2/0", "length 0 would route everything into the tunnel; like 2001:db8::2/64, and --route ::/0 for that"},
	{"address without length", Address, "2001:db8::2", "an address without its length; 2001:db8::2/64 or 2001:db8::2/128"},
	{"address is a prefix", Address, "2001:db8:1::/64", "a prefix; an address in it belongs here, like 2001:db8:1::1/64"},
	{"address multicast", Address, "ff02::1/64", "ff02::1 is no unicast address; like 2001:db8::2/64"},
	{"address loopback", Address, "::1/128", "::1 is no unicast address; like 2001:db8::2/64"},
	{"address length", Address, "2001:db8::2/129", "not an IPv6 address with its length, like 2001:db8::2/64"},
	{"address zone", Address, "fe80::1%eth0/64", "not an IPv6 address with its length, like 2001:db8::2/64"},
	{"address zone alone", Address, "fe80::1%eth0", "not an IPv6 address with its length, like 2001:db8::2/64"},
	{"address word", Address, "auto", "not an IPv6 address with its length, like 2001:db8::2/64"},
	{"route IPv4", Route, "0.0.0.0/0", "0.0.0.0/0 is an IPv4 prefix; the tunnel carries IPv6: ::/0 is everything"},
	{"route IPv4 address", Route, "192.0.2.1", "192.0.2.1 is an IPv4 address; the tunnel carries IPv6: ::/0 is everything"},
	{"route address", Route, "2001:db8::1", "2001:db8::1 is an address; a prefix belongs here: 2001:db8::1/128"},
	{"route host bits", Route, "2001:db8::1/64", "2001:db8::1/64 has bits set after its length; the prefix is 2001:db8::/64"},
	{"route zone", Route, "fe80::1%eth0", "not an IPv6 prefix, like 2001:db8:1::/48 or ::/0"},
	{"route word", Route, "default", "not an IPv6 prefix, like 2001:db8:1::/48 or ::/0"},
	{"peer without prefixes", Peers, "198.51.100.1", "its prefixes are missing, like 198.51.100.1=2001:db8:1::/48"},
	{"peer with nothing after =", Peers, "198.51.100.1=", "its prefixes are missing, like 198.51.100.1=2001:db8:1::/48"},
	{"peer IPv6", Peers, "2001:db8::1=2001:db8:1::/48", "an IPv6 address; a peer is an IPv4 address, like 198.51.100.1=2001:db8:1::/48"},
	{"peer multicast", Peers, "224.0.0.5=2001:db8:1::/48", "a multicast address; a peer is the address of a host, like 198.51.100.1=2001:db8:1::/48"},
	{"peer with IPv4 prefix", Peers, "198.51.100.1=192.0.2.0/24", "192.0.2.0/24 is an IPv4 prefix; the tunnel carries IPv6: an IPv6 prefix belongs here, like 2001:db8:1::/48"},
	{"peer with address", Peers, "198.51.100.1=2001:db8::1", "2001:db8::1 is an address; a prefix belongs here: 2001:db8::1/128"},
	{"peer with host bits", Peers, "198.51.100.1=::/0,2001:db8:1::1/48", "2001:db8:1::1/48 has bits set after its length; the prefix is 2001:db8:1::/48"},
	{"peer with empty prefix", Peers, "198.51.100.1=2001:db8:1::/48,", "not an IPv6 prefix, like 2001:db8:1::/48 or ::/0"},
	{"peer prefix twice", Peers, "198.51.100.1=2001:db8:1::/48,2001:db8:1::/48", "2001:db8:1::/48 belongs to peer 198.51.100.1 already"},
	{"name too long", Name, "abcdefghijklmnop", ifcfg.CheckName("abcdefghijklmnop").Error()},
	{"name with slash", Name, "a/b", ifcfg.CheckName("a/b").Error()},
	{"name empty", Name, "", ifcfg.CheckName("").Error()},
	{"mtu too small", MTU, "1279", "out of range; auto, probe, or 1280 (the least that IPv6 works with) to 65515 (the most that fits IPv4)"},
	{"mtu too large", MTU, "65516", "out of range; auto, probe, or 1280 (the least that IPv6 works with) to 65515 (the most that fits IPv4)"},
	{"mtu beyond numbers", MTU, "99999999999999999999", "out of range; auto, probe, or 1280 (the least that IPv6 works with) to 65515 (the most that fits IPv4)"},
	{"mtu no number", MTU, "1480b", "not a number; auto, probe, or 1280 (the least that IPv6 works with) to 65515 (the most that fits IPv4)"},
	{"mtu probe and nobody to ask", MTU, "probe", "nobody is known to ask at the far end; give --keepalive ADDRESS, its IPv6 address in the tunnel"},
	{"ttl 0", TTL, "0", "out of range; inherit, or 1 to 255 (64 is usual)"},
	{"ttl 256", TTL, "256", "out of range; inherit, or 1 to 255 (64 is usual)"},
	{"ttl word", TTL, "auto", "not a number; inherit, or 1 to 255 (64 is usual)"},
	{"tos ECN bits", TOS, "3", "sets ECN bits, the lowest two, which are copied from each packet; inherit, 0, or a multiple of 4 from 4 to 252 (here 0)"},
	{"tos ECN bit", TOS, "185", "sets ECN bits, the lowest two, which are copied from each packet; inherit, 0, or a multiple of 4 from 4 to 252 (here 184)"},
	{"tos too large", TOS, "256", "out of range; inherit, 0, or a multiple of 4 from 4 to 252"},
	{"tos hexadecimal", TOS, "0xb8", "not a number; inherit, 0, or a multiple of 4 from 4 to 252"},
	{"queues 0", Queues, "0", "out of range; auto, or 1 to 256"},
	{"queues word", Queues, "all", "not a number; auto, or 1 to 256"},
	{"wire", Wire, "udp", "no such wire; auto, raw, packet or bpf"},
	{"socket empty", Socket, "", "empty; the path of a socket belongs here, like /run/sixin4/home.sock"},
	{"socket too long", Socket, "/" + strings.Repeat("s", 107), "108 bytes long; the path of a socket has at most 107"},
	{"metrics empty", Metrics, "", "empty; an address of this host belongs here, like 127.0.0.1:9641"},
	{"metrics at a port alone", Metrics, ":9641", "a port without an address, like 127.0.0.1:9641 for this host alone, or 0.0.0.0:9641 for everybody"},
	{"metrics at a name", Metrics, "localhost:9641", "a host name; an IP address of this host belongs here, like 127.0.0.1:9641"},
	{"metrics, port too high", Metrics, "127.0.0.1:96410", `port "96410": not a port, 1 to 65535, like 127.0.0.1:9641`},
	{"metrics, no port behind the colon", Metrics, "[::1]:", `port "": not a port, 1 to 65535, like 127.0.0.1:9641`},
	{"metrics, port 0", Metrics, "127.0.0.1:0", "port 0 is none; 1 to 65535, like 127.0.0.1:9641"},
	{"metrics, no address", Metrics, "http://127.0.0.1:9641", "not an address with a port, like 127.0.0.1:9641"},
	{"metrics, multicast", Metrics, "224.0.0.1:9641", "224.0.0.1 is a multicast address; one of this host belongs here, like 127.0.0.1:9641"},
	{"metrics, mapped", Metrics, "[::ffff:127.0.0.1]:9641", "::ffff:127.0.0.1 is an IPv4 address in IPv6 form; write 127.0.0.1"},
	{"log format", LogFormat, "xml", "no such format; text or json"},
	{"verbose", Verbose, "yes", "neither true nor false"},
}

// TestBadValue reads each bad value once from the command line and once from
// line 3 of a file.
func TestBadValue(t *testing.T) {
	for _, tt := range badValues {
		t.Run(tt.name, func(t *testing.T) {
			shown := tt.value
			if shown == "" {
				shown = `""`
			}
			check(t, withValue(tt.key, Value{Text: tt.value}),
				"--"+string(tt.key)+" "+shown+": "+tt.wantCause, exit.Usage)
			origin := Origin{File: "/etc/sixin4/home.toml", Line: 3}
			check(t, withValue(tt.key, Value{Text: tt.value, Origin: origin}),
				"/etc/sixin4/home.toml:3: "+string(tt.key)+` = "`+tt.value+`": `+tt.wantCause, exit.Config)
		})
	}
}

// withValue is a configuration in which nothing is wrong but, perhaps, v.
func withValue(key Key, v Value) Raw {
	raw := flags("remote", "198.51.100.1")
	if key == Peers {
		raw = make(Raw)
	}
	raw[key] = []Value{v}
	return raw
}

func check(t *testing.T, raw Raw, wantText string, wantCode int) {
	t.Helper()
	_, err := Check(raw)
	if err == nil {
		t.Fatalf("no error; want %q", wantText)
	}
	if err.Error() != wantText {
		t.Errorf("error:\n got %s\nwant %s", err, wantText)
	}
	if got := exit.Code(err); got != wantCode {
		t.Errorf("exit status %d, want %d", got, wantCode)
	}
}

func TestBadCombination(t *testing.T) {
	tests := []struct {
		name string
		raw  Raw
		want string
	}{
		{"no peer", flags("local", "192.0.2.1"),
			"no far end: give --remote A.B.C.D, or --peer A.B.C.D=PREFIX once for each peer of a hub"},
		{"remote and peer", flags("remote", "198.51.100.1", "peer", "198.51.100.2=2001:db8:1::/48"),
			"--remote 198.51.100.1: together with --peer: --remote is a tunnel to one far end, --peer makes a hub of several; give one or the other"},
		{"peer twice", flags("peer", "198.51.100.1=2001:db8:1::/48", "peer", "198.51.100.1=2001:db8:2::/48"),
			"--peer 198.51.100.1=2001:db8:2::/48: 198.51.100.1 is a peer already; give all its prefixes in one --peer, with commas"},
		{"one prefix, two peers", flags("peer", "198.51.100.1=2001:db8:1::/48", "peer", "198.51.100.2=::/0,2001:db8:1::/48"),
			"--peer 198.51.100.2=::/0,2001:db8:1::/48: 2001:db8:1::/48 belongs to peer 198.51.100.1 already"},
		{"hub by the kernel", flags("peer", "198.51.100.1=2001:db8:1::/48", "wire", "bpf"),
			"--wire bpf: the kernel carries packets of one far end only; auto, raw or packet for a hub"},
		{"remote is local", flags("remote", "192.0.2.1", "local", "192.0.2.1"),
			"--remote 192.0.2.1: is the local address of this tunnel; the peer is the other end, an address of another host"},
		{"peer is local", flags("peer", "192.0.2.1=2001:db8:1::/48", "local", "192.0.2.1"),
			"--peer 192.0.2.1=2001:db8:1::/48: is the local address of this tunnel; the peer is the other end, an address of another host"},
		{"address twice", flags("remote", "198.51.100.1", "address", "2001:db8::2/64", "address", "2001:db8:0::2/64"),
			"--address 2001:db8:0::2/64: given twice"},
		{"route twice", flags("remote", "198.51.100.1", "route", "::/0", "route", "0::/0"),
			"--route 0::/0: given twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { check(t, tt.raw, tt.want, exit.Usage) })
	}
}

func TestDefaults(t *testing.T) {
	raw := flags("remote", "198.51.100.1")
	got, err := Check(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Peers: []Peer{{
			Remote:   netip.MustParseAddr("198.51.100.1"),
			Prefixes: []netip.Prefix{netip.MustParsePrefix("::/0")},
			key:      Remote,
			from:     Value{Text: "198.51.100.1"},
		}},
		Common: Common{TTL: Field{Value: 64}, Wire: WireAuto},
		raw:    raw,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Check:\n got %+v\nwant %+v", got, want)
	}
}

func TestGoodValues(t *testing.T) {
	prefix := netip.MustParsePrefix
	got, err := Check(flags(
		"peer", "10.0.0.1=2001:db8:1::/48,fd00::/8", "peer", "10.0.0.2=2001:db8:1:2::/64",
		"local", "192.168.1.2", "address", "2001:db8::2/64", "address", "2001:db8:f::/127",
		"route", "2001:db8::/32", "name", "first", "name", "last", "mtu", "1280", "ttl", "inherit",
		"tos", "184", "queues", "2", "socket", "/tmp/s", "metrics", "127.0.0.1:9641", "log-format", "json", "verbose", "true"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"hub", got.Hub, true},
		{"prefixes of the first peer", got.Peers[0].Prefixes, []netip.Prefix{prefix("2001:db8:1::/48"), prefix("fd00::/8")}},
		{"second peer, inside the first's prefix", got.Peers[1].Remote, netip.MustParseAddr("10.0.0.2")},
		{"local", got.Local, netip.MustParseAddr("192.168.1.2")},
		{"addresses", got.Addresses, []netip.Prefix{prefix("2001:db8::2/64"), prefix("2001:db8:f::/127")}},
		{"routes", got.Routes, []netip.Prefix{prefix("2001:db8::/32")}},
		{"last name wins", got.Name, "last"},
		{"mtu", int(got.MTU), 1280},
		{"ttl", got.TTL, Field{Inherit: true}},
		{"tos", got.TOS, Field{Value: 184}},
		{"queues", got.Queues, 2},
		{"socket", got.Socket, "/tmp/s"},
		{"metrics", got.Metrics, netip.MustParseAddrPort("127.0.0.1:9641")},
		{"log as JSON", got.LogJSON, true},
		{"verbose", got.Verbose, true},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: got %v, want %v", c.what, c.got, c.want)
		}
	}
}

// TestInvalidNamesOrigin is about errors that the daemon finds later.
func TestInvalidNamesOrigin(t *testing.T) {
	raw := flags("remote", "198.51.100.1")
	raw[Name] = []Value{{Text: "six0", Origin: Origin{"up.toml", 7}}}
	c, err := Check(raw)
	if err != nil {
		t.Fatal(err)
	}
	err = c.Invalid(Name, "exists")
	if err.Error() != `up.toml:7: name = "six0": exists` || exit.Code(err) != exit.Config {
		t.Errorf("from the file: %v (%d)", err, exit.Code(err))
	}
	err = c.Peers[0].Invalid("is away")
	if err.Error() != "--remote 198.51.100.1: is away" || exit.Code(err) != exit.Usage {
		t.Errorf("from the command line: %v (%d)", err, exit.Code(err))
	}
}

func TestMetricsAddress(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:1": "127.0.0.1:1", "127.0.0.1": "127.0.0.1:9641", "0.0.0.0:9641": "0.0.0.0:9641",
		"[::1]:9999": "[::1]:9999", "[::1]": "[::1]:9641", "::1": "[::1]:9641", "[fe80::1%eth0]:9641": "[fe80::1%eth0]:9641",
	} {
		if got, err := parseMetrics(text); got.String() != want || err != nil {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
}
