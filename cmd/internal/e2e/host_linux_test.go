package e2e

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"sixin4/encap"
	"sixin4/encap/engine"
	"sixin4/encap/wire"
	"sixin4/tun"
	"sixin4/tun/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// limit is how long anything may take that takes milliseconds.
const limit = 30 * time.Second

// eventually polls until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	nstest.Eventually(t, limit, what, cond)
}

// within returns what comes out of c, in time.
func within[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	return nstest.Within(t, limit, what, c)
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

const device = "six0"

// end says how one end of a tunnel is set up.
type end struct {
	ns      *nstest.NS
	local   netip.Addr // outer address
	inner   string     // inner address with its prefix length; "": no kernel address
	remotes []netip.Addr
	linkMTU int         // of the IPv4 link; default 1500
	outer   encap.Outer // how packets to all remotes look
	via     string      // prefix routed into the tunnel; "": none
	ports   bool        // the portable paths of tun and wire
	port    uint16      // of a tunnel in UDP; 0: protocol 41
	farPort uint16      // of the far end of one; 0: the same
	// clients make it a hub, in place of remotes. Blocked is as in engine.TableConfig.
	clients []engine.Peer
	blocked engine.Ports
}

// host is one end of a tunnel, running.
type host struct {
	end
	dev  *tun.Device
	wire *wire.Conn // nil in UDP
	way  way
	eng  *engine.Engine
	stop func()
}

// way is a wire of either kind.
type way interface {
	Reader() wire.Reader
	NewWriter() (wire.Writer, error)
	Close() error
}

// tunnel starts an end in its namespace; it runs until the test ends or stop.
func tunnel(t testing.TB, e end) *host {
	t.Helper()
	if e.linkMTU == 0 {
		e.linkMTU = 1500
	}
	h := &host{end: e}
	mtu := h.mtu()
	must(t, e.ns.Do(func() error { return h.open(mtu) }))
	t.Cleanup(func() { h.dev.Close(); h.way.Close() })
	must(t, e.ns.Sysctl("net/ipv6/conf/"+device+"/addr_gen_mode", "1"), e.ns.SetUp(device),
		e.ns.AddAddr(device, linkLocal(e.local).String()+"/64"))
	if e.inner != "" {
		must(t, e.ns.AddAddr(device, e.inner))
	}
	if e.via != "" {
		must(t, e.ns.AddRoute(e.via, device))
	}
	h.run(t)
	return h
}

func (h *host) open(mtu encap.TunMTU) (err error) {
	h.dev, err = tun.Open(tun.Config{Name: device, MTU: int(mtu), NoOffload: h.ports})
	if err != nil {
		return err
	}
	if err := h.listen(); err != nil {
		return errors.Join(err, h.dev.Close())
	}
	out, err := h.way.NewWriter()
	if err != nil {
		return err
	}
	table, err := h.table()
	if err != nil {
		return err
	}
	h.eng, err = engine.New(engine.Config{
		Outbound: []engine.Lane{{In: h.dev.Reader(0), Out: out, Back: h.dev.NewWriter()}},
		Inbound:  engine.Lane{In: h.way.Reader(), Out: h.dev.NewWriter(), UDP: h.port != 0},
		MTU:      mtu,
		WireMTU:  encap.WireMTU(h.linkMTU),
		Source:   h.source(),
	}, table)
	return err
}

func (h *host) listen() (err error) {
	if h.port == 0 {
		h.wire, err = wire.Listen(wire.Config{Local: h.local, LinkMTU: h.linkMTU, Portable: h.ports})
		h.way = h.wire
		return err
	}
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.local, h.port)))
	if err != nil {
		return err
	}
	h.way, err = wire.NewUDP(wire.UDPConfig{Conn: conn, LinkMTU: h.linkMTU, ClearDF: h.outer.ClearDF})
	return err
}

// far is the port of the far end.
func (h *host) far() uint16 {
	if h.farPort != 0 {
		return h.farPort
	}
	return h.port
}

// protocol is what the outer IPv4 header says.
func (h *host) protocol() byte {
	if h.port != 0 {
		return 17
	}
	return 41
}

// headers is how long the outer headers are.
func (h *host) headers() int { return h.linkMTU - int(h.mtu()) }

// mtu is that of the tunnel.
func (h *host) mtu() encap.TunMTU {
	if h.port != 0 {
		return encap.TunMTU(h.linkMTU - wire.UDPHeaderLen)
	}
	return encap.WireMTU(h.linkMTU).Tun()
}

