package proxy

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sixin4/encap/packet"
	"sixin4/tun/netstack"
)

// limit is how long anything here may take that takes milliseconds.
const limit = 2 * time.Minute

// near is our end of the tunnel, far a host behind it.
var (
	near = netip.MustParseAddr("2001:db8:a::1")
	far  = netip.MustParseAddr("2001:db8:b::1")
)

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		os.Exit(child(role))
	}
	goleak.VerifyTestMain(m)
}

// world is a tunnel with a host behind it, both in memory.
type world struct {
	near, far *netstack.Device
	names     map[string][]netip.Addr
}

// Resolve knows the names of the test.
func (w *world) Resolve(_ context.Context, network, host string) (all []netip.Addr, err error) {
	for _, a := range w.names[host] {
		if a.Is4() == (network == "ip4") {
			all = append(all, a)
		}
	}
	if all == nil {
		err = &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return all, err
}

func (w *world) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return w.near.DialContext(ctx, network, address)
}

func (w *world) Listen(network, address string) (net.Listener, error) {
	return w.near.Listen(network, address)
}

func (w *world) ListenPacket(network, address string) (net.PacketConn, error) {
	return w.near.ListenPacket(network, address)
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{names: map[string][]netip.Addr{"far.example.net": {far}, "v4.example.net": {netip.MustParseAddr("192.0.2.1")}}}
	var cables sync.WaitGroup
	open := func(a netip.Addr) *netstack.Device {
		d, err := netstack.New(netstack.Config{MTU: 1472})
		if err == nil {
			err = d.SetAddresses([]netip.Addr{a})
		}
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	w.near, w.far = open(near), open(far)
	cables.Go(func() { carry(w.near.Reader(), w.far.NewWriter()) })
	cables.Go(func() { carry(w.far.Reader(), w.near.NewWriter()) })
	t.Cleanup(func() {
		_, _ = w.near.Close(), w.far.Close()
		cables.Wait()
	})
	return w
}

// carry is the loop of an engine.
func carry(from *netstack.Reader, to *netstack.Writer) {
	for b := packet.NewBatch(128); from.Read(b) == nil; {
		_, _ = to.Write(b)
	}
}

// serve runs a proxy on loopback until the test ends.
func serve(t testing.TB, cfg Config) *Server {
	t.Helper()
	if cfg.SOCKS5 == "" {
		cfg.SOCKS5 = "127.0.0.1:0"
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	return s
}

// run runs s until the test ends or stop is called.
func run(t testing.TB, s *Server) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(limit):
			t.Error("run goes on")
		}
	})
	t.Cleanup(stop)
	return stop
}

// serveFar has connections to a port of the far host answered, each by a call of f.
func (w *world) serveFar(t testing.TB, port uint16, f func(c net.Conn)) string {
	t.Helper()
	at := netip.AddrPortFrom(far, port).String()
	l, err := w.far.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	serveListener(t, l, f)
	return at
}

func serveListener(t testing.TB, l net.Listener, f func(c net.Conn)) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); f(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
}

// reverse answers with what it got, in reverse, once the client has ended its
// direction.
func reverse(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(limit))
	b, err := io.ReadAll(c)
	if err != nil {
		return
	}
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	_, _ = c.Write(b)
}

// talk sends text and its end, and returns all that comes back.
func talk(t testing.TB, c net.Conn, text string) string {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(limit))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	if err := closeWrite(c); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func dialLocal(t testing.TB, a net.Addr) net.Conn {
	t.Helper()
	c, err := net.Dial(a.Network(), a.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(limit))
	return c
}
