package main

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sixin4/cmd/internal/control"
	"sixin4/tsp/tsptest"
	"sixin4/tun/nstest"
)

// narrow makes two hosts whose links carry 1500 bytes, and two routers between them, whose
// link carries less. When quiet is set they do not say so.
func narrow(t *testing.T, mtu int, quiet bool) *nstest.Topology {
	t.Helper()
	nstest.Need(t)
	a, r, r2, b := nstest.Open(t), nstest.Open(t), nstest.Open(t), nstest.Open(t)
	must(t, nstest.Link(a, "a0", r, "ra0"))
	must(t, nstest.Link(r, "rr0", r2, "rr1"))
	must(t, nstest.Link(r2, "rb0", b, "b0"))
	for _, at := range []struct {
		ns         *nstest.NS
		link, addr string
	}{
		{a, "a0", "192.0.2.1/24"}, {r, "ra0", "192.0.2.254/24"}, {r, "rr0", "203.0.113.1/24"},
		{r2, "rr1", "203.0.113.2/24"}, {r2, "rb0", "198.51.100.254/24"}, {b, "b0", "198.51.100.2/24"},
	} {
		must(t, at.ns.Sysctl("net/ipv6/conf/"+at.link+"/disable_ipv6", "1"))
		must(t, at.ns.AddAddr(at.link, at.addr))
	}
	must(t, a.AddRoute("0.0.0.0/0", "192.0.2.254"))
	must(t, r.AddRoute("198.51.100.0/24", "203.0.113.2"))
	must(t, r2.AddRoute("192.0.2.0/24", "203.0.113.1"))
	must(t, b.AddRoute("0.0.0.0/0", "198.51.100.254"))
	must(t, r.SetMTU("rr0", mtu))
	must(t, r2.SetMTU("rr1", mtu))
	for _, router := range []*nstest.NS{r, r2} {
		must(t, router.Sysctl("net/ipv4/ip_forward", "1"))
		if quiet { // what it sends itself; not what it passes on
			must(t, router.AddChain(nstest.Chain{Family: "ip", Hook: "output", Drop: true}))
		}
	}
	return &nstest.Topology{
		A: a, B: b, R: r, LinkA: "a0", LinkB: "b0",
		AddrA: netip.MustParseAddr("192.0.2.1"), AddrB: netip.MustParseAddr("198.51.100.2"),
	}
}

// TestNarrowPath: the link says 1500, a router on the way says 1400. TCP goes on within
// two seconds, and the status says why.
func TestNarrowPath(t *testing.T) {
	w := connected(t, narrow(t, 1400, false))
	s := newStream(t, w.topo.A, w.topo.B, insideB)
	began := time.Now()
	s.goesOn()
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("the transfer began after %v, want at most two seconds", d)
	}
	st := askUntil(t, w.socketA, func(s control.Tunnel) bool { return s.Peers[0].PathMTU == 1400 })
	if st.Peers[0].MTU != 1380 || st.MTU != 1480 {
		t.Errorf("the peer's MTU is %d, the tunnel's %d; want 1380, 1480", st.Peers[0].MTU, st.MTU)
	}
	w.finish(t, s)
}

// TestNarrowPathFiltered: the same, but nobody says so: with --mtu probe packets are short
// at first, and as long as they may be later.
func TestNarrowPathFiltered(t *testing.T) {
	for _, wire := range []string{"raw", "auto"} {
		t.Run(wire, func(t *testing.T) {
			t.Parallel() // a probe that is lost takes its second
			topo := narrow(t, 1400, true)
			w := &two{topo: topo, socketA: socketIn(t, "six0"), socketB: socketIn(t, "six1")}
			w.a = tunnelIn(t, topo.A, "six0", w.socketA, insideA, topo.AddrB.String(), "--mtu", "probe", "--wire", wire)
			first := askUntil(t, w.socketA, func(s control.Tunnel) bool { return s.PathMTU != nil })
			if first.PathMTU.MTU != 1280 || first.MTU != 1280 || first.Peers[0].MTU != 1280 {
				t.Errorf("at the start %+v, mtu %d and %d; want 1280", first.PathMTU, first.MTU, first.Peers[0].MTU)
			}
			w.farEnd(t, topo.AddrA.String())
			s := newStream(t, topo.A, topo.B, insideB)
			s.goesOn()
			st := askUntil(t, w.socketA, func(s control.Tunnel) bool {
				return s.PathMTU != nil && s.PathMTU.Phase == "complete"
			})
			if st.PathMTU.MTU != 1380 || st.MTU != 1380 || st.Peers[0].MTU != 1380 || st.PathMTU.Address != insideB {
				t.Errorf("found was %+v, the status says %d and %d; want 1380", st.PathMTU, st.MTU, st.Peers[0].MTU)
			}
			w.a.await(w.a.stderr, "the MTU of the path is found")
			s.goesOn()
			if wire == "raw" {
				w.finish(t, s)
				return
			}
			s.end()
			w.a.stop()
		})
	}
}

