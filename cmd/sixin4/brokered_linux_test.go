package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"sixin4/cmd/internal/control"
	"sixin4/tsp"
	"sixin4/tsp/tsptest"
	"sixin4/tun/nstest"
)

// brokered is a host, and another one on the same link that has a broker and the
// far end of the tunnel that the broker gives.
type brokered struct {
	t      *testing.T
	topo   *nstest.Topology
	broker *tsptest.Broker
	host   string // outer address of the host
	far    string // of the broker
	dir    string
}

// brokerAt starts a broker in the namespace B, which has TCP and UDP, and stops it
// when the test ends.
func brokerAt(t *testing.T, c tsptest.Config) *brokered {
	t.Helper()
	return brokerOn(t, pair(t), c)
}

// brokerOn is brokerAt for hosts that are not on one link.
func brokerOn(t *testing.T, topo *nstest.Topology, c tsptest.Config) *brokered {
	t.Helper()
	b := &brokered{t: t, topo: topo, broker: tsptest.New(c), dir: t.TempDir()}
	b.host, b.far = b.topo.AddrA.String(), b.topo.AddrB.String()
	ctx, cancel := context.WithCancel(context.Background())
	var (
		streams   net.Listener
		datagrams net.PacketConn
	)
	must(t, b.topo.B.Do(func() (err error) {
		if streams, err = net.Listen("tcp4", b.far+":3653"); err != nil {
			return err
		}
		datagrams, err = net.ListenPacket("udp4", b.far+":3653")
		return err
	}))
	done := make(chan error, 2)
	go func() { done <- b.broker.Serve(ctx, streams) }()
	go func() { done <- b.broker.ServePackets(ctx, datagrams) }()
	t.Cleanup(func() {
		cancel()
		for range cap(done) {
			must(t, <-done)
		}
	})
	return b
}

const (
	clientInside = "2001:db8:1000::2"
	brokerInside = "2001:db8:1000::1"
)

// offer is the tunnel that the broker of these tests gives.
func (b *brokered) offer(r *tsp.Request, from netip.Addr) (*tsp.Tunnel, error) {
	o := &tsp.Tunnel{
		Type: tsp.V6V4, Lifetime: 604800e9,
		Server4: netip.MustParseAddr(b.far), Client4: from,
		Server6: netip.MustParseAddr(brokerInside), Client6: netip.MustParseAddr(clientInside),
		DNS:       []netip.Addr{netip.MustParseAddr("2001:db8:53::1")},
		Keepalive: r.Keepalive,
	}
	if r.Keepalive != 0 {
		o.KeepaliveTo = o.Server6
	}
	if r.Router != nil {
		o.Prefix = netip.MustParsePrefix("2001:db8:1001::/48")
	}
	return o, nil
}

// farEnd runs the broker's end of the tunnel to an address of the host.
func (b *brokered) farEnd(remote string) *process {
	p := start(b.t, b.topo.B, "main", "up", "--remote", remote, "--local", b.far,
		"--address", brokerInside+"/128", "--route", clientInside+"/128", "--route", "2001:db8:1001::/48",
		"--socket", b.dir+"/far.sock")
	p.ready()
	return p
}

// connect starts sixin4 connect on the host.
func (b *brokered) connect(args ...string) *process {
	return start(b.t, b.topo.A, "main", append([]string{
		"connect", "--server", b.far, "--name", "six0", "--socket", b.dir + "/six0.sock", "--keepalive", "1s",
	}, args...)...)
}

func (b *brokered) status() control.Tunnel {
	b.t.Helper()
	all, err := control.Collect(b.t.Context(), []string{b.dir + "/six0.sock"})
	if err != nil || len(all.Tunnels) != 1 {
		b.t.Fatalf("status: %+v, %v", all, err)
	}
	return all.Tunnels[0]
}

// moveHost gives the host another address in place of the one it has.
func (b *brokered) moveHost() string {
	b.t.Helper()
	old := b.topo.AddrA
	moved := old.Next()
	for moved == b.topo.AddrB {
		moved = moved.Next()
	}
	must(b.t, b.topo.A.Do(func() error {
		link, err := netlink.LinkByName(b.topo.LinkA)
		if err != nil {
			return err
		}
		have, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(moved.String() + "/24")
		if err != nil {
			return err
		}
		for _, a := range have {
			if err := netlink.AddrDel(link, &a); err != nil {
				return err
			}
		}
		return netlink.AddrAdd(link, addr)
	}))
	return moved.String()
}

// talk makes a TCP connection through the tunnel, and returns a function that sends
// a word over it and waits for it to come back.
func (b *brokered) talk() func() {
	b.t.Helper()
	return b.wordOver(b.topo.A, b.echoes())
}

// echoes listens at the broker's end of the tunnels and says everything again.
func (b *brokered) echoes() net.Listener {
	b.t.Helper()
	var l net.Listener
	must(b.t, b.topo.B.Do(func() (err error) {
		l, err = net.Listen("tcp6", "["+brokerInside+"]:7")
		return err
	}))
	b.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c) }() // until the other side goes
		}
	}()
	return l
}

// wordOver connects from a host, and returns what sends a word and waits for it.
func (b *brokered) wordOver(from *nstest.NS, l net.Listener) func() {
	b.t.Helper()
	c := b.dial(from, l.Addr().String())
	return func() { b.passes(c, []byte("word")) }
}

func (b *brokered) dial(from *nstest.NS, to string) net.Conn {
	b.t.Helper()
	var c net.Conn
	must(b.t, from.Do(func() (err error) {
		c, err = (&net.Dialer{Timeout: patience}).Dial("tcp6", to)
		return err
	}))
	b.t.Cleanup(func() { c.Close() })
	return c
}

// passes sends something and waits until it is back.
func (b *brokered) passes(c net.Conn, what []byte) {
	b.t.Helper()
	must(b.t, c.SetDeadline(time.Now().Add(patience)))
	go func() { _, _ = c.Write(what) }() // what does not arrive is missed below
	back := make([]byte, len(what))
	if _, err := io.ReadFull(c, back); err != nil || !bytes.Equal(back, what) {
		b.t.Fatalf("what came back is not the %d bytes that were sent: %v", len(what), err)
	}
}

func (b *brokered) index(name string) (index int) {
	b.t.Helper()
	must(b.t, b.topo.A.Do(func() error {
		link, err := netlink.LinkByName(name)
		if err == nil {
			index = link.Attrs().Index
		}
		return err
	}))
	return index
}
