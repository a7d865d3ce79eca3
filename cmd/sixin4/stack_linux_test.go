package main

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sixin4/cmd/internal/control"
	"sixin4/tun/nstest"
)

// TestByTheStack has the rows of which the kernel's IPv6 does the work, before the tunnel
// or behind it.
func TestByTheStack(t *testing.T) {
	topo := pair(t)
	lan := nstest.Open(t)
	must(t, nstest.Link(lan, "l0", topo.A, "al0"))
	must(t, lan.AddAddr("l0", "2001:db8:5::2/64"))
	must(t, topo.A.AddAddr("al0", "2001:db8:5::1/64"))
	must(t, topo.A.Sysctl("net/ipv6/conf/all/forwarding", "1"))
	w := connected(t, topo)
	must(t, lan.AddRoute("2001:db8::/64", "2001:db8:5::1"))
	for _, prefix := range []string{"2001:db8:5::/64", "2001:db8:77::/64", "2001:db8:78::/64"} {
		must(t, topo.B.AddRoute(prefix, "six1"))
	}
	must(t, topo.A.AddRoute("2001:db8:78::/64", "six0"))
	for _, row := range []struct {
		name string
		from *nstest.NS
		to   string
		hops int
		want error // that the sender hears
	}{
		{"hop limit 1 on forwarding", lan, insideB, 1, unix.EHOSTUNREACH},
		{"hop limit 2 on forwarding: nobody listens there", lan, insideB, 2, unix.ECONNREFUSED},
		{"inner destination nobody has", topo.B, "2001:db8:77::1", 64, unix.ENETUNREACH},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := datagrams(t, row.from, row.to, row.hops)
			nstest.Eventually(t, patience, "the error arrives", func() bool { return errors.Is(refusal(t, c), row.want) })
		})
	}
	t.Run("inner destination reachable only through the tunnel it came from", func(t *testing.T) {
		_, err := datagrams(t, topo.B, "2001:db8:78::1", 64).Write([]byte("word"))
		must(t, err)
		// Sent back into it, and refused by the one whose own address it has.
		askUntil(t, w.socketB, func(s control.Tunnel) bool { return s.Drops["inner-source-ours"] == 1 })
	})
	addsUp(t, topo.A, "six0", w.socketA)
	addsUp(t, topo.B, "six1", w.socketB)
	w.a.stop()
	w.b.stop()
}

// datagrams sends from ns to port 9 of an address, with a hop limit, and is told of errors.
func datagrams(t *testing.T, ns *nstest.NS, to string, hops int) net.Conn {
	t.Helper()
	var c net.Conn
	must(t, ns.Do(func() (err error) { c, err = net.Dial("udp6", net.JoinHostPort(to, "9")); return err }))
	t.Cleanup(func() { c.Close() })
	must(t, allErrors(c))
	raw, err := c.(*net.UDPConn).SyscallConn()
	must(t, err)
	must(t, errors.Join(raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, hops)
	}), err))
	return c
}

// refusal sends a word and returns what came of it or of one before.
func refusal(t *testing.T, c net.Conn) error {
	t.Helper()
	if _, err := c.Write([]byte("word")); err != nil {
		return err
	}
	must(t, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, err := c.Read(make([]byte, 1))
	return err
}
