package main

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tap sees the datagrams that a client sends to the broker, on the router between them.
type tap struct {
	n  *natted
	fd int
}

func (n *natted) tap() *tap {
	n.t.Helper()
	p := &tap{n: n}
	must(n.t, n.nat.Do(func() (err error) {
		const ethIPv4 = unix.ETH_P_IP>>8 | unix.ETH_P_IP&0xff<<8
		p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, ethIPv4)
		return err
	}))
	n.t.Cleanup(func() { _ = unix.Close(p.fd) })
	return p
}

// datagrams are what was sent so far, in order, and where from.
func (p *tap) datagrams(to netip.AddrPort) (from netip.AddrPort, all [][]byte) {
	p.n.t.Helper()
	dst := to.Addr().As4()
	for {
		b := make([]byte, 1<<16)
		size, _, err := unix.Recvfrom(p.fd, b, 0)
		if errors.Is(err, unix.EAGAIN) {
			return from, all
		}
		must(p.n.t, err)
		if size > 28 && b[9] == unix.IPPROTO_UDP && [4]byte(b[16:]) == dst && binary.BigEndian.Uint16(b[22:]) == to.Port() {
			from = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:])), binary.BigEndian.Uint16(b[20:]))
			all = append(all, b[28:size])
		}
	}
}

// TestReplayed: all that a client has sent, its whole session, its keepalives and its
// answers to the broker, and a goodbye, is sent again and again by somebody who has seen
// it: in the client's name, from other ports of its address and from elsewhere. The tunnel
// stays where it is.
func TestReplayed(t *testing.T) {
	for _, user := range []string{"", "alice"} {
		t.Run("user "+user, func(t *testing.T) {
			n, args := behindNAT(t, "keepalive", "1s"), []string{"--mode", "v6udpv4"}
			if user != "" {
				n.addUser(user, "secret", 0)
				t.Setenv("SIXIN4_PASSWORD", "secret")
				args = append(args, "--user", user)
			}
			seen := n.tap()
			p, _ := n.up(args...)
			talk := n.talk()
			talk()
			broker := netip.MustParseAddrPort(n.far + ":3653")
			client, all := seen.datagrams(broker)
			if len(all) < 6 {
				t.Fatalf("only %d datagrams were seen", len(all))
			}
			goodbye := binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(lastControl(all))+1)
			goodbye = append(append(goodbye, 0, 0, 0, 1), "Content-length: 29\r\n<tunnel action=\"delete\"/>\r\n\r\n"...)
			for begun, round := time.Now(), uint16(0); time.Since(begun) < 4*time.Second; round++ {
				for _, from := range []netip.AddrPort{client, netip.AddrPortFrom(client.Addr(), 2000+round), netip.MustParseAddrPort("192.0.2.99:3000")} {
					for _, d := range all {
						n.forge(from, broker, d)
					}
					n.forge(from, broker, goodbye)
				}
				talk()
			}
			if out := n.process.stderr.text(); strings.Contains(out, "has moved") || strings.Contains(out, "outer="+client.String()+" address="+clientInside+" reason") {
				t.Errorf("the tunnel was moved or ended:\n%s", out)
			}
			if sessions := strings.Count(p.stderr.text(), "tunnel is up"); sessions != 1 {
				t.Errorf("%d sessions, want 1:\n%s", sessions, p.stderr.text())
			}
			p.stop()
			n.process.stop()
		})
	}
}

// lastControl is the last datagram that is no packet.
func lastControl(all [][]byte) (last []byte) {
	for _, d := range all {
		if d[0]>>4 == 0xf {
			last = d
		}
	}
	return last
}
