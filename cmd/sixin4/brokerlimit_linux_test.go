package main

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

// dial connects from the host through the tunnel to a port of the broker.
func (b *realBroker) dial(port string) (err error) {
	must(b.t, b.topo.A.Do(func() error {
		var c net.Conn
		d := net.Dialer{Timeout: patience}
		if c, err = d.Dial("tcp6", "["+brokerInside+"]:"+port); err == nil {
			c.Close()
		}
		return nil
	}))
	return err
}

// TestBrokerBlocksPorts: who sends where it may not is told at once, and everything else
// passes; the MTU of a hub follows the default route meanwhile.
func TestBrokerBlocksPorts(t *testing.T) {
	b := newRealBroker(t)
	must(t, b.topo.B.AddRoute("0.0.0.0/0", b.host))
	b.begin("tunnel-rate", "1gbit")
	p := b.connect("--wire", "raw")
	p.ready()
	for _, tt := range []struct {
		name, port string
		want       error
	}{
		{"mail", "25", syscall.EACCES}, // administratively prohibited
		{"nobody listens", "26", syscall.ECONNREFUSED},
	} {
		if err := b.dial(tt.port); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	b.talk()()
	for _, step := range []struct {
		link int
		mtu  string
	}{{1400, "mtu=1380"}, {1500, "mtu=1480"}} {
		must(t, b.topo.B.SetMTU(b.topo.LinkB, step.link))
		b.process.await(b.process.stderr, "the MTU follows the way to the peer\" name=tspd0 "+step.mtu)
	}
	p.stop()
	b.process.stop()
}
