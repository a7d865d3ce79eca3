package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/client"
	"sixin4/tsp/tsptest"
)

// hostileLoopback is the real network, loopback only.
type hostileLoopback struct{ hostileHost }

func (hostileLoopback) Dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, to.String())
}

func (hostileLoopback) Source(netip.Addr) (netip.Addr, error) {
	return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
}

// hostileSockets are a listener and a socket on one port of the loopback interface.
func hostileSockets(t *testing.T) (net.Listener, net.PacketConn, netip.AddrPort) {
	t.Helper()
	var errs []error
	for range 16 { // the port may be in use for the other transport
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().(*net.TCPAddr).AddrPort()
		p, err := net.ListenPacket("udp4", addr.String())
		if err == nil {
			return l, p, addr
		}
		l.Close()
		errs = append(errs, err)
	}
	t.Fatal(errors.Join(errs...))
	return nil, nil, netip.AddrPort{}
}

// TestHostileSockets: a handful of faults over real sockets.
func TestHostileSockets(t *testing.T) {
	names := []string{
		"cut at 0", "cut at 20", "one segment", "a byte every 1ms", "twice", "a flood first", "data first", "bare LF",
		"endless line", "endless lines", "Content-length of a gigabyte", "a million elements deep", "a million attributes",
		"a status line with terminal escapes", "10000 brokers", "XML: entities", `client6 "fe80::1"`, `lifetime "9223372036854775808"`,
	}
	var faults []tsptest.Fault
	for _, f := range tsptest.Faults() {
		if slices.Contains(names, f.Name) {
			faults = append(faults, f)
		}
	}
	if len(faults) != len(names) {
		t.Fatalf("%d faults of %d", len(faults), len(names))
	}
	offer := func(r *tsp.Request, from netip.Addr) (*tsp.Tunnel, error) {
		o := tsptest.Offer(r, from)
		o.Server4 = netip.AddrFrom4([4]byte{127, 0, 0, 2})
		return o, nil
	}
	for _, fault := range faults {
		for _, network := range []string{"tcp", "udp"} {
			for _, step := range []tsptest.Step{tsptest.Hello, tsptest.Create} {
				if !fault.Fits(step, network) {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%s", fault.Name, network, step), func(t *testing.T) {
					l, packets, addr := hostileSockets(t)
					b := tsptest.New(tsptest.Config{
						Users: map[string]string{"alice": "secret"}, Answer: offer, Pause: time.Millisecond, Faults: fault.At(step),
					})
					hostileRunBroker(t, b, l, packets)
					p := new(hostilePath)
					c := hostileConfig(network, hostileLoopback{}, p)
					c.Servers = []client.Server{{Host: addr.Addr().String(), Port: addr.Port()}}
					_, err := hostileRun(t, c, p, hostileNegotiation)
					want := fault.Expect(step, network)
					if err == nil && want == tsptest.Fails || err != nil && want == tsptest.Works {
						t.Error(err)
					}
				})
			}
		}
	}
}
