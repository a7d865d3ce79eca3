package config

import (
	"net/netip"
	"strings"
	"testing"

	"sixin4/cmd/internal/exit"
)

// badBroker are values that are wrong by themselves, with the reason that stands after
// the value in the message.
var badBroker = []struct {
	name      string
	key       Key
	value     string
	wantCause string
}{
	{"prefix empty", Prefix, "", "not an IPv6 prefix, like 2001:db8:1000::/36"},
	{"prefix word", Prefix, "auto", "not an IPv6 prefix, like 2001:db8:1000::/36"},
	{"prefix without length", Prefix, "2001:db8::", "an address without a length; a prefix belongs here, like 2001:db8:1000::/36"},
	{"prefix IPv4", Prefix, "192.0.2.0/24", "192.0.2.0/24 is an IPv4 prefix; the tunnel carries IPv6: the network of a broker is one of IPv6, like 2001:db8:1000::/36"},
	{"prefix IPv4 address", Prefix, "192.0.2.2", "192.0.2.2 is an IPv4 address; the tunnel carries IPv6: the network of a broker is one of IPv6, like 2001:db8:1000::/36"},
	{"prefix host bits", Prefix, "2001:db8:1001::/36", "2001:db8:1001::/36 has bits set after its length; the prefix is 2001:db8:1000::/36"},
	{"prefix too small", Prefix, "2001:db8::/65", "too small: a /64 is the least, and leaves nothing to delegate; with a /48 every network of a LAN gets a /64"},
	{"prefix too large", Prefix, "2000::/19", "too large: a /20 is the most; no provider routes that to one host"},
	{"prefix of everything", Prefix, "::/0", "too large: a /20 is the most; no provider routes that to one host"},
	{"prefix multicast", Prefix, "ff02::/32", "no network of global addresses; the one that is routed to this host belongs here, like 2001:db8:1000::/36"},
	{"prefix link-local", Prefix, "fe80::/64", "no network of global addresses; the one that is routed to this host belongs here, like 2001:db8:1000::/36"},
	{"prefix of the loopback address", Prefix, "::/64", "no network of global addresses; the one that is routed to this host belongs here, like 2001:db8:1000::/36"},
	{"prefix mapped", Prefix, "::ffff:0:0/64", "::ffff:0.0.0.0/64 has bits set after its length; the prefix is ::/64"},
	{"prefix zone", Prefix, "fe80::%eth0/64", "not an IPv6 prefix, like 2001:db8:1000::/36"},
	{"listen IPv6", Listen, "2001:db8::1", "an IPv6 address; tunnels end at an IPv4 address of this host, like 192.0.2.2 or 192.0.2.2:3653"},
	{"listen IPv6 with port", Listen, "[2001:db8::1]:3653", "an IPv6 address; tunnels end at an IPv4 address of this host, like 192.0.2.2 or 192.0.2.2:3653"},
	{"listen everywhere", Listen, "0.0.0.0", "all addresses at once; tunnels end at one of them: give --listen for each that clients know, or none for that of the default route"},
	{"listen everywhere in IPv6", Listen, "[::]:3653", "an IPv6 address; tunnels end at an IPv4 address of this host, like 192.0.2.2 or 192.0.2.2:3653"},
	{"listen port alone", Listen, ":3653", "not an IPv4 address, like 192.0.2.2 (or none for that of the default route)"},
	{"listen port 0", Listen, "192.0.2.2:0", `port "0": out of range; 1 to 65535, usually 3653`},
	{"listen port word", Listen, "192.0.2.2:tsp", `port "tsp": not a number; 1 to 65535, usually 3653`},
	{"listen name", Listen, "eth0", "a host name; give its IPv4 address (getent ahostsv4 eth0 prints it)"},
	{"listen prefix", Listen, "192.0.2.2/24", "a prefix; an address belongs here: 192.0.2.2"},
	{"listen loopback", Listen, "127.0.0.1", "a loopback address; what clients connect to is the address of a host, like 192.0.2.2 (or none for that of the default route)"},
	{"listen multicast", Listen, "224.0.0.1", "a multicast address; what clients connect to is the address of a host, like 192.0.2.2 (or none for that of the default route)"},
	{"listen empty", Listen, "", "not an IPv4 address, like 192.0.2.2 (or none for that of the default route)"},
	{"anonymous", Anonymous, "yes", "neither true nor false"},
	{"configure-host", ConfigureHost, "1", "neither true nor false"},
	{"dns IPv4", DNS, "192.0.2.53", "an IPv4 address; clients are told resolvers of IPv6, like 2001:db8::53"},
	{"dns mapped", DNS, "::ffff:192.0.2.53", "an IPv4 address; clients are told resolvers of IPv6, like 2001:db8::53"},
	{"dns name", DNS, "dns.example.net", "a host name; the IPv6 address of a resolver belongs here, like 2001:db8::53"},
	{"dns zone", DNS, "fe80::1%eth0", "not an IPv6 address, like 2001:db8::53"},
	{"dns link-local", DNS, "fe80::1", "fe80::1 is not an address that a client reaches, like 2001:db8::53"},
	{"dns loopback", DNS, "::1", "::1 is not an address that a client reaches, like 2001:db8::53"},
	{"dns empty", DNS, "", "not an IPv6 address, like 2001:db8::53"},
	{"redirect empty", Redirect, "", "empty; a broker belongs here, like 192.0.2.3 or broker.example.net"},
	{"redirect comma", Redirect, "192.0.2.3,", "empty; a broker belongs here, like 192.0.2.3 or broker.example.net"},
	{"redirect port", Redirect, "192.0.2.3:4000", "192.0.2.3:4000: a redirection has no ports; the broker has to listen on 3653"},
	{"redirect word", Redirect, "not_a_name!", "not a host name, like broker.example.net, 192.0.2.1:3653 or [2001:db8::1]"},
	{"redirect twice", Redirect, "192.0.2.3, 192.0.2.3", "192.0.2.3 given twice"},
	{"redirect twice in two spellings", Redirect, "b.example.net,B.Example.net", "b.example.net given twice"},
	{"state empty", State, "", "empty; the path of a file belongs here"},
	{"state newline", State, "a\nb", "has a control character in it"},
	{"state is a key", State, "/x/tspd.key", "the usual name of the key file; the database needs another one"},
	{"key file empty", KeyFile, "", "empty; the path of a file belongs here"},
	{"key file is the database", KeyFile, "/var/lib/sixin4/./tspd.db", "the database itself; a file of its own belongs here"},
	{"lifetime too short", Lifetime, "4m59s", "out of range; 5m to 3650d, like 7d"},
	{"lifetime too long", Lifetime, "3651d", "out of range; 5m to 3650d, like 7d"},
	{"lifetime of many days", Lifetime, "99999d", "not a time; 5m to 3650d, like 7d"},
	{"lifetime word", Lifetime, "forever", "not a time; 5m to 3650d, like 7d"},
	{"keepalive none", Keepalive, "0", "out of range; 1s to 24h, like 30s"},
	{"keepalive fraction", Keepalive, "1500ms", "not whole seconds; 1s to 24h, like 30s"},
	{"silence too short", Silence, "1s", "out of range; 2s to 3650d, like 15m"},
	{"silence none", Silence, "0", "out of range; 2s to 3650d, like 15m"},
	{"anonymous lease", AnonymousLease, "30s", "out of range; 1m to 3650d, like 24h"},
	{"quarantine below 0", Quarantine, "-1h", "out of range; 1s to 3650d, like 7d, or 0 for none"},
	{"iterations too few", Iterations, "4095", "out of range; 4096 to 1000000; 100000 is usual, more is harder to guess and slower to log in with"},
	{"iterations too many", Iterations, "1000001", "out of range; 4096 to 1000000; 100000 is usual, more is harder to guess and slower to log in with"},
	{"iterations word", Iterations, "many", "not a number; 4096 to 1000000; 100000 is usual, more is harder to guess and slower to log in with"},
	{"redirect-above word", RedirectAbove, "many", "not a number; 0 for none, or how many tunnels there may be before clients are sent on, like 5000"},
	{"redirect-above without redirect", RedirectAbove, "10", "there is no broker to send clients to; it needs --redirect"},
	{"node with a space", Node, "a b", "printable ASCII without spaces only, like broker1.example.net"},
	{"node too long", Node, strings.Repeat("x", 254), "254 bytes long; at most 253"},
	{"tunnel-rate word", TunnelRate, "fast", "not a rate; 1kbit to 1000gbit, like 10mbit (bits a second, as tc writes it), or 0 for no limit"},
	{"tunnel-rate empty", TunnelRate, "", "not a rate; 1kbit to 1000gbit, like 10mbit (bits a second, as tc writes it), or 0 for no limit"},
	{"tunnel-rate infinite", TunnelRate, "infmbit", "not a rate; 1kbit to 1000gbit, like 10mbit (bits a second, as tc writes it), or 0 for no limit"},
	{"tunnel-rate in bytes", TunnelRate, "10mbps", "bytes a second are bps to some and bits to others; 1kbit to 1000gbit, like 10mbit (bits a second, as tc writes it), or 0 for no limit"},
	{"tunnel-rate too small", TunnelRate, "999", "out of range; 1kbit to 1000gbit, like 10mbit (bits a second, as tc writes it), or 0 for no limit"},
	{"tunnel-rate negative", TunnelRate, "-1mbit", "out of range; 1kbit to 1000gbit, like 10mbit (bits a second, as tc writes it), or 0 for no limit"},
	{"tunnel-rate too large", TunnelRate, "1001gbit", "out of range; 1kbit to 1000gbit, like 10mbit (bits a second, as tc writes it), or 0 for no limit"},
	{"block-ports word", BlockPorts, "smtp", `"smtp": not a number; 1 to 65535, perhaps with /tcp or /udp, like 25/tcp,135; none for none`},
	{"block-ports 0", BlockPorts, "25,0", `"0": out of range; 1 to 65535, perhaps with /tcp or /udp, like 25/tcp,135; none for none`},
	{"block-ports of another protocol", BlockPorts, "25/sctp", `"25/sctp": no protocol with ports; 1 to 65535, perhaps with /tcp or /udp, like 25/tcp,135; none for none`},
	{"block-ports empty part", BlockPorts, "25,", `"": not a number; 1 to 65535, perhaps with /tcp or /udp, like 25/tcp,135; none for none`},
	{"realm empty", Realm, "", "empty; the name of a broker belongs here, like broker.example.net"},
	{"realm with a quote", Realm, `a"b`, "letters, digits, dots and hyphens only: there are clients that read no more"},
	{"realm too long", Realm, strings.Repeat("x", 33), "33 characters long; at most 32"},
	{"name with slash", Name, "a/b", `"a/b": not a name for an interface`},
	{"mtu", MTU, "1279", "out of range; auto, probe, or 1280 (the least that IPv6 works with) to 65515 (the most that fits IPv4)"},
	{"verbose", Verbose, "yes", "neither true nor false"},
}