// TestConnectNarrowPathFiltered: the same for a tunnel of a broker.
func TestConnectNarrowPathFiltered(t *testing.T) {
	t.Parallel()
	b := brokerOn(t, narrow(t, 1400, true), tsptest.Config{})
	b.broker.Change(func(c *tsptest.Config) { c.Answer = b.offer })
	far := b.farEnd(b.host)
	p := b.connect("--mtu", "probe", "--wire", "raw")
	p.ready()
	s := newStream(t, b.topo.A, b.topo.B, brokerInside)
	s.goesOn()
	socket := b.dir + "/six0.sock"
	st := askUntil(t, socket, func(s control.Tunnel) bool { return s.PathMTU != nil && s.PathMTU.Phase == "complete" })
	if st.PathMTU.MTU != 1380 || st.MTU != 1380 || st.Peers[0].MTU != 1380 || st.PathMTU.Address != brokerInside {
		t.Errorf("found was %+v, the status says %d and %d; want 1380", st.PathMTU, st.MTU, st.Peers[0].MTU)
	}
	s.goesOn()
	s.end()
	addsUp(t, b.topo.A, "six0", socket)
	p.stop()
	far.stop()
}

// TestNarrowPathStatic: --mtu N leaves it to the router to cut packets.
func TestNarrowPathStatic(t *testing.T) {
	topo := narrow(t, 1400, false)
	w := connected(t, topo, "--mtu", "1480")
	s := w.stream(t)
	askUntil(t, w.socketB, func(s control.Tunnel) bool { return s.Work.Reassembled > 0 })
	w.finish(t, s)
}

// TestUnreachable: what a router on the way says about the outer packet is told to the
// sender of the inner one.
func TestUnreachable(t *testing.T) {
	for _, tt := range []struct {
		name string
		kind int
		want error
	}{
		{"host unreachable", unix.RTN_UNREACHABLE, unix.EHOSTUNREACH},
		{"prohibited", unix.RTN_PROHIBIT, unix.EACCES},
	} {
		t.Run(tt.name, func(t *testing.T) {
			topo := narrow(t, 1500, false)
			w := connected(t, topo)
			must(t, refusing(topo.R, "198.51.100.2/32", tt.kind))
			var c net.Conn
			must(t, topo.A.Do(func() (err error) { c, err = net.Dial("udp6", "["+insideB+"]:9"); return err }))
			defer c.Close()
			must(t, allErrors(c))
			nstest.Eventually(t, patience, "the error arrives", func() bool {
				must(t, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
				if _, err := c.Write([]byte("word")); err != nil {
					return errors.Is(err, tt.want)
				}
				_, err := c.Read(make([]byte, 1))
				return errors.Is(err, tt.want)
			})
			askUntil(t, w.socketA, func(s control.Tunnel) bool { return s.ICMP != nil && len(s.ICMP.Relayed) > 0 })
			addsUp(t, topo.A, "six0", w.socketA)
			if strings.Contains(w.a.stderr.text(), "level=ERROR") {
				t.Errorf("the log:\n%s", w.a.stderr.text())
			}
			w.a.stop()
			w.b.stop()
		})
	}
}

// refusing gives ns a route of a kind that refuses.
func refusing(ns *nstest.NS, prefix string, kind int) error {
	return ns.Do(func() error { return netlink.RouteAdd(&netlink.Route{Dst: mustNet(prefix), Type: kind}) })
}

// allErrors has c told of errors that may pass too.
func allErrors(c net.Conn) error {
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		return err
	}
	return errors.Join(raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
	}), err)
}
