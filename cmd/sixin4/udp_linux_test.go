package main

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sixin4/encap/packet"
	"sixin4/tun/nstest"
)

// clientEnd is where a tunnel in UDP ends, as the broker says.
func (n *natted) clientEnd() netip.AddrPort {
	n.t.Helper()
	found := outerEnd.FindStringSubmatch(n.process.stderr.text())
	if found == nil {
		n.t.Fatal("where the tunnel ends is not in the log of the broker")
	}
	return netip.MustParseAddrPort(found[1])
}

// TestUDPWithoutRaw: a tunnel in UDP needs no raw socket, neither for packets nor for the
// keepalive.
func TestUDPWithoutRaw(t *testing.T) {
	n := behindNAT(t, "keepalive", "1s")
	p := start(t, n.topo.A, "lose-raw", "connect", "--server", n.far, "--name", "six0", "--socket", n.dir+"/six0.sock",
		"--keepalive", "1s", "--mode", "v6udpv4", "-v")
	p.ready()
	l := n.echoes()
	n.wordOver(n.topo.A, l)()
	n.process.signal(syscall.SIGSTOP) // so that three requests get lost
	p.await(p.stderr, "echo requests in a row were lost")
	n.process.signal(syscall.SIGCONT)
	p.await(p.stderr, "tunnel is up")
	n.longOver(n.topo.A)
	must(t, l.Close())
	p.stop()
	n.process.stop()
}

// TestBrokerUDP: TCP through a tunnel in UDP goes on over a kill of the broker, before the
// client says a word.
func TestBrokerUDP(t *testing.T) {
	n := behindNAT(t)
	p, _ := n.up("--mode", "v6udpv4", "--keepalive", "30s")
	talk := n.talk()
	talk()
	n.process.signal(syscall.SIGKILL)
	n.process.code()
	n.begin()
	talk()
	if sessions := strings.Count(p.stderr.text(), "tunnel is up"); sessions != 1 {
		t.Errorf("the client had %d sessions, want 1:\n%s", sessions, p.stderr.text())
	}
	p.stop()
	n.process.stop()
}

// TestForgedPathMTU: ICMPv4 messages with the right addresses and ports say that the path
// carries less. Neither end sends shorter packets for it.
func TestForgedPathMTU(t *testing.T) {
	n := behindNAT(t)
	p, _ := n.up("--mode", "v6udpv4", "--keepalive", "30s")
	l := n.echoes()
	n.longOver(n.topo.A)
	client, broker := n.clientEnd(), netip.MustParseAddrPort(n.far+":3653")
	n.forgeTooBig(client, broker, 600)
	n.forgeTooBig(broker, client, 600)
	p.await(p.stderr, "about the way to the broker was wrong")
	reassembled := n.status().Work.Reassembled
	n.longOver(n.topo.A)
	s := n.status()
	if s.MTU != 1472 {
		t.Errorf("MTU %d, want 1472", s.MTU)
	}
	if s.Work.Reassembled != reassembled {
		t.Errorf("%d packets came in fragments", s.Work.Reassembled-reassembled)
	}
	must(t, l.Close())
	p.stop()
	n.process.stop()
}

// forgeTooBig tells from, in the name of the router, that its datagrams to another are too
// long.
func (n *natted) forgeTooBig(from, to netip.AddrPort, mtu uint16) {
	n.t.Helper()
	quote := udpPacket(from, to, make([]byte, 100))
	msg := append([]byte{3, 4, 0, 0, 0, 0}, byte(mtu>>8), byte(mtu))
	msg = append(msg, quote...)
	binary.BigEndian.PutUint16(msg[2:], ^packet.Fold(packet.AddBytes(0, msg)))
	dst := from.Addr().As4()
	must(n.t, n.nat.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, msg, 0, &unix.SockaddrInet4{Addr: dst})
	}))
}

// TestMTUOfBothKinds: at one broker a tunnel of protocol 41 carries 20 bytes less than the
// link, and one in UDP 28.
func TestMTUOfBothKinds(t *testing.T) {
	n := behindNAT(t)
	l := n.echoes()
	for mode, size := range map[string]int{"v6v4": 1480, "v6udpv4": 1472} {
		p, line := n.up("--mode", mode)
		inside := strings.Fields(line)[7]
		n.wordOver(n.topo.A, l)() // the broker knows that the client is there
		for _, way := range []struct {
			from, to *nstest.NS
			src, dst string
		}{{n.topo.B, n.topo.A, brokerInside, inside}, {n.topo.A, n.topo.B, inside, brokerInside}} {
			if got := n.lengths(way.from, way.to, way.src, way.dst, size+1, size); got != size {
				t.Errorf("%s, from %s: a packet of %d bytes arrives first, want %d", mode, way.src, got, size)
			}
		}
		p.stop()
	}
	must(t, l.Close())
	n.process.stop()
}

// lengths sends datagrams in IPv6 packets of so many bytes, which nobody may cut, and
// returns the length of the first that arrives.
func (n *natted) lengths(from, to *nstest.NS, src, dst string, sizes ...int) (size int) {
	n.t.Helper()
	var in, out net.PacketConn
	open := func(ns *nstest.NS, at string, c *net.PacketConn) {
		must(n.t, ns.Do(func() (err error) {
			*c, err = net.ListenPacket("udp6", "["+at+"]:0")
			return err
		}))
		n.t.Cleanup(func() { (*c).Close() })
	}
	open(to, dst, &in)
	open(from, src, &out)
	raw, err := out.(*net.UDPConn).SyscallConn()
	must(n.t, err)
	must(n.t, raw.Control(func(fd uintptr) {
		err = errors.Join(unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1))
	}))
	must(n.t, err)
	for _, s := range sizes {
		_, _ = out.WriteTo(make([]byte, s-48), in.LocalAddr()) // what does not arrive is seen below
	}
	must(n.t, in.SetReadDeadline(time.Now().Add(patience)))
	got, _, err := in.ReadFrom(make([]byte, 2048))
	must(n.t, err)
	return got + 48
}

// TestOuterFragments: a tunnel whose MTU is set to that of the link has its datagrams cut,
// both ways, and loses nothing by it.
func TestOuterFragments(t *testing.T) {
	n := behindNAT(t, "mtu", "1500")
	must(t, n.nat.AddNAT(nstest.NAT{Link: nstest.LinkRB, Random: true}))
	p, line := n.up("--mode", "v6udpv4", "--mtu", "1500")
	if !strings.HasSuffix(line, " mtu 1500") {
		t.Errorf("line %q", line)
	}
	l := n.echoes()
	n.longOver(n.topo.A)
	if s := n.status(); s.Work.Reassembled == 0 {
		t.Errorf("nothing came in fragments: %+v", s.Work)
	}
	must(t, l.Close())
	p.stop()
	n.process.stop()
}
