package wire

import (
	"encoding/binary"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"unsafe"

	"sixin4/encap/packet"
	"sixin4/encap/packettest"
	"sixin4/tun/nstest"
)

// udpPair is a client at A that is connected to a server at B.
type udpPair struct {
	*nstest.Topology
	client, server *UDP
}

var (
	anyPort4   = netip.MustParseAddrPort("0.0.0.0:0")
	serverPort = netip.MustParseAddrPort("192.0.2.2:3653")
)

func newUDPPair(t testing.TB, client, server UDPConfig) *udpPair {
	t.Helper()
	top := pair(t)
	return &udpPair{
		Topology: top,
		server:   openUDP(t, top.B, serverPort, netip.AddrPort{}, server),
		client:   openUDP(t, top.A, anyPort4, serverPort, client),
	}
}

// openUDP makes a wire in ns, connected when to is valid.
func openUDP(t testing.TB, ns *nstest.NS, at, to netip.AddrPort, cfg UDPConfig) (u *UDP) {
	t.Helper()
	err := ns.Do(func() (err error) {
		if to.IsValid() {
			cfg.Conn, err = net.DialUDP("udp4", net.UDPAddrFromAddrPort(at), net.UDPAddrFromAddrPort(to))
		} else {
			cfg.Conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		}
		if err == nil {
			u, err = NewUDP(cfg)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

// up makes what the client sends to the server, down the opposite.
func (p *udpPair) up(tos byte, inner []byte) []byte {
	return datagram(p.client.LocalAddr(), serverPort, tos, inner)
}

func (p *udpPair) down(tos byte, inner []byte) []byte {
	return datagram(serverPort, p.client.LocalAddr(), tos, inner)
}

// datagram puts inner behind outer headers as an engine makes them.
func datagram(from, to netip.AddrPort, tos byte, inner []byte) []byte {
	b := make([]byte, UDPHeaderLen, UDPHeaderLen+len(inner))
	b[0], b[1], b[6], b[8], b[9] = 0x45, tos, 0x40, 64, 17
	binary.BigEndian.PutUint16(b[2:], uint16(UDPHeaderLen+len(inner)))
	s, d := from.Addr().As4(), to.Addr().As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	binary.BigEndian.PutUint16(b[20:], from.Port())
	binary.BigEndian.PutUint16(b[22:], to.Port())
	binary.BigEndian.PutUint16(b[24:], uint16(8+len(inner)))
	return append(b, inner...)
}

// numbered is an IPv6 packet of size bytes, at least 50, that differs from others.
func numbered(i, size int) []byte {
	return packettest.UDP(inner6, inner7, binary.BigEndian.AppendUint16(packettest.Pattern(i, size-50), uint16(i)))
}

// write writes all packets and expects no error.
func write(t testing.TB, u *UDP, packets ...[]byte) {
	t.Helper()
	w, err := u.NewWriter()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := w.Write(batchOf(packets...)); n != len(packets) || err != nil {
		t.Fatalf("wrote %d of %d, %v", n, len(packets), err)
	}
}

// readUDP reads until n packets came or the wire is closed, which it tells by closing
// the channel.
func readUDP(u *UDP, n, batch int) <-chan received {
	out := make(chan received, n)
	go func() {
		defer close(out)
		b := packet.NewBatch(batch)
		for n > 0 && u.Reader().Read(b) == nil {
			for i := range b.Packets {
				p := &b.Packets[i]
				out <- received{p.AppendTo(nil), p.Seg, p.Sum == packet.SumPartial, p.Err}
				n--
			}
		}
	}()
	return out
}

// fate makes a test's own system call of a writer's: it refuses messages.
func fate(t testing.TB, u *UDP, refuse func(m *mmsghdr) error) (*udpWriter, *int) {
	t.Helper()
	w, err := u.NewWriter()
	if err != nil {
		t.Fatal(err)
	}
	real, calls := sendmmsg, new(int)
	writer := w.(*udpWriter)
	writer.send = func(fd int, msgs []mmsghdr) (int, errno) {
		*calls++
		for i := range msgs {
			if e, ok := refuse(&msgs[i]).(errno); ok {
				if i > 0 {
					return real(fd, msgs[:i])
				}
				return 0, e
			}
		}
		return real(fd, msgs)
	}
	return writer, calls
}

// logBook keeps the messages of a logger.
type logBook struct {
	mu    sync.Mutex
	lines []string
}

func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(b))
	return len(b), nil
}

func (l *logBook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// debugLogger is logger for all that is told.
func (l *logBook) debugLogger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// bytesAt is the n bytes at b.
func bytesAt(b *byte, n int) []byte { return unsafe.Slice(b, n) }