// TestBadBroker reads each bad value once from the command line and once from a file.
func TestBadBroker(t *testing.T) {
	for _, tt := range badBroker {
		t.Run(tt.name, func(t *testing.T) {
			cause := tt.wantCause
			if tt.key == Name {
				_, err := parseName(tt.value)
				cause = err.Error()
			}
			raw := flags("prefix", anyPool)
			raw[tt.key] = []Value{{Text: tt.value}}
			_, err := CheckBroker(raw)
			wantError(t, err, "--"+string(tt.key)+" "+brief(tt.value, shown)+": "+cause, exit.Usage)
			raw[tt.key] = []Value{{Text: tt.value, Origin: Origin{File: "/etc/sixin4/tspd.toml", Line: 3}}}
			_, err = CheckBroker(raw)
			wantError(t, err, "/etc/sixin4/tspd.toml:3: "+assigned(tt.key, tt.value)+": "+cause, exit.Config)
		})
	}
}

func assigned(key Key, text string) string {
	return Value{Text: text, Origin: Origin{File: "f"}}.assignment(key)
}

func TestBadBrokerCombination(t *testing.T) {
	many := func(n int, text func(i int) string) []string {
		var pairs []string
		for i := range n {
			pairs = append(pairs, text(i))
		}
		return pairs
	}
	brokers := strings.Join(many(51, func(i int) string { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}).String() }), ",")
	nine := flags("prefix", anyPool)
	for i := range 9 {
		nine.Set(DNS, "2001:db8::"+string(rune('1'+i)))
	}
	tests := []struct {
		name string
		raw  Raw
		want string
	}{
		{"nothing", Raw{}, "no prefix: give --prefix PREFIX, the IPv6 network that is routed to this host, like 2001:db8:1000::/36"},
		{"listen twice", flags("prefix", anyPool, "listen", "192.0.2.2", "listen", "192.0.2.2:3653"), "--listen 192.0.2.2:3653: given twice"},
		{"dns twice", flags("prefix", anyPool, "dns", "2001:db8::1", "dns", "2001:db8:0::1"), "--dns 2001:db8:0::1: given twice"},
		{"nine resolvers", nine, "--dns 2001:db8::9: one resolver too many; at most 8"},
		{"redirect in two flags", flags("prefix", anyPool, "redirect", "192.0.2.3", "redirect", "192.0.2.4,192.0.2.3"), "--redirect 192.0.2.4,192.0.2.3: 192.0.2.3 given twice"},
		{"51 brokers", flags("prefix", anyPool, "redirect", brokers), "--redirect " + brief(brokers, asIs) + ": 51 brokers in all; at most 50"},
		{"silence shorter than keepalive", flags("prefix", anyPool, "silence", "1m", "keepalive", "31s"),
			"--silence 1m: less than twice --keepalive, which is 31s: one lost packet would take a tunnel down"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := CheckBroker(tt.raw)
			wantError(t, err, tt.want, exit.Usage)
		})
	}
}

