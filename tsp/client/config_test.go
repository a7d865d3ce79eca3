package client_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/client"
)

func TestNew(t *testing.T) {
	tests := []struct {
		name   string
		change func(c *client.Config)
		want   string // in the error; empty for none
		is     error
	}{
		{name: "account", change: func(*client.Config) {}},
		{name: "anonymous", change: func(c *client.Config) { c.User, c.Password = "", "" }},
		{name: "anonymous by name", change: func(c *client.Config) { c.Method = "anonymous" }},
		{name: "router", change: func(c *client.Config) { c.Request.Router = &tsp.Router{PrefixLen: 56} }},
		{name: "no server", change: func(c *client.Config) { c.Servers = nil }, want: "no server"},
		{name: "server without host", change: func(c *client.Config) { c.Servers[0].Host = "" }, want: "without a host"},
		{name: "no network", change: func(c *client.Config) { c.Network = nil }, want: "no network"},
		{name: "no path", change: func(c *client.Config) { c.Path = nil }, want: "no path"},
		{name: "transport", change: func(c *client.Config) { c.Transport = 7 }, want: "transport 7"},
		{name: "give up", change: func(c *client.Config) { c.GiveUp = 7 }, want: "give up 7"},
		{name: "v4v6", change: func(c *client.Config) { c.Request.Type = tsp.V4V6 }, is: errors.ErrUnsupported},
		{name: "unknown type", change: func(c *client.Config) { c.Request.Type = "v5" }, want: "type"},
		{name: "v6udpv4 over TCP", change: func(c *client.Config) {
			c.Request.Type, c.Transport = tsp.V6UDPV4, client.TCP
		}, is: errors.ErrUnsupported},
		{name: "v6udpv4 for another", change: func(c *client.Config) {
			c.Request.Type, c.Request.Proxy = tsp.V6UDPV4, true
		}, is: errors.ErrUnsupported},
		{name: "delays", change: func(c *client.Config) { c.RetryDelay, c.RetryMax = time.Minute, time.Second }, want: "retry delay"},
		{name: "prefix length", change: func(c *client.Config) { c.Request.Router = &tsp.Router{PrefixLen: 129} }, want: "129"},
		{name: "keepalive", change: func(c *client.Config) { c.Request.Keepalive = time.Millisecond }, want: "keepalive"},
		{name: "announced address", change: func(c *client.Config) { c.Request.Client = netip.IPv6Loopback() }, want: "address"},
		{name: "mechanism", change: func(c *client.Config) { c.Method = "PASSDSS-3DES-1" }, is: errors.ErrUnsupported},
		{name: "no user", change: func(c *client.Config) { c.User, c.Method = "", "plain" }, want: "no user"},
		{name: "line end in password", change: func(c *client.Config) { c.Password = "a\n" }, want: "line end"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := (&world{host: &host{}, path: &path{}}).config()
			tt.change(&c)
			k, err := client.New(c)
			if want := tt.want == "" && tt.is == nil; (err == nil) != want || (k != nil) != want {
				t.Fatalf("%v", err)
			}
			if err != nil && (!strings.HasPrefix(err.Error(), "tsp client: ") || !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is)) {
				t.Errorf("%v", err)
			}
			if err == nil && k.Status().State != client.StateDown {
				t.Errorf("%+v", k.Status())
			}
		})
	}
}

func TestServerString(t *testing.T) {
	for _, tt := range []struct {
		server client.Server
		want   string
	}{
		{client.Server{Host: "broker.example.net"}, "broker.example.net"},
		{client.Server{Host: "broker.example.net", Port: 3653}, "broker.example.net"},
		{client.Server{Host: "192.0.2.1", Port: 4343}, "192.0.2.1:4343"},
		{client.Server{Host: "2001:db8::1"}, "2001:db8::1"},
		{client.Server{Host: "2001:db8::1", Port: 4343}, "[2001:db8::1]:4343"},
	} {
		if got := tt.server.String(); got != tt.want {
			t.Errorf("%+v is %s", tt.server, got)
		}
	}
}

// recorder is a network that only notes whom it should speak to.
type recorder struct {
	*host
	hosts []string
}

func (r *recorder) Resolve(_ context.Context, name string) ([]netip.Addr, error) {
	r.hosts = append(r.hosts, name)
	return []netip.Addr{brokerAddr}, nil
}

// TestRememberedServer: what Server.String wrote is read back.
func TestRememberedServer(t *testing.T) {
	for _, tt := range []struct{ text, host, to string }{
		{"broker.example.net", "broker.example.net", "192.0.2.1:3653"},
		{"broker.example.net:4343", "broker.example.net", "192.0.2.1:4343"},
		{"192.0.2.5", "", "192.0.2.5:3653"},
		{"192.0.2.5:4343", "", "192.0.2.5:4343"},
		{"broker.example.net:0", "", "192.0.2.99:3653"}, // no server: the configured one
		{"broker.example.net:99999", "", "192.0.2.99:3653"},
		{"[broker", "", "192.0.2.99:3653"},
	} {
		t.Run(tt.text, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				r := &recorder{host: w.host}
				c := w.config()
				c.Network, c.Memory, c.AlwaysSame = r, &memory{last: tt.text}, true
				c.Servers[0].Host, c.GiveUp, c.Transport = "192.0.2.99", client.Always, client.TCP
				if err := w.run(c); err == nil {
					t.Fatal("a lease")
				}
				if got := w.made("")[0].to.String(); got != tt.to || strings.Join(r.hosts, " ") != tt.host {
					t.Errorf("dialled %s, resolved %q", got, r.hosts)
				}
			})
		})
	}
}
