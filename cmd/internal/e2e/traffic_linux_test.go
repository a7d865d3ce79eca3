package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sixin4/tun/nstest"
)

// large is how much a test of a whole transfer moves.
func large() int64 {
	if testing.Short() {
		return 10 << 20
	}
	return 100 << 20
}

// medium is what the variants of such a test move.
func medium() int64 {
	if raceEnabled {
		return large() / 5
	}
	return large()
}

// soon is the deadline of what takes milliseconds.
func soon() time.Time { return time.Now().Add(limit) }

// noise is an endless stream that never repeats.
func noise() io.Reader { return rand.NewChaCha8([32]byte{6, 4}) }

// transfer sends n bytes by TCP from one namespace to an address in another and
// compares hashes.
func transfer(t testing.TB, from, to *nstest.NS, dst string, n int64) {
	t.Helper()
	addr := netip.AddrPortFrom(netip.MustParseAddr(dst), 7).String()
	var listener net.Listener
	must(t, to.Do(func() (err error) {
		listener, err = net.Listen("tcp6", addr)
		return err
	}))
	defer listener.Close()
	type result struct {
		n   int64
		sum string
		err error
	}
	got := make(chan result, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			got <- result{err: err}
			return
		}
		defer conn.Close()
		h := sha256.New()
		n, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{progress{conn}}, make([]byte, 256<<10))
		got <- result{n, sumOf(h), err}
	}()
	var conn net.Conn
	must(t, from.Do(func() (err error) {
		conn, err = (&net.Dialer{Timeout: limit}).Dial("tcp6", addr)
		return err
	}))
	defer conn.Close()
	h := sha256.New()
	_, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(h, progress{conn})}, io.LimitReader(noise(), n), make([]byte, 256<<10))
	must(t, err, conn.(*net.TCPConn).CloseWrite())
	if r := within(t, "transfer", got); r.err != nil || r.n != n || r.sum != sumOf(h) {
		t.Fatalf("%d of %d bytes arrived, same hash %t, %v", r.n, n, r.sum == sumOf(h), r.err)
	}
}

func sumOf(h hash.Hash) string { return fmt.Sprintf("%x", h.Sum(nil)) }

// progress is a connection that must move within the limit, however long the
// whole takes.
type progress struct{ net.Conn }

func (p progress) Read(b []byte) (int, error) {
	_ = p.SetReadDeadline(soon())
	return p.Conn.Read(b)
}

func (p progress) Write(b []byte) (int, error) {
	_ = p.SetWriteDeadline(soon())
	return p.Conn.Write(b)
}

// udp opens a UDP socket in ns.
func udp(t testing.TB, ns *nstest.NS, addr string, port uint16) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	must(t, ns.Do(func() error {
		config := net.ListenConfig{}
		c, err := config.ListenPacket(context.Background(), "udp6", netip.AddrPortFrom(netip.MustParseAddr(addr), port).String())
		if err == nil {
			conn = c.(*net.UDPConn)
			_ = conn.SetReadBuffer(4 << 20)
		}
		return err
	}))
	t.Cleanup(func() { conn.Close() })
	return conn
}

// datagram is number i of a flow, with its number and its length inside.
func datagram(i, n int) []byte {
	b := make([]byte, n)
	for k := range b {
		b[k] = byte(i*31 + k)
	}
	binary.BigEndian.PutUint32(b, uint32(i))
	return b
}

// datagrams sends count datagrams of n bytes, a burst at a time, each burst when
// the one before has arrived, and checks that every one arrives once and whole.
// Within a burst their order is free: a thread that changes processors leaves
// packets in the queues of both, which the kernel works off side by side.
func datagrams(t testing.TB, from, to *net.UDPConn, count, burst, n int) {
	t.Helper()
	for i := 0; i < count; i += burst {
		for k := i; k < i+burst; k++ {
			if _, err := from.WriteTo(datagram(k, n), to.LocalAddr()); err != nil {
				t.Fatal(err)
			}
		}
		_ = to.SetReadDeadline(soon())
		seen := make(map[int]bool, burst)
		for range burst {
			k := receive(t, to, n)
			if k < i || k >= i+burst || seen[k] {
				t.Fatalf("datagram %d in the burst from %d on, seen before: %t", k, i, seen[k])
			}
			seen[k] = true
		}
	}
}

