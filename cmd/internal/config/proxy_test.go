package config

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"sixin4/cmd/internal/exit"
)

// proxySetting is a line of the file with a key, which may have digits.
var proxySetting = regexp.MustCompile(`(?m)^#?([a-z0-9-]+) = `)

func TestReferenceProxyIsTheDefaults(t *testing.T) {
	raw, err := ReadProxy(write(t, ReferenceProxy))
	if err != nil {
		t.Fatal(err)
	}
	raw.Set(Servers, anyServer)
	got, err := CheckProxy(raw, Secret{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := CheckProxy(flags("server", anyServer), Secret{})
	if err != nil {
		t.Fatal(err)
	}
	got.raw, want.raw, want.ListenGiven = nil, nil, true
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the reference parses to\n     %+v\nwant %+v", got, want)
	}
}

// TestReferenceProxyIsComplete also tries the examples that stand in comments.
func TestReferenceProxyIsComplete(t *testing.T) {
	var documented []Key
	for _, m := range proxySetting.FindAllStringSubmatch(ReferenceProxy, -1) {
		documented = append(documented, Key(m[1]))
	}
	if !sameKeys(documented, proxyOrder) {
		t.Errorf("documented are %v, want %v", documented, proxyOrder)
	}
	examples := regexp.MustCompile(`(?m)^#([a-z0-9-]+ = )`).ReplaceAllString(ReferenceProxy, "$1")
	for _, path := range []string{"/etc/sixin4/password", "/etc/sixin4/proxy-password"} {
		examples = strings.ReplaceAll(examples, path, passwordFile(t, "sesame"))
	}
	raw, err := ReadProxy(write(t, examples))
	if err != nil {
		t.Fatal(err)
	}
	p, err := CheckProxy(raw, Secret{})
	if err != nil {
		t.Fatalf("the examples: %v", err)
	}
	if len(p.Publish) != 2 || p.Publish[0] != (Publish{80, "127.0.0.1:8080"}) || p.HTTP != "127.0.0.1:8080" ||
		p.ProxyPassword.Reveal() != "sesame" || len(p.DNS) != 1 {
		t.Errorf("%+v", p)
	}
}

func TestCheckProxyErrors(t *testing.T) {
	for _, tt := range []struct{ key, value, want string }{
		{"socks5", "1080", "not an address and port"},
		{"socks5", "127.0.0.1:70000", "no such port"},
		{"http", "example.net:80", "not an address;"},
		{"publish", "80", "not [::]:PORT=ADDRESS:PORT"},
		{"publish", "[2001:db8::1]:80=127.0.0.1:80", "what the broker gives"},
		{"publish", "[::]:0=127.0.0.1:80", "no such port before"},
		{"publish", "[::]:80=:80", "no address and port behind"},
		{"publish", "[::]:80=127.0.0.1:0", "no address and port behind"},
		{"proxy-user", "alice", "there is no password"},
		{"proxy-password-file", "/nonexistent", "there is no user"},
		{"dns", "192.0.2.53", "an IPv4 address"},
		{"max-connections", "0", "1 to 65536"},
		{"direct-ipv4", "maybe", "neither true nor false"},
	} {
		_, err := CheckProxy(flags("server", anyServer, tt.key, tt.value), Secret{})
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.key) || exit.Code(err) != exit.Usage {
			t.Errorf("--%s %s: %v", tt.key, tt.value, err)
		}
	}
	twice := flags("server", anyServer, "publish", "[::]:80=127.0.0.1:80", "publish", "[::]:80=127.0.0.1:81")
	if _, err := CheckProxy(twice, Secret{}); err == nil || !strings.Contains(err.Error(), "published already") {
		t.Errorf("a port twice: %v", err)
	}
}

func TestProxyListens(t *testing.T) {
	for _, tt := range []struct{ socks, http, wantSOCKS, wantHTTP string }{
		{"", "", "127.0.0.1:1080", "127.0.0.1:1080"},
		{"[::1]:1", "", "[::1]:1", "[::1]:1"},
		{"", "off", "127.0.0.1:1080", ""},
		{"off", "127.0.0.1:2", "", "127.0.0.1:2"},
		{":1", "localhost:2", ":1", "localhost:2"},
	} {
		raw := flags("server", anyServer)
		if tt.socks != "" {
			raw.Set(SOCKS5, tt.socks)
		}
		if tt.http != "" {
			raw.Set(HTTPProxy, tt.http)
		}
		p, err := CheckProxy(raw, Secret{})
		if err != nil || p.SOCKS5 != tt.wantSOCKS || p.HTTP != tt.wantHTTP || p.ListenGiven != (tt.socks+tt.http != "") {
			t.Errorf("%+v: %q, %q, %v", tt, p.SOCKS5, p.HTTP, err)
		}
	}
}
