package hook

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"sixin4/tsp"
)

func tunnel() *tsp.Tunnel {
	return &tsp.Tunnel{
		Type:    tsp.V6V4,
		Server4: netip.MustParseAddr("198.51.100.1"), Server6: netip.MustParseAddr("2001:db8::1"),
		Client4: netip.MustParseAddr("192.0.2.1"), Client6: netip.MustParseAddr("2001:db8::abc2"),
	}
}

// router is a tunnel with everything that a broker may give.
func router() *tsp.Tunnel {
	t := tunnel()
	t.Type = tsp.V6UDPV4
	t.DNS = []netip.Addr{netip.MustParseAddr("2001:db8:ffff::53"), netip.MustParseAddr("2001:db8:ffff::54")}
	t.ClientName = "Alice.broker.example.net"
	t.Prefix = netip.MustParsePrefix("2001:db8:f00::/48")
	return t
}

func params(t *tsp.Tunnel) Params {
	return Params{Operation: Create, Verbose: 1, HomeDir: "/usr/local/tsp", Interface: "sit1", Tunnel: t}
}

func texts(vars []Variable) (all []string) {
	for _, v := range vars {
		all = append(all, v.String())
	}
	return all
}

func TestVariables(t *testing.T) {
	withAll := params(router())
	withAll.Operation, withAll.Router, withAll.HomeInterface, withAll.Verbose = Teardown, true, "eth0.10", 3
	for _, tt := range []struct {
		name   string
		params Params
		want   []string
	}{
		{"host", params(tunnel()), []string{
			"TSP_OPERATION=TSP_TUNNEL_CREATION",
			"TSP_HOST_TYPE=host",
			"TSP_TUNNEL_INTERFACE=sit1",
			"TSP_HOME_INTERFACE=",
			"TSP_CLIENT_ADDRESS_IPV4=192.0.2.1",
			"TSP_CLIENT_ADDRESS_IPV6=2001:0db8:0000:0000:0000:0000:0000:abc2",
			"TSP_SERVER_ADDRESS_IPV4=198.51.100.1",
			"TSP_SERVER_ADDRESS_IPV6=2001:0db8:0000:0000:0000:0000:0000:0001",
			"TSP_TUNNEL_PREFIXLEN=128",
			"TSP_VERBOSE=1",
			"TSP_HOME_DIR=/usr/local/tsp",
			"TSP_TUNNEL_MODE=v6v4",
			"TSP_CLIENT_DNS_ADDRESS_IPV6=",
		}},
		{"router with everything", withAll, []string{
			"TSP_OPERATION=TSP_TUNNEL_TEARDOWN",
			"TSP_HOST_TYPE=router",
			"TSP_TUNNEL_INTERFACE=sit1",
			"TSP_HOME_INTERFACE=eth0.10",
			"TSP_CLIENT_ADDRESS_IPV4=192.0.2.1",
			"TSP_CLIENT_ADDRESS_IPV6=2001:0db8:0000:0000:0000:0000:0000:abc2",
			"TSP_SERVER_ADDRESS_IPV4=198.51.100.1",
			"TSP_SERVER_ADDRESS_IPV6=2001:0db8:0000:0000:0000:0000:0000:0001",
			"TSP_TUNNEL_PREFIXLEN=128",
			"TSP_VERBOSE=3",
			"TSP_HOME_DIR=/usr/local/tsp",
			"TSP_TUNNEL_MODE=v6udpv4",
			"TSP_CLIENT_DNS_ADDRESS_IPV6=2001:0db8:ffff:0000:0000:0000:0000:0053",
			"TSP_CLIENT_DNS_NAME=alice.broker.example.net",
			"TSP_PREFIX=2001:0db8:0f00",
			"TSP_PREFIXLEN=48",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			vars, err := tt.params.Variables()
			if got := texts(vars); err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%v\n got %s\nwant %s", err, strings.Join(got, "\n     "), strings.Join(tt.want, "\n     "))
			}
		})
	}
}

