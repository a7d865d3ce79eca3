package netstack

import (
	"net"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// TestShare: the more connections there are, the less each may have under way; all
// together stay within the memory.
func TestShare(t *testing.T) {
	cfg := Config{Buffer: 4 << 20, Memory: 16 << 20}
	p := newPair(t, cfg, nil, nil)
	l, err := p.b.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	most := func(d *Device) int {
		var r tcpip.TCPReceiveBufferSizeRangeOption
		var s tcpip.TCPSendBufferSizeRangeOption
		for _, o := range []tcpip.GettableTransportProtocolOption{&r, &s} {
			if err := d.stack.TransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
				t.Fatal(err)
			}
		}
		if r.Max != s.Max || r.Default > r.Max || s.Default > s.Max {
			t.Errorf("%+v, %+v", r, s)
		}
		return r.Max
	}
	var open []net.Conn
	for n := 1; n <= 150; n++ {
		there, err := p.a.DialContext(ctx(t), "tcp", "[2001:db8:b::1]:80")
		if err != nil {
			t.Fatal(err)
		}
		here, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, there, here)
		want := min(cfg.Buffer, max(cfg.Memory/2/n, leastBuffer))
		if a, b := most(p.a), most(p.b); a != want || b != want {
			t.Fatalf("with %d connections each may have %d and %d bytes, want %d", n, a, b, want)
		}
	}
	for _, c := range open {
		_ = c.Close()
	}
}
