package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sixin4/encap/packet"
	"sixin4/tun/nstest"
)

// TestEaten: something on the way drops protocol 41 without a word, though the broker
// sees the address that the host has. The tunnel is made one in UDP, and TCP passes.
func TestEaten(t *testing.T) {
	t.Parallel()
	n := behindNAT(t)
	must(t, n.nat.DropForwarded(41))
	p, line := n.up()
	if !strings.HasPrefix(line, "ready: six0 v6v4 ") {
		t.Errorf("line %q, want it to begin with protocol 41", line)
	}
	p.await(p.stderr, "type=v6udpv4")
	talk := n.talk()
	talk()
	if s := n.status(); s.Mode != "v6udpv4" || !strings.Contains(s.ModeReason, "no answer") {
		t.Errorf("status: mode %s because %q", s.Mode, s.ModeReason)
	}
	p.stop()
	n.process.stop()
}

// TestDirect: where protocol 41 passes it is what is chosen, and stays.
func TestDirect(t *testing.T) {
	t.Parallel()
	n := behindNAT(t)
	p, _ := n.up()
	talk := n.talk()
	talk()
	if s := n.status(); s.Mode != "v6v4" || !strings.Contains(s.ModeReason, "the address that this host has") {
		t.Errorf("status: mode %s because %q", s.Mode, s.ModeReason)
	}
	p.stop()
	n.process.stop()
}

// TestDoubleNAT: a NAT behind another, both with random ports, both of which start anew;
// and two clients of one broker behind them, in both modes that may be asked for.
func TestDoubleNAT(t *testing.T) {
	t.Parallel()
	n := behindNAT(t, "keepalive", "3s")
	inner := nstest.Open(t)
	must(t, nstest.Link(inner, "up", n.topo.A, "down"))
	must(t, inner.AddAddr("up", "10.0.0.2/24"))
	must(t, n.topo.A.AddAddr("down", "10.0.0.1/24"))
	must(t, inner.AddRoute("0.0.0.0/0", "10.0.0.1"))
	must(t, n.topo.A.Sysctl("net/ipv4/ip_forward", "1"))
	must(t, n.topo.A.AddNAT(nstest.NAT{Link: n.topo.LinkA, Random: true}))
	must(t, n.nat.AddNAT(nstest.NAT{Link: nstest.LinkRB, Random: true}))
	for _, mode := range []string{"v6anyv4", "v6udpv4"} {
		outside := n.connect("--mode", mode) // in A, behind the outer one
		if line := outside.ready(); !strings.HasPrefix(line, "ready: six0 v6udpv4 ") {
			t.Errorf("%s: line %q", mode, line)
		}
		inside := start(t, inner, "main", "connect", "--server", n.far, "--name", "six0", "--socket", t.TempDir()+"/in.sock", "--mode", mode)
		if line := inside.ready(); !strings.HasPrefix(line, "ready: six0 v6udpv4 10.0.0.2 ") {
			t.Errorf("%s: line %q", mode, line)
		}
		l := n.echoes()
		far, near := n.wordOver(n.topo.A, l), n.wordOver(inner, l)
		far()
		near()
		must(t, n.nat.FlushNAT())
		must(t, n.topo.A.FlushNAT())
		far()
		near()
		must(t, l.Close())
		outside.stop()
		inside.stop()
	}
	n.process.stop()
}

// TestForgetfulNAT: a NAT that forgets an idle flow after two seconds, with a keepalive
// that is longer at first. The tunnel goes on as it is, and learns to ask more often.
func TestForgetfulNAT(t *testing.T) {
	t.Parallel()
	n := behindNAT(t, "keepalive", "4s")
	must(t, n.nat.AddNAT(nstest.NAT{Link: nstest.LinkRB, Random: true}))
	must(t, n.nat.Sysctl("net/netfilter/nf_conntrack_udp_timeout", "2"))
	must(t, n.nat.Sysctl("net/netfilter/nf_conntrack_udp_timeout_stream", "2"))
	p, _ := n.up()
	talk := n.talk()
	talk()
	for range 2 {
		n.process.await(n.process.stderr, "tunnel has moved with its client")
		talk()
	}
	if sessions := strings.Count(p.stderr.text(), "tunnel is up"); sessions != 1 {
		t.Errorf("%d sessions, want 1:\n%s", sessions, p.stderr.text())
	}
	p.stop()
	n.process.stop()
}

// TestShortPath: a way that carries 1280 bytes and no more, and one of which the host is
// not told: TCP passes in both.
func TestShortPath(t *testing.T) {
	for _, tt := range []struct {
		name string
		own  int // of the client's link
		mtu  int // of what comes behind it
	}{{"1280", 1500, 1280}, {"1400", 1500, 1400}, {"own link of 1280", 1280, 1280}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := behindNAT(t)
			must(t, n.nat.AddNAT(nstest.NAT{Link: nstest.LinkRB, Random: true}))
			must(t, n.nat.SetMTU(nstest.LinkRB, tt.mtu))
			must(t, n.topo.B.SetMTU(n.topo.LinkB, tt.mtu))
			must(t, n.nat.SetMTU(nstest.LinkRA, tt.own))
			must(t, n.topo.A.SetMTU(n.topo.LinkA, tt.own))
			p, _ := n.up("--mode", "v6udpv4")
			l := n.echoes()
			n.wordOver(n.topo.A, l)()
			n.longOver(n.topo.A)
			must(t, l.Close())
			p.stop()
			n.process.stop()
		})
	}
}