func TestReadBrokerErrors(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown", "silense = \"5m\"\n", `FILE:1: unknown key "silense"; the nearest known key is "silence"`},
		{"account", "legacy-login = true\n", `FILE:1: unknown key "legacy-login"; the known keys are anonymous, anonymous-lease, block-ports, clamp-mss, configure-host, dns, ` +
			"iterations, keepalive, key-file, lifetime, listen, log-format, metrics, mtu, name, node, prefix, quarantine, queues, realm, redirect, redirect-above, sign-up, sign-up-prefix-length, silence, smtp-from, smtp-password-file, smtp-server, smtp-tls, smtp-user, " +
			"socket, state, tos, ttl, tunnel-rate, verbose, web, web-cert, web-key, web-proxy, web-url, wire"},
		{"list for one value", "prefix = [\"2001:db8::/36\"]\n", "FILE:1: prefix: a list; it has one value"},
		{"no quotes", "lifetime = 7d\n", `FILE:1: lifetime = 7d: text needs quotes: lifetime = "7d"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, tt.text)
			_, err := ReadBroker(path)
			if err == nil {
				t.Fatal("no error")
			}
			wantError(t, exit.With(exit.Code(err), errorText(strings.ReplaceAll(err.Error(), path, "FILE"))), tt.want, exit.Config)
		})
	}
}

// TestBrokerInvalid is about errors that the daemon finds later.
func TestBrokerInvalid(t *testing.T) {
	raw := flags("prefix", anyPool)
	raw[Listen] = []Value{{Text: "192.0.2.9", Origin: Origin{"tspd.toml", 7}}}
	b, err := CheckBroker(raw)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, b.Invalid(Listen, "not an address of this host"), `tspd.toml:7: listen = "192.0.2.9": not an address of this host`, exit.Config)
	wantError(t, b.Invalid(Local, "not an address of this host"), `tspd.toml:7: listen = "192.0.2.9": not an address of this host`, exit.Config)
	wantError(t, b.Invalid(Prefix, "in use"), "--prefix "+anyPool+": in use", exit.Usage)
}
