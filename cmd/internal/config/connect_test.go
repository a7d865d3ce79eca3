package config

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"sixin4/cmd/internal/exit"
	"sixin4/tsp"
)

const anyServer = "192.0.2.1"

// badConnect are values that are wrong by themselves, with the reason that stands
// after the value in the message.
var badConnect = []struct {
	name      string
	key       Key
	value     string
	wantCause string
}{
	{"server empty", Servers, "", "empty; a broker belongs here, like broker.example.net, 192.0.2.1:3653 or [2001:db8::1]"},
	{"server too long", Servers, strings.Repeat("a", 1026), "1026 characters long; at most 1025"},
	{"server URL", Servers, "https://broker.example.net/", "an address of the web; the broker's name or address belongs here, like broker.example.net, 192.0.2.1:3653 or [2001:db8::1]"},
	{"server IPv6 without brackets", Servers, "2001:db8::1", "an IPv6 address stands in brackets: [2001:db8::1]"},
	{"server bracket open", Servers, "[2001:db8::1", "brackets that do not match, like broker.example.net, 192.0.2.1:3653 or [2001:db8::1]"},
	{"server behind bracket", Servers, "[2001:db8::1]3653", "brackets that do not match, like broker.example.net, 192.0.2.1:3653 or [2001:db8::1]"},
	{"server IPv4 in brackets", Servers, "[192.0.2.1]", "no IPv6 address in the brackets, like [2001:db8::1]:3653"},
	{"server zone", Servers, "[fe80::1%eth0]", "no IPv6 address in the brackets, like [2001:db8::1]:3653"},
	{"server IPv6 multicast", Servers, "[ff02::1]", "ff02::1 is not the address of a host, like [2001:db8::1]:3653"},
	{"server IPv6 unspecified", Servers, "[::]", ":: is not the address of a host, like [2001:db8::1]:3653"},
	{"server mapped", Servers, "[::ffff:192.0.2.1]", "::ffff:192.0.2.1 is not the address of a host, like [2001:db8::1]:3653"},
	{"server port 0", Servers, "192.0.2.1:0", `port "0": out of range; 1 to 65535, usually 3653`},
	{"server port", Servers, "192.0.2.1:65536", `port "65536": out of range; 1 to 65535, usually 3653`},
	{"server port missing", Servers, "192.0.2.1:", `port "": not a number; 1 to 65535, usually 3653`},
	{"server port word", Servers, "[2001:db8::1]:tsp", `port "tsp": not a number; 1 to 65535, usually 3653`},
	{"server multicast", Servers, "224.0.0.1", "a multicast address; the broker is a host, like broker.example.net, 192.0.2.1:3653 or [2001:db8::1]"},
	{"server half an address", Servers, "192.0.2", "neither an IPv4 address nor a host name, like broker.example.net, 192.0.2.1:3653 or [2001:db8::1]"},
	{"server prefix", Servers, "192.0.2.0/24", "not a host name, like broker.example.net, 192.0.2.1:3653 or [2001:db8::1]"},
	{"server blank", Servers, "broker one", "not a host name, like broker.example.net, 192.0.2.1:3653 or [2001:db8::1]"},
	{"server dots", Servers, "broker..example.net", "not a host name, like broker.example.net, 192.0.2.1:3653 or [2001:db8::1]"},
	{"server hyphen", Servers, "-broker.example.net", "not a host name, like broker.example.net, 192.0.2.1:3653 or [2001:db8::1]"},
	{"server long part", Servers, strings.Repeat("a", 64) + ".example.net", "a name with a part of 64 characters, of which there are at most 63, like broker.example.net, 192.0.2.1:3653 or [2001:db8::1]"},
	{"server long name", Servers, strings.Repeat("a.", 130) + "net", "a name of 263 characters, of which there are at most 253, like broker.example.net, 192.0.2.1:3653 or [2001:db8::1]"},
	{"auth", Auth, "cram-md5", "no such authentication; any, anonymous, plain, digest-md5 or scram-sha-256"},
	{"auth in capitals", Auth, "PLAIN", "no such authentication; any, anonymous, plain, digest-md5 or scram-sha-256"},
	{"auth of old", Auth, "passdss-3des-1", "not supported; digest-md5, or any for the best that the broker has"},
	{"user empty", User, "", "empty; the name of an account belongs here"},
	{"user too long", User, strings.Repeat("u", 254), "254 bytes long; at most 253"},
	{"mode", Mode, "6in4", "no such mode; v6anyv4, v6v4 or v6udpv4"},
	{"mode v4v6", Mode, "v4v6", "not supported: sixin4 carries IPv6; v6anyv4, v6v4 or v6udpv4"},
	{"mode dslite", Mode, "dslite", "not supported: sixin4 carries IPv6; v6anyv4, v6v4 or v6udpv4"},
	{"transport", Transport, "tls", "no such transport; auto, udp or tcp"},
	{"no-route", NoRoute, "yes", "neither true nor false"},
	{"once", Once, "1", "neither true nor false"},
	{"router", Router, "eth1", "neither true nor false"},
	{"proxy", Proxy, "", "neither true nor false"},
	{"always-same-server", AlwaysSame, "no", "neither true nor false"},
	{"prefix-length 0", PrefixLength, "0", "out of range; 1 to 128, usually 48 to 64; without it the prefix is as long as the account has it"},
	{"prefix-length 129", PrefixLength, "129", "out of range; 1 to 128, usually 48 to 64; without it the prefix is as long as the account has it"},
	{"prefix-length slash", PrefixLength, "/48", "not a number; 1 to 128, usually 48 to 64; without it the prefix is as long as the account has it"},
	{"lan empty", LAN, "", `interface name "": is empty`},
	{"lan slash", LAN, "a/b", `interface name "a/b": the character '/' is not allowed`},
	{"lan subnet too large", LAN, "eth1=10000", `subnet "10000": 0 to ffff in hexadecimal, like eth1=1`},
	{"lan subnet no number", LAN, "eth1=x", `subnet "x": 0 to ffff in hexadecimal, like eth1=1`},
	{"lan subnet missing", LAN, "eth1=", `subnet "": 0 to ffff in hexadecimal, like eth1=1`},
	{"lan subnet sign", LAN, "eth1=-1", `subnet "-1": 0 to ffff in hexadecimal, like eth1=1`},
	{"reverse-dns address", ReverseDNS, "192.0.2.53", "an address; the name of a name server belongs here, like ns1.example.net"},
	{"reverse-dns", ReverseDNS, "ns1,ns2", "not a host name, like ns1.example.net"},
	{"local", Local, "2001:db8::1", "an IPv6 address; the local end of the tunnel is an IPv4 address, like 192.0.2.1 (or auto)"},
	{"keepalive word", Keepalive, "never", "not a time; 1s to 24h, like 30s, or 0 for none"},
	{"keepalive negative", Keepalive, "-1s", "out of range; 1s to 24h, like 30s, or 0 for none"},
	{"keepalive too long", Keepalive, "25h", "out of range; 1s to 24h, like 30s, or 0 for none"},
	{"keepalive half seconds", Keepalive, "1500ms", "not whole seconds; 1s to 24h, like 30s, or 0 for none"},
	{"keepalive empty", Keepalive, "", "not a time; 1s to 24h, like 30s, or 0 for none"},
	{"keepalive beyond numbers", Keepalive, "99999999999999999999", "not a time; 1s to 24h, like 30s, or 0 for none"},
	{"retry-delay 0", RetryDelay, "0", "out of range; 1s to 1h, like 30s"},
	{"retry-delay too long", RetryDelay, "61m", "out of range; 1s to 1h, like 30s"},
	{"retry-max too long", RetryMax, "3601", "out of range; 1s to 1h, like 30s"},
	{"broker-list empty", BrokerList, "", "empty; the path of a file belongs here"},
	{"last-server control character", LastServer, "a\x1bb", "has a control character in it"},
	{"script relative", Script, "template/linux.sh", "a relative path; it has to begin with a slash"},
	{"script missing", Script, "/nonexistent/linux.sh", "no such file or directory"},
	{"script a directory", Script, "/", "not a regular file; a script for /bin/sh belongs here"},
	{"home-dir relative", HomeDir, ".", "a relative path; it has to begin with a slash"},
	{"home-dir empty", HomeDir, "", "empty; the path of a file belongs here"},
	{"on-up empty", OnUp, " ", "empty; a command for /bin/sh belongs here"},
	{"on-down zero byte", OnDown, "a\x00b", "has a zero byte in it"},
	{"shared with up", MTU, "1279", "out of range; auto, probe, or 1280 (the least that IPv6 works with) to 65515 (the most that fits IPv4)"},
}

