package netstack

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sixin4/encap/packet"
)

// limit is how long anything here may take that takes milliseconds.
const limit = 2 * time.Minute

var (
	addrA = netip.MustParseAddr("2001:db8:a::1")
	addrB = netip.MustParseAddr("2001:db8:b::1")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is two hosts with a cable between them.
type pair struct {
	a, b   *Device
	cables sync.WaitGroup
}

// pass looks at a batch on its way, and may take packets out of it.
type pass func(b *packet.Batch)

// newPair connects two devices. Either direction may have somebody looking.
func newPair(t testing.TB, cfg Config, ab, ba pass) *pair {
	t.Helper()
	p := new(pair)
	p.a, p.b = newDevice(t, cfg, addrA), newDevice(t, cfg, addrB)
	p.cables.Go(func() { carry(p.a.Reader(), p.b.NewWriter(), ab) })
	p.cables.Go(func() { carry(p.b.Reader(), p.a.NewWriter(), ba) })
	t.Cleanup(func() {
		_ = p.a.Close()
		_ = p.b.Close()
		p.cables.Wait()
	})
	return p
}

func newDevice(t testing.TB, cfg Config, at ...netip.Addr) *Device {
	t.Helper()
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if err := d.SetAddresses(at); err != nil {
		t.Fatal(err)
	}
	return d
}

// carry is the loop of an engine.
func carry(from *Reader, to *Writer, look pass) {
	b := packet.NewBatch(128)
	for from.Read(b) == nil {
		if look != nil {
			look(b)
		}
		if b.Len() == 0 {
			continue
		}
		if _, err := to.Write(b); errors.Is(err, os.ErrClosed) {
			return
		}
	}
}

func ctx(t testing.TB) context.Context {
	t.Helper()
	c, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return c
}

func at(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

func listen(t testing.TB, d *Device, address string) net.Listener {
	t.Helper()
	l, err := d.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// connect returns both ends of a connection to l.
func connect(t testing.TB, d *Device, l net.Listener, address string) (out, in net.Conn) {
	t.Helper()
	got := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			close(got)
			return
		}
		got <- c
	}()
	out, err := d.DialContext(ctx(t), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	in, ok := <-got
	if !ok {
		t.Fatal("nothing was accepted")
	}
	for _, c := range []net.Conn{out, in} {
		_ = c.SetDeadline(time.Now().Add(limit))
		t.Cleanup(func() { _ = c.Close() })
	}
	return out, in
}

// closeWrite ends one direction of a connection.
func closeWrite(t testing.TB, c net.Conn) {
	t.Helper()
	half, ok := c.(interface{ CloseWrite() error })
	if !ok {
		t.Fatalf("%T has no CloseWrite", c)
	}
	if err := half.CloseWrite(); err != nil {
		t.Error(err)
	}
}

// pattern is n bytes that depend on where they are.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8) ^ byte(i>>16)
	}
	return b
}

// send writes b and ends the direction, beside the test.
func send(t testing.TB, c net.Conn, b []byte) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.Write(b); err != nil {
			t.Errorf("write: %v", err)
		}
		closeWrite(t, c)
	})
	t.Cleanup(wg.Wait)
}

func receive(t testing.TB, c net.Conn) []byte {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return b
}
