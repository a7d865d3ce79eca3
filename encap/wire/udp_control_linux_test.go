package wire

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

var (
	_ net.Conn       = (*ControlConn)(nil)
	_ net.PacketConn = (*ControlConn)(nil)
	_ Link           = (*UDP)(nil)
)

// hello is a control datagram of size bytes.
func hello(i, size int) []byte {
	b := append([]byte("\xf0\x00\x00\xf0time"), bytes.Repeat([]byte{byte(i)}, size-8)...)
	b[3] += byte(i)
	return b
}

// TestUDPControlAmongData: what the kernel merged is told apart piece by piece: control
// of the length of the data, or shorter at its end, and what is neither.
func TestUDPControlAmongData(t *testing.T) {
	for _, unsegmented := range []bool{false, true} {
		t.Run(fmt.Sprintf("unsegmented %t", unsegmented), func(t *testing.T) {
			p := newUDPPair(t, UDPConfig{Unsegmented: unsegmented}, UDPConfig{})
			old := hello(3, 100) // its sequence number in little-endian order
			old[0], old[3] = 1, 0xf0
			short, odd := []byte("\xf0\x00\x00\xf0"), append([]byte{0x45, 0, 0, 0xf0}, make([]byte, 96)...)
			var packets, data [][]byte
			for i, d := range [][]byte{
				numbered(0, 100), hello(1, 100), numbered(1, 100), odd, old, numbered(2, 100), hello(2, 60),
				numbered(3, 100), short, {}, hello(4, 100), hello(5, 100),
			} {
				packets = append(packets, p.up(0, d))
				if len(d) > 0 && d[0]>>4 == 6 {
					data = append(data, packets[i])
				}
			}
			got := readUDP(p.server, len(data)+1, 128)
			write(t, p.client, packets...)
			write(t, p.client, data[0])
			for i, want := range append(data, data[0]) {
				expectDatagram(t, i, within(t, "packet", got), want)
			}
			for _, want := range [][]byte{hello(1, 100), old, hello(2, 60), hello(4, 100), hello(5, 100)} {
				b := make([]byte, 200)
				n, from, err := p.server.Control().ReadFrom(b)
				if err != nil || !bytes.Equal(b[:n], want) || from.String() != p.client.LocalAddr().String() {
					t.Fatalf("control % x from %v, %v; want % x", b[:n], from, err, want)
				}
			}
			if s := p.server.UDPStats(); s.Control != 5 || s.Junk != 3 || s.ControlLost != 0 {
				t.Errorf("%+v, want 5 of control and 3 of junk", s)
			}
		})
	}
}

// TestControlConn: both ends go on with their protocol while the wires are read.
func TestControlConn(t *testing.T) {
	p := newUDPPair(t, UDPConfig{}, UDPConfig{})
	readUDP(p.client, 1, 128)
	readUDP(p.server, 1, 128)
	client, server := p.client.Control(), p.server.Control()
	if client.RemoteAddr().String() != serverPort.String() || server.LocalAddr().String() != serverPort.String() || server.RemoteAddr() != nil {
		t.Errorf("addresses %v, %v, %v", client.RemoteAddr(), server.LocalAddr(), server.RemoteAddr())
	}
	b := make([]byte, 30)
	for i := range 300 { // more than are kept at a time
		if n, err := client.Write(hello(i%8, 40)); n != 40 || err != nil {
			t.Fatal(n, err)
		}
		n, from, err := server.ReadFrom(b)
		if n != 30 || err != nil || !bytes.Equal(b, hello(i%8, 40)[:30]) {
			t.Fatalf("% x, %v", b[:n], err)
		}
		if n, err := server.WriteTo(b, from); n != 30 || err != nil {
			t.Fatal(n, err)
		}
		if n, err := client.Read(b); n != 30 || err != nil || !bytes.Equal(b, hello(i%8, 40)[:30]) {
			t.Fatalf("% x, %v", b[:n], err)
		}
	}
	for what, err := range map[string]error{
		"no address":                    second(server.Write(b)),
		"IPv6":                          second(server.WriteTo(b, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("[2001:db8::1]:1")))),
		"an address on a connected one": second(client.WriteTo(b, net.UDPAddrFromAddrPort(serverPort))),
		"too long":                      second(client.Write(make([]byte, 70000))),
	} {
		var op *net.OpError
		if !errors.As(err, &op) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestControlDeadlines: as on any net.Conn.
func TestControlDeadlines(t *testing.T) {
	p := newUDPPair(t, UDPConfig{}, UDPConfig{})
	c := p.client.Control()
	past := time.Unix(1, 0)
	ended := make(chan error, 1)
	read := func() {
		_, err := c.Read(make([]byte, 10))
		ended <- err
	}
	go read()
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	if err := within(t, "Read in time", ended); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	c.SetDeadline(time.Time{})
	go read()
	c.SetDeadline(past)
	if err := within(t, "Read at once", ended); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if _, err := c.Write(hello(1, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	var timeout net.Error
	if _, err := c.Read(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Error(err)
	}
	c.SetDeadline(time.Now().Add(time.Hour))
	if _, err := c.Write(hello(1, 10)); err != nil {
		t.Error(err)
	}
	go read()
	c.Close()
	if err := within(t, "Read when closed", ended); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := errors.Join(c.Close(), nil); err != nil {
		t.Error(err)
	}
	if _, err := c.Write(nil); !errors.Is(err, net.ErrClosed) || !errors.Is(c.SetDeadline(past), net.ErrClosed) {
		t.Error(err)
	}
}

// TestControlCloses: the data goes on without its control side, and control that nobody
// takes is counted.
func TestControlCloses(t *testing.T) {
	p := newUDPPair(t, UDPConfig{}, UDPConfig{})
	p.server.Control().Close()
	got := readUDP(p.server, 1, 128)
	write(t, p.client, p.up(0, hello(1, 100)), p.up(0, numbered(1, 100)))
	expectDatagram(t, 0, within(t, "packet", got), p.up(0, numbered(1, 100)))
	if s := p.server.UDPStats(); s.ControlLost != 1 || s.Control != 0 {
		t.Errorf("%+v", s)
	}
}

// TestControlFlood: a flood of control costs no memory, and no data.
func TestControlFlood(t *testing.T) {
	p := newUDPPair(t, UDPConfig{ClearDF: true}, UDPConfig{})
	const flood = 2000
	got := readUDP(p.server, flood/100, 128)
	for i := range flood / 100 {
		var packets [][]byte
		for range 100 {
			packets = append(packets, p.up(0, hello(1, 100)))
		}
		write(t, p.client, append(packets, p.up(0, numbered(i, 90)))...)
	}
	for i := range flood / 100 {
		expectDatagram(t, i, within(t, "packet", got), p.up(0, numbered(i, 90)))
	}
	if s := p.server.UDPStats(); s.Control != controlQueue || s.ControlLost != flood-controlQueue {
		t.Errorf("%+v", s)
	}
	if _, err := p.client.Control().Write(hello(1, maxControl+1)); err != nil {
		t.Fatal(err)
	}
	read := readUDP(p.server, 1, 128)
	write(t, p.client, p.up(0, numbered(1, 90)))
	within(t, "packet", read)
	if s := p.server.UDPStats(); s.ControlLost != flood-controlQueue+1 {
		t.Errorf("%+v", s)
	}
}
