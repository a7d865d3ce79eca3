package netstack

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"sixin4/encap/packet"
)

// TestKeepAlive: both ends of a connection ask, and an end that is asked in vain is over.
func TestKeepAlive(t *testing.T) {
	var cut atomic.Bool
	lost := func(b *packet.Batch) {
		if cut.Load() {
			b.Packets = b.Packets[:0]
		}
	}
	p := newPair(t, Config{}, lost, lost)
	l := listen(t, p.b, "[::]:80")
	out, in := connect(t, p.a, l, at(addrB, 80))
	for _, end := range []struct {
		name string
		of   *Device
		conn net.Conn
	}{{"accepted", p.b, in}, {"dialled", p.a, out}} {
		ep := end.of.endpoint(end.conn.(*conn).TCPConn)
		if ep == nil {
			t.Fatalf("%s: not found", end.name)
		}
		var idle tcpip.KeepaliveIdleOption
		if err := ep.GetSockOpt(&idle); err != nil || time.Duration(idle) != aliveIdle || !ep.SocketOptions().GetKeepAlive() {
			t.Fatalf("%s: asked after %v, %v; want %v", end.name, time.Duration(idle), err, aliveIdle)
		}
		cut.Store(true)
		idle, each := tcpip.KeepaliveIdleOption(time.Millisecond), tcpip.KeepaliveIntervalOption(time.Millisecond)
		_, _ = ep.SetSockOpt(&each), ep.SetSockOpt(&idle)
		if _, err := end.conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("%s: %v, want %v", end.name, err, syscall.ETIMEDOUT)
		}
	}
}