// table makes the one remote a host's everything, of several each a hub's /64
// 2001:db8:N::/64, N counted from 1.
func (h *host) table() (*engine.Table, error) {
	cfg := engine.TableConfig{Peers: h.clients, Hub: h.clients != nil, Blocked: h.blocked}
	for i, remote := range h.remotes {
		o := h.outer
		o.Src = h.local
		prefix := netip.MustParsePrefix("::/0")
		if len(h.remotes) > 1 {
			a := netip.MustParseAddr("2001:db8::").As16()
			a[5] = byte(i + 1)
			prefix = netip.PrefixFrom(netip.AddrFrom16(a), 64)
		}
		cfg.Peers = append(cfg.Peers, engine.Peer{Remote: remote, Port: h.far(), Prefixes: []netip.Prefix{prefix}, Outer: o})
	}
	return engine.NewTable(cfg)
}

func (h *host) source() netip.Addr {
	if h.inner == "" {
		return linkLocal(h.local)
	}
	return netip.MustParsePrefix(h.inner).Addr()
}

func (h *host) run(t testing.TB) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.eng.Run(ctx) }()
	stopped := false
	h.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := within(t, "engine stops", done); err != nil {
			t.Errorf("engine: %v", err)
		}
	}
	t.Cleanup(h.stop)
}

// drops fails the test when the engine dropped packets for any reason but those
// allowed.
func (h *host) drops(t testing.TB, allowed ...encap.Drop) {
	t.Helper()
	s := h.eng.Stats()
	for _, d := range allowed {
		s.Drops[d] = 0
	}
	for d := range encap.Drops() {
		if s.Drops[d] != 0 {
			t.Errorf("%v: %d packets dropped: %v", h.local, s.Drops[d], d)
		}
	}
}

// linkLocal is the address of RFC 4213, Section 3.7.
func linkLocal(v4 netip.Addr) netip.Addr {
	a := [16]byte{0: 0xfe, 1: 0x80}
	b := v4.As4()
	copy(a[12:], b[:])
	return netip.AddrFrom16(a)
}

// pair is two hosts on one veth: A 192.0.2.1 on a0, B 192.0.2.2 on b0.
func pair(t testing.TB) *nstest.Topology {
	t.Helper()
	nstest.Need(t)
	top, err := nstest.Pair()
	must(t, err)
	t.Cleanup(func() { top.Close() })
	return top
}

// routed is pair with a router in between: A 192.0.2.1 on a0, B 198.51.100.2 on b0.
func routed(t testing.TB) *nstest.Topology {
	t.Helper()
	nstest.Need(t)
	top, err := nstest.Routed()
	must(t, err)
	t.Cleanup(func() { top.Close() })
	return top
}

// The inner addresses: A and B at the ends, C on a network behind B.
const (
	innerA = "2001:db8::1"
	innerB = "2001:db8::2"
	innerC = "2001:db8:c::2"
	lanB   = "2001:db8:c::1"
)

// ends are the two ends over top. A routes everything into the tunnel.
func ends(top *nstest.Topology) (a, b end) {
	a = end{ns: top.A, local: top.AddrA, inner: innerA + "/64", remotes: []netip.Addr{top.AddrB}, via: "2001:db8:c::/64"}
	b = end{ns: top.B, local: top.AddrB, inner: innerB + "/64", remotes: []netip.Addr{top.AddrA}}
	return a, b
}

// behind adds host C behind B on a link of the given MTU.
func behind(t testing.TB, b *nstest.NS, mtu int) *nstest.NS {
	t.Helper()
	c := nstest.Open(t)
	must(t, nstest.Link(b, "lan0", c, "c0"))
	must(t, b.SetMTU("lan0", mtu), c.SetMTU("c0", mtu),
		b.Sysctl("net/ipv6/conf/all/forwarding", "1"),
		b.AddAddr("lan0", lanB+"/64"), c.AddAddr("c0", innerC+"/64"),
		c.AddRoute("::/0", lanB))
	return c
}

// mac returns the link-layer address and the index of an interface.
func mac(t testing.TB, ns *nstest.NS, link string) (addr net.HardwareAddr, index int) {
	t.Helper()
	must(t, ns.Do(func() error {
		i, err := net.InterfaceByName(link)
		if err == nil {
			addr, index = i.HardwareAddr, i.Index
		}
		return err
	}))
	return addr, index
}