// receive returns the number of the next datagram, which is n bytes long.
func receive(t testing.TB, conn *net.UDPConn, n int) int {
	t.Helper()
	buf := make([]byte, 1<<16)
	got, _, err := conn.ReadFrom(buf)
	if err != nil || got != n {
		t.Fatalf("a datagram of %d bytes, %v; want %d", got, err, n)
	}
	k := int(binary.BigEndian.Uint32(buf))
	if !bytes.Equal(buf[:n], datagram(k, n)) {
		t.Fatalf("datagram %d: % x", k, buf[:n])
	}
	return k
}

// settled reads what is still under way to conn: nothing within 200 ms.
func settled(t testing.TB, conn *net.UDPConn) {
	t.Helper()
	buf := make([]byte, 1<<16)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, _, err := conn.ReadFrom(buf); errors.Is(err, os.ErrDeadlineExceeded) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// icmp is a raw ICMPv6 socket.
func icmp(t testing.TB, ns *nstest.NS, local string) *net.IPConn {
	t.Helper()
	var conn *net.IPConn
	must(t, ns.Do(func() (err error) {
		conn, err = net.ListenIP("ip6:ipv6-icmp", &net.IPAddr{IP: net.ParseIP(local)})
		return err
	}))
	t.Cleanup(func() { conn.Close() })
	return conn
}

// echo sends an echo request of n bytes of data and waits for its answer.
func echo(conn *net.IPConn, dst *net.IPAddr, seq uint16, n int) error {
	request := append([]byte{128, 0, 0, 0, 0x51, 0x17, byte(seq >> 8), byte(seq)}, datagram(int(seq), n)...)
	if _, err := conn.WriteToIP(request, dst); err != nil {
		return err
	}
	b, err := awaitICMP(conn, func(b []byte) bool { return b[0] == 129 && bytes.Equal(b[4:8], request[4:8]) })
	if err == nil && !bytes.Equal(b[8:], request[8:]) {
		err = errors.New("the answer's data differ")
	}
	return err
}

// awaitICMP returns the next ICMPv6 message that is wanted.
func awaitICMP(conn *net.IPConn, want func(b []byte) bool) ([]byte, error) {
	_ = conn.SetReadDeadline(soon())
	b := make([]byte, 1<<16)
	for {
		n, _, err := conn.ReadFromIP(b)
		if err != nil {
			return nil, err
		}
		if n >= 8 && want(b[:n]) {
			return b[:n], nil
		}
	}
}

// tap captures what arrives on a link, protocol in network order, for tests that
// look at bytes.
type tap struct {
	t    testing.TB
	file *os.File
	buf  []byte
}

// listenOn opens a tap for the Ethernet protocol on link.
func listenOn(t testing.TB, ns *nstest.NS, link string, protocol uint16) *tap {
	t.Helper()
	_, index := mac(t, ns, link)
	var fd int
	must(t, ns.Do(func() (err error) {
		net16 := protocol<<8 | protocol>>8
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(net16))
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: net16, Ifindex: index})
		}
		return err
	}))
	c := &tap{t: t, file: os.NewFile(uintptr(fd), "tap"), buf: make([]byte, 1<<16)}
	t.Cleanup(func() { c.file.Close() })
	return c
}

// next returns the next packet that is wanted.
func (c *tap) next(what string, want func(b []byte) bool) []byte {
	c.t.Helper()
	must(c.t, c.file.SetReadDeadline(soon()))
	for {
		n, err := c.file.Read(c.buf)
		if err != nil {
			c.t.Fatalf("%s: %v", what, err)
		}
		if b := c.buf[:n]; want(b) {
			return bytes.Clone(b)
		}
	}
}

// raw returns what sends whole IPv4 packets from ns.
func raw(t testing.TB, ns *nstest.NS) func(packets ...[]byte) {
	t.Helper()
	var fd int
	must(t, ns.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	}))
	t.Cleanup(func() { unix.Close(fd) })
	return func(packets ...[]byte) {
		t.Helper()
		for _, p := range packets {
			must(t, unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: [4]byte(p[16:20])}))
		}
	}
}