// TestShrinkingLink: the client's own link carries less from some moment on, and packets as
// long as the tunnel takes them still pass, in fragments.
func TestShrinkingLink(t *testing.T) {
	t.Parallel()
	n := behindNAT(t)
	must(t, n.nat.AddNAT(nstest.NAT{Link: nstest.LinkRB, Random: true}))
	p, _ := n.up("--mode", "v6udpv4")
	l := n.echoes()
	n.longOver(n.topo.A)
	must(t, n.nat.SetMTU(nstest.LinkRA, 1280))
	must(t, n.topo.A.SetMTU(n.topo.LinkA, 1280))
	n.longOver(n.topo.A)
	must(t, l.Close())
	p.stop()
	n.process.stop()
}

// outerEnd finds where the tunnel ends in what the broker says.
var outerEnd = regexp.MustCompile(`msg="tunnel is up" lease=\S+ outer=([0-9.]+:[0-9]+) address=(\S+)`)

// TestForged: whoever answers at an address of his own, forges packets in the name of a
// client or says goodbye in it does not move or end its tunnel.
func TestForged(t *testing.T) {
	t.Parallel()
	n := behindNAT(t, "keepalive", "3s")
	p, _ := n.up("--mode", "v6udpv4")
	talk := n.talk()
	talk()
	found := outerEnd.FindStringSubmatch(n.process.stderr.text())
	if found == nil {
		t.Fatal("where the tunnel ends is not in the log of the broker")
	}
	client, broker := netip.MustParseAddrPort(found[1]), netip.MustParseAddrPort(n.far+":3653")
	for _, text := range []string{
		"Content-length: 29\r\n<tunnel action=\"delete\"/>\r\n\r\n", "VERSION=2.0.2\r\n", "AUTHENTICATE ANONYMOUS\r\n",
		"Content-length: 27\r\n<tunnel action=\"reject\"/>\r\n",
	} {
		for seq := range uint32(40) {
			control := binary.BigEndian.AppendUint32(nil, 0xf00000f0+seq)
			n.forge(client, broker, append(append(control, 0, 0, 0, 1), text...))
		}
	}
	for port := range uint16(100) {
		n.forge(netip.AddrPortFrom(client.Addr(), 2000+port), broker, echoFrom(netip.MustParseAddr(found[2])))
	}
	begun := time.Now()
	must(t, n.nat.Do(func() error {
		c, err := net.Dial("udp4", broker.String())
		if err != nil {
			return err
		}
		defer c.Close()
		request := make([]byte, 2048)
		for answered := 0; answered < 3; {
			if _, err := c.Write(echoFrom(netip.MustParseAddr(found[2]))); err != nil {
				return err
			}
			must(t, c.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
			size, err := c.Read(request)
			if errors.Is(err, os.ErrDeadlineExceeded) && time.Since(begun) < patience {
				continue // one is being looked into
			}
			if err != nil || size != 64 || request[40] != 128 {
				t.Errorf("%d bytes instead of an echo request, %v: this was not about a rival", size, err)
				return err
			}
			if _, err := c.Write(answer(request[:size])); err != nil {
				return err
			}
			answered++
			talk()
		}
		return nil
	}))
	talk()
	if out := n.process.stderr.text(); strings.Contains(out, "has moved") || strings.Contains(out, "taken down") {
		t.Errorf("the tunnel was moved or ended:\n%s", out)
	}
	p.stop()
	n.process.stop()
}

// echoFrom is an echo request to the broker in the name of a client.
func echoFrom(client netip.Addr) []byte {
	b := make([]byte, 64)
	b[0], b[5], b[6], b[7], b[40] = 0x60, 24, 58, 64, 128
	from, to := client.As16(), netip.MustParseAddr(brokerInside).As16()
	copy(b[8:], from[:])
	copy(b[24:], to[:])
	return summed(b)
}

// answer is the reply to an echo request.
func answer(request []byte) []byte {
	b := bytes.Clone(request)
	copy(b[8:24], request[24:40])
	copy(b[24:40], request[8:24])
	b[40] = 129
	return summed(b)
}

// summed puts the checksum into an ICMPv6 message in an IPv6 packet.
func summed(b []byte) []byte {
	b[42], b[43] = 0, 0
	binary.BigEndian.PutUint16(b[42:], ^packet.Fold(packet.AddBytes(packet.PseudoHeader(b[8:40], 58, len(b)-40), b[40:])))
	return b
}

// forge sends a datagram from the router with a source that is another's.
func (n *natted) forge(from, to netip.AddrPort, payload []byte) {
	n.t.Helper()
	b, dst := udpPacket(from, to, payload), to.Addr().As4()
	must(n.t, n.nat.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, b, 0, &unix.SockaddrInet4{Addr: dst})
	}))
}

// udpPacket is a datagram in an IPv4 packet, without a checksum.
func udpPacket(from, to netip.AddrPort, payload []byte) []byte {
	src, dst := from.Addr().As4(), to.Addr().As4()
	b := make([]byte, 28, 28+len(payload))
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(b[2:], uint16(28+len(payload)))
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[20:], from.Port())
	binary.BigEndian.PutUint16(b[22:], to.Port())
	binary.BigEndian.PutUint16(b[24:], uint16(8+len(payload)))
	return append(b, payload...)
}