// TestBadConnect reads each bad value once from the command line and once from
// line 3 of a file.
func TestBadConnect(t *testing.T) {
	for _, tt := range badConnect {
		t.Run(tt.name, func(t *testing.T) {
			raw := flags("server", anyServer)
			raw[tt.key] = []Value{{Text: tt.value}}
			checkConnect(t, raw, "--"+string(tt.key)+" "+brief(tt.value, shown)+": "+tt.wantCause, exit.Usage)
			v := Value{Text: tt.value, Origin: Origin{File: "/etc/sixin4/home.toml", Line: 3}}
			raw[tt.key] = []Value{v}
			checkConnect(t, raw, "/etc/sixin4/home.toml:3: "+v.assignment(tt.key)+": "+tt.wantCause, exit.Config)
		})
	}
}

func checkConnect(t *testing.T, raw Raw, wantText string, wantCode int) {
	t.Helper()
	_, err := CheckConnect(raw, Secret{})
	wantError(t, err, wantText, wantCode)
}

func wantError(t *testing.T, err error, wantText string, wantCode int) {
	t.Helper()
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

func TestBadConnectCombination(t *testing.T) {
	with := func(pairs ...string) Raw { return flags(append([]string{"server", anyServer}, pairs...)...) }
	tests := []struct {
		name string
		raw  Raw
		want string
	}{
		{"no server", Raw{}, "no broker: give --server HOST[:PORT], or a file that names one with -f FILE"},
		{"server twice", with("server", "192.0.2.1:3653"), "--server 192.0.2.1:3653: given twice"},
		{"reverse-dns twice", with("reverse-dns", "ns.example.net", "reverse-dns", "ns.example.net"), "--reverse-dns ns.example.net: given twice"},
		{"nine name servers", with("reverse-dns", "n1", "reverse-dns", "n2", "reverse-dns", "n3", "reverse-dns", "n4", "reverse-dns", "n5",
			"reverse-dns", "n6", "reverse-dns", "n7", "reverse-dns", "n8", "reverse-dns", "n9"),
			"--reverse-dns n9: one name too many; at most 8"},
		{"v6udpv4 over tcp", with("mode", "v6udpv4", "transport", "tcp"),
			"--transport tcp: mode v6udpv4 has its packets in the very UDP flow that negotiates it; auto or udp"},
		{"v6udpv4 for another host", with("mode", "v6udpv4", "proxy", "true"),
			"--proxy true: not with mode v6udpv4, whose tunnel ends where it is negotiated; v6v4 or v6anyv4"},
		{"keepalive of another host", with("proxy", "true", "keepalive", "30s"),
			"--keepalive 30s: the tunnel of a proxy ends at another host, so nothing here can keep it alive; 0, or none at all"},
		{"lan of no router", with("router", "false", "lan", "eth1"), "--lan eth1: only a router gets a prefix, and router is false"},
		{"prefix of no router", with("router", "false", "prefix-length", "48"), "--prefix-length 48: only a router gets a prefix, and router is false"},
		{"subnet of a /64", with("prefix-length", "64", "lan", "eth1=1"), "--lan eth1=1: a /64 has no subnet 1; 0 to 0"},
		{"subnet of a /56", with("prefix-length", "56", "lan", "eth1=100"), "--lan eth1=100: a /56 has no subnet 100; 0 to ff"},
		{"subnet of a /80", with("prefix-length", "80", "lan", "eth1=1"), "--lan eth1=1: a /80 has no subnet 1; 0 to 0"},
		{"delay longer than longest", with("retry-delay", "2m", "retry-max", "1m"), "--retry-delay 2m: longer than --retry-max, which is 1m0s"},
		{"always the same without a file", with("always-same-server", "true"),
			"--always-same-server true: which broker that is has to be kept in a file; give --last-server FILE"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { checkConnect(t, tt.raw, tt.want, exit.Usage) })
	}
}

func TestConnectDefaults(t *testing.T) {
	raw := flags("server", anyServer)
	got, err := CheckConnect(raw, Secret{})
	if err != nil {
		t.Fatal(err)
	}
	want := Connect{
		Common:     Common{TTL: Field{Value: 64}, Wire: WireAuto},
		Servers:    []Server{{"192.0.2.1", 3653}},
		Auth:       "anonymous",
		Mode:       tsp.V6AnyV4,
		Transport:  "auto",
		Keepalive:  30 * time.Second,
		RetryDelay: 30 * time.Second,
		RetryMax:   5 * time.Minute,
		raw:        raw,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("CheckConnect:\n got %+v\nwant %+v", got, want)
	}
}

func TestGoodConnect(t *testing.T) {
	script := write(t, "exit 0\n")
	got, err := CheckConnect(flags(
		"server", "broker.example.net", "server", "192.0.2.1:4343", "server", "[2001:DB8::1]:1", "server", "localhost.",
		"auth", "digest-md5", "user", "alice", "mode", "v6udpv4", "transport", "udp", "no-route", "true", "once", "true",
		"prefix-length", "52", "lan", "eth1=FfF", "reverse-dns", "ns1.example.net", "reverse-dns", "ns2.example.net.",
		"local", "10.0.0.2", "keepalive", "90", "retry-delay", "10s", "retry-max", "1h",
		"broker-list", "list", "last-server", "/var/last", "always-same-server", "true", "script", script,
		"on-up", "echo up", "on-down", "echo down", "name", "six", "mtu", "1280", "verbose", "true"),
		NewSecret("secret"))
	if err != nil {
		t.Fatal(err)
	}
	got.raw = nil
	dir := script[:strings.LastIndexByte(script, '/')]
	want := Connect{
		Common:  Common{Name: "six", MTU: 1280, TTL: Field{Value: 64}, Wire: WireAuto, Verbose: true},
		Servers: []Server{{"broker.example.net", 3653}, {"192.0.2.1", 4343}, {"2001:db8::1", 1}, {"localhost.", 3653}},
		Auth:    "digest-md5", User: "alice", Password: NewSecret("secret"), Mode: tsp.V6UDPV4, Transport: "udp",
		NoRoute: true, Once: true, Router: true, PrefixLength: 52, LAN: "eth1", Subnet: 0xfff,
		ReverseDNS: []string{"ns1.example.net", "ns2.example.net"}, Local: netip.MustParseAddr("10.0.0.2"),
		Keepalive: 90 * time.Second, RetryDelay: 10 * time.Second, RetryMax: time.Hour,
		BrokerList: "list", LastServer: "/var/last", AlwaysSame: true, Script: script, HomeDir: dir,
		OnUp: "echo up", OnDown: "echo down",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("CheckConnect:\n got %+v\nwant %+v", got, want)
	}
}

// TestConnectImplies is about settings that follow from others.
func TestConnectImplies(t *testing.T) {
	for _, tt := range []struct {
		name string
		raw  Raw
		got  func(Connect) any
		want any
	}{
		{"lan makes a router", flags("lan", "eth1"), func(c Connect) any { return c.Router }, true},
		{"prefix-length makes a router", flags("prefix-length", "48"), func(c Connect) any { return c.Router }, true},
		{"reverse-dns makes a router", flags("reverse-dns", "ns1"), func(c Connect) any { return c.Router }, true},
		{"a router without more", flags("router", "true"), func(c Connect) any { return [2]any{c.Router, c.PrefixLength} }, [2]any{true, 0}},
		{"denied alone", flags("router", "false"), func(c Connect) any { return c.Router }, false},
		{"largest subnet of a /48", flags("prefix-length", "48", "lan", "eth1=ffff"), func(c Connect) any { return c.Subnet }, uint16(0xffff)},
		{"subnet of an unknown length", flags("lan", "eth1=ffff"), func(c Connect) any { return c.Subnet }, uint16(0xffff)},
		{"proxy keeps nothing alive", flags("proxy", "true"), func(c Connect) any { return c.Keepalive }, time.Duration(0)},
		{"proxy without keepalive", flags("proxy", "true", "keepalive", "0"), func(c Connect) any { return c.Keepalive }, time.Duration(0)},
		{"long delay", flags("retry-delay", "10m"), func(c Connect) any { return c.RetryMax }, 10 * time.Minute},
		{"short longest delay", flags("retry-max", "5s"), func(c Connect) any { return c.RetryDelay }, 5 * time.Second},
		{"home given", flags("home-dir", "/opt/../srv"), func(c Connect) any { return c.HomeDir }, "/srv"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.raw.Set(Servers, anyServer)
			c, err := CheckConnect(tt.raw, Secret{})
			if err != nil {
				t.Fatal(err)
			}
			if got := tt.got(c); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestServerString(t *testing.T) {
	for text, want := range map[string]string{
		"broker.example.net": "broker.example.net:3653",
		"192.0.2.1:4343":     "192.0.2.1:4343",
		"[2001:db8::1]":      "[2001:db8::1]:3653",
		"127.0.0.1:1":        "127.0.0.1:1",
		"tunnel_1.example":   "tunnel_1.example:3653",
	} {
		s, err := ParseServer(text)
		if err != nil || s.String() != want {
			t.Errorf("%s: %v, %v; want %s", text, s, err, want)
		}
	}
}

func TestConnectInvalid(t *testing.T) {
	raw := flags("server", anyServer)
	raw[Name] = []Value{{Text: "six0", Origin: Origin{File: "home.toml", Line: 7}}}
	c, err := CheckConnect(raw, Secret{})
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, c.Invalid(Name, "exists"), `home.toml:7: name = "six0": exists`, exit.Config)
	wantError(t, c.Invalid(Servers, "is gone"), "--server 192.0.2.1: is gone", exit.Usage)
}

// TestShown is about how a value of the command line stands in a message.
func TestShown(t *testing.T) {
	for text, want := range map[string]string{
		"": `""`, "a": "a", "two words": `"two words"`, "tab\t": `"tab\t"`, "line\n": `"line\n"`,
		"\x1b[31m": `"\x1b[31m"`, `"`: `"`, "ü": "ü", "\xff": `"\xff"`, "a\u00a0b": `"a\u00a0b"`,
	} {
		if got := shown(text); got != want {
			t.Errorf("shown(%q) = %s, want %s", text, got, want)
		}
	}
}