// TestPrefix: scripts make addresses as $TSP_PREFIX::1, so there is never a :: in it.
func TestPrefix(t *testing.T) {
	for _, tt := range []struct{ prefix, want, length string }{
		{"2001:db8::/32", "2001:0db8", "32"},
		{"2001:db8:8000::/33", "2001:0db8:8000", "33"},
		{"2001:db8:f00::/47", "2001:0db8:0f00", "47"},
		{"2001:db8:f00::/48", "2001:0db8:0f00", "48"},
		{"2001:db8:f00:ab00::/56", "2001:0db8:0f00:ab00", "56"},
		{"2001:db8:f00:ab80::/60", "2001:0db8:0f00:ab80", "60"},
		{"2001:db8::/64", "2001:0db8:0000:0000", "64"},
		{"2001:db8:0:0:8000::/65", "2001:0db8:0000:0000:8000", "65"},
		{"2001:db8::12/127", "2001:0db8:0000:0000:0000:0000:0000:0012", "127"},
		{"2001:db8::13/128", "2001:0db8:0000:0000:0000:0000:0000:0013", "128"},
	} {
		t.Run(tt.prefix, func(t *testing.T) {
			p := params(tunnel())
			p.Tunnel.Prefix = netip.MustParsePrefix(tt.prefix)
			vars, err := p.Variables()
			if err != nil {
				t.Fatal(err)
			}
			got := texts(vars[len(vars)-2:])
			if want := []string{"TSP_PREFIX=" + tt.want, "TSP_PREFIXLEN=" + tt.length}; !reflect.DeepEqual(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func TestTranscript(t *testing.T) {
	vars, err := params(tunnel()).Variables()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"TSP_HOST_TYPE host",
		"TSP_TUNNEL_INTERFACE sit1",
		"TSP_HOME_INTERFACE",
		"TSP_CLIENT_ADDRESS_IPV4 192.0.2.1",
		"TSP_CLIENT_ADDRESS_IPV6 2001:0db8:0000:0000:0000:0000:0000:abc2",
		"TSP_SERVER_ADDRESS_IPV4 198.51.100.1",
		"TSP_SERVER_ADDRESS_IPV6 2001:0db8:0000:0000:0000:0000:0000:0001",
		"TSP_TUNNEL_PREFIXLEN 128",
		"TSP_VERBOSE 1",
		"TSP_HOME_DIR /usr/local/tsp",
	}
	if got := Transcript(vars); !reflect.DeepEqual(got, want) {
		t.Errorf("host:\n%s", strings.Join(got, "\n"))
	}
	if vars, err = params(router()).Variables(); err != nil {
		t.Fatal(err)
	}
	want = append(want, "TSP_PREFIX 2001:0db8:0f00", "TSP_PREFIXLEN 48")
	if got := Transcript(vars); !reflect.DeepEqual(got, want) {
		t.Errorf("router:\n%s", strings.Join(got, "\n"))
	}
}

// TestVariablesRefuse breaks one parameter at a time.
func TestVariablesRefuse(t *testing.T) {
	addr := netip.MustParseAddr
	for _, tt := range []struct {
		name  string
		spoil func(*Params)
		want  string
	}{
		{"no operation", func(p *Params) { p.Operation = "" }, `TSP_OPERATION: "" is not an operation`},
		{"other operation", func(p *Params) { p.Operation = "reboot" }, `TSP_OPERATION: "reboot" is not an operation`},
		{"verbose 4", func(p *Params) { p.Verbose = 4 }, `TSP_VERBOSE: "4" is not 0 to 3`},
		{"verbose negative", func(p *Params) { p.Verbose = -1 }, `TSP_VERBOSE: "-1" is not 0 to 3`},
		{"no home", func(p *Params) { p.HomeDir = "" }, `TSP_HOME_DIR: "" is not an absolute path`},
		{"relative home", func(p *Params) { p.HomeDir = "tsp" }, `TSP_HOME_DIR: "tsp" is not an absolute path`},
		{"control character in home", func(p *Params) { p.HomeDir = "/a\nb" }, `TSP_HOME_DIR: "/a\nb" is not an absolute path without control characters`},
		{"direction mark in home", func(p *Params) { p.HomeDir = "/a\u202eb" }, `TSP_HOME_DIR: "/a\u202eb" is not`},
		{"home not UTF-8", func(p *Params) { p.HomeDir = "/a\xff" }, `TSP_HOME_DIR: "/a\xff" is not`},
		{"long home", func(p *Params) { p.HomeDir = "/" + strings.Repeat("a", 4095) }, `TSP_HOME_DIR: "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" is not`},
		{"no interface", func(p *Params) { p.Interface = "" }, `TSP_TUNNEL_INTERFACE: "" is not an interface name`},
		{"interface like an option", func(p *Params) { p.Interface = "-a" }, `TSP_TUNNEL_INTERFACE: "-a" is not`},
		{"interface like a directory", func(p *Params) { p.Interface = ".." }, `TSP_TUNNEL_INTERFACE: ".." is not`},
		{"interface with a command", func(p *Params) { p.Interface = "a;reboot" }, `TSP_TUNNEL_INTERFACE: "a;reboot" is not`},
		{"interface with a line end", func(p *Params) { p.Interface = "sit1\n" }, `TSP_TUNNEL_INTERFACE: "sit1\n" is not`},
		{"long interface", func(p *Params) { p.Interface = "sixteen-bytes-xy" }, `TSP_TUNNEL_INTERFACE: "sixteen-bytes-xy" is not`},
		{"LAN with a blank", func(p *Params) { p.HomeInterface = "eth0 eth1" }, `TSP_HOME_INTERFACE: "eth0 eth1" is not an interface name`},
		{"name with a command", func(p *Params) { p.Tunnel.ClientName = "$(reboot)" }, `name "$(reboot)": not a host name`},
		{"name like an option", func(p *Params) { p.Tunnel.ClientName = "-rf.example.net" }, `name "-rf.example.net": not a host name`},
		{"name with a zero byte", func(p *Params) { p.Tunnel.ClientName = "a\x00b" }, `name "a\x00b": not a host name`},
		{"no tunnel", func(p *Params) { p.Tunnel = nil }, "script variables: no tunnel"},
		{"address with a zone", func(p *Params) { p.Tunnel.Client6 = addr("2001:db8::2%eth0;reboot") }, "has a zone"},
		{"no address", func(p *Params) { p.Tunnel.Client6 = netip.Addr{} }, "no ipv6 address"},
		{"link-local address", func(p *Params) { p.Tunnel.Server6 = addr("fe80::1") }, "in fe80::/10"},
		{"family", func(p *Params) { p.Tunnel.Server4 = addr("2001:db8::1") }, "wrong family"},
		{"mapped resolver", func(p *Params) { p.Tunnel.DNS = []netip.Addr{addr("::ffff:192.0.2.1")} }, "dns_server"},
		{"prefix with host bits", func(p *Params) { p.Tunnel.Prefix = netip.MustParsePrefix("2001:db8::1/48") }, "bits behind its length"},
		{"prefix of everything", func(p *Params) { p.Tunnel.Prefix = netip.MustParsePrefix("::/0") }, "length is not"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := params(tunnel())
			tt.spoil(&p)
			vars, err := p.Variables()
			if err == nil || !strings.Contains(err.Error(), tt.want) || vars != nil {
				t.Errorf("%q, %v\nwant %s", vars, err, tt.want)
			}
		})
	}
	p := params(tunnel())
	p.Tunnel.Type = tsp.V4V6
	p.Tunnel.Client4, p.Tunnel.Server4 = addr("192.0.2.1"), addr("198.51.100.1")
	if _, err := p.Variables(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("IPv4 in IPv6: %v, want unsupported", err)
	}
}

// TestCheck is about variables that come from elsewhere, such as a file.
func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name     string
		variable Variable
		want     string
	}{
		{"not ours", Variable{"LD_PRELOAD", "/tmp/x.so"}, `script variable "LD_PRELOAD": unknown`},
		{"not ours either", Variable{"TSP_OTHER", ""}, `script variable "TSP_OTHER": unknown`},
		{"name with a value", Variable{"TSP_VERBOSE=1\x00X", ""}, `script variable "TSP_VERBOSE=1\x00X": unknown`},
		{"compressed address", Variable{"TSP_CLIENT_ADDRESS_IPV6", "2001:db8::1"}, `script variable TSP_CLIENT_ADDRESS_IPV6: "2001:db8::1" is not an IPv6 address in full`},
		{"upper case", Variable{"TSP_PREFIX", "2001:0DB8"}, `script variable TSP_PREFIX: "2001:0DB8" is not the leading groups of a prefix`},
		{"prefix length 129", Variable{"TSP_PREFIXLEN", "129"}, `script variable TSP_PREFIXLEN: "129" is not 1 to 128`},
		{"line end", Variable{"TSP_HOST_TYPE", "host\n"}, `script variable TSP_HOST_TYPE: "host\n" is not host or router`},
		{"two labels without a name", Variable{"TSP_CLIENT_DNS_NAME", "a..b"}, `script variable TSP_CLIENT_DNS_NAME: "a..b" is not a host name of lower-case letters, digits, '-', '_' and '.'`},
		{"name with a dot at its end", Variable{"TSP_CLIENT_DNS_NAME", "a.b."}, ""},
		{"name with an underscore", Variable{"TSP_CLIENT_DNS_NAME", "a_b.example.net"}, ""},
		{"prefix length 128", Variable{"TSP_PREFIXLEN", "128"}, ""},
	} {
		err := tt.variable.Check()
		if got := text(err); got != tt.want {
			t.Errorf("%s: %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
