package config

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"sixin4/cmd/internal/exit"
)

func TestReadConnectTOML(t *testing.T) {
	path := write(t, `server = [
  "192.0.2.1",
  "[2001:db8::1]:3654",
]
keepalive = 90
retry-max = "2m"
no-route = true
reverse-dns = "ns1.example.net"
`)
	got, err := ReadConnect(path)
	if err != nil {
		t.Fatal(err)
	}
	at := func(line int, text string) []Value { return []Value{{Text: text, Origin: Origin{path, line}}} }
	want := ConnectFile{Raw: Raw{
		Servers:   append(at(2, "192.0.2.1"), at(3, "[2001:db8::1]:3654")...),
		Keepalive: at(5, "90"), RetryMax: at(6, "2m"), NoRoute: at(7, "true"), ReverseDNS: at(8, "ns1.example.net"),
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("ReadConnect:\n got %+v\nwant %+v", got, want)
	}
	if _, err := CheckConnect(got.Raw, Secret{}); err != nil {
		t.Errorf("CheckConnect: %v", err)
	}
}

func TestReadConnectErrors(t *testing.T) {
	const ask = `a password does not stand here; write it into a file of its own and give its path as "password-file"`
	tests := []struct{ name, text, want string }{
		{"password", "server = \"192.0.2.1\"\npassword = \"sesame\"\n", "FILE:2: password: " + ask},
		{"password without quotes", "auth = \"any\"\npassword = sesame\n", "FILE:2: password: " + ask},
		{"password of old", "auth = \"any\"\npasswd = \"sesame\"\n", "FILE:2: passwd: " + ask},
		{"remote", "remote = \"198.51.100.1\"\n", `FILE:1: remote: a key of sixin4 up; the broker says where the far end is; the key for the broker is "server"`},
		{"peer", "peer = \"198.51.100.1=::/0\"\n", `FILE:1: peer: a key of sixin4 up; a tunnel from a broker has one far end; the key for the broker is "server"`},
		{"address", "address = \"2001:db8::2/64\"\n", "FILE:1: address: a key of sixin4 up; the broker gives the addresses"},
		{"route", "route = \"::/0\"\n", `FILE:1: route: a key of sixin4 up; the default route goes into the tunnel, unless "no-route" is true`},
		{"unknown", "prefixlength = 48\n", `FILE:1: unknown key "prefixlength"; the nearest known key is "prefix-length"`},
		{"key of old", "auth_method = \"any\"\n", `FILE:1: unknown key "auth_method"; the known keys are always-same-server, auth, bind-interface, broker-list, ` +
			"clamp-mss, home-dir, keepalive, lan, last-server, local, log-format, metrics, mode, mtu, name, no-route, on-down, on-up, once, password-file, prefix-length, proxy, " +
			"queues, retry-delay, retry-max, reverse-dns, router, script, server, socket, tos, transport, ttl, user, verbose, wire"},
		{"no quotes", "auth = \"any\"\nserver = broker.example.net\n", `FILE:2: server = broker.example.net: text needs quotes: server = "broker.example.net"`},
		{"time without quotes", "keepalive = 30s\n", `FILE:1: keepalive = 30s: text needs quotes: keepalive = "30s"`},
		{"list for one value", "mode = [\"v6v4\"]\n", "FILE:1: mode: a list; it has one value"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, tt.text)
			_, err := ReadConnect(path)
			if err == nil {
				t.Fatal("no error")
			}
			wantError(t, exit.With(exit.Code(err), errorText(strings.ReplaceAll(err.Error(), path, "FILE"))), tt.want, exit.Config)
		})
	}
}

type errorText string

func (e errorText) Error() string { return string(e) }

func TestReferenceConnectIsTheDefaults(t *testing.T) {
	file, err := ReadConnect(write(t, ReferenceConnect))
	if err != nil {
		t.Fatal(err)
	}
	file.Raw.Set(Servers, anyServer)
	got, err := CheckConnect(file.Raw, Secret{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := CheckConnect(flags("server", anyServer), Secret{})
	if err != nil {
		t.Fatal(err)
	}
	got.raw, want.raw = nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the reference parses to\n     %+v\nwant %+v", got, want)
	}
}

// TestReferenceConnectIsComplete also tries the examples that stand in comments.
func TestReferenceConnectIsComplete(t *testing.T) {
	var documented []Key
	for _, m := range setting.FindAllStringSubmatch(ReferenceConnect, -1) {
		documented = append(documented, Key(m[1]))
	}
	if !sameKeys(documented, connectOrder) {
		t.Errorf("documented are %v, want %v", documented, connectOrder)
	}
	examples := regexp.MustCompile(`(?m)^#([a-z-]+ = )`).ReplaceAllString(ReferenceConnect, "$1")
	examples = strings.ReplaceAll(examples, "/etc/sixin4/password", passwordFile(t, "sesame"))
	examples = strings.ReplaceAll(examples, "/etc/sixin4/template.sh", write(t, "exit 0\n"))
	examples = strings.Replace(examples, "router = false", "router = true", 1)
	file, err := ReadConnect(write(t, examples))
	if err != nil {
		t.Fatal(err)
	}
	c, err := CheckConnect(file.Raw, Secret{})
	if err != nil {
		t.Fatalf("the examples: %v", err)
	}
	if len(file.Raw) != len(connectOrder) || len(c.Servers) != 3 || c.Subnet != 0x2a {
		t.Errorf("%d keys, servers %v, subnet %x", len(file.Raw), c.Servers, c.Subnet)
	}
}

func sameKeys(a, b []Key) bool {
	count := make(map[Key]int)
	for _, k := range a {
		count[k]++
	}
	for _, k := range b {
		count[k]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return len(a) == len(b)
}

// TestKinds looks at what flags need to know of keys.
func TestKinds(t *testing.T) {
	for _, tt := range []struct {
		key          Key
		list, toggle bool
	}{
		{Servers, true, false}, {ReverseDNS, true, false}, {Peers, true, false}, {Address, true, false}, {Route, true, false},
		{Once, false, true}, {NoRoute, false, true}, {Router, false, true}, {Proxy, false, true}, {AlwaysSame, false, true}, {Verbose, false, true},
		{Keepalive, false, false}, {LAN, false, false},
	} {
		if IsList(tt.key) != tt.list || IsSwitch(tt.key) != tt.toggle {
			t.Errorf("%s: list %v, switch %v; want %v, %v", tt.key, IsList(tt.key), IsSwitch(tt.key), tt.list, tt.toggle)
		}
	}
	for _, key := range connectOrder {
		if IsList(key) && IsSwitch(key) {
			t.Errorf("%s is a list and a switch", key)
		}
	}
}
