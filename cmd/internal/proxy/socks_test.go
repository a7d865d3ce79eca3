package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/proxy"
)

// TestSocks uses the client of golang.org/x/net.
func TestSocks(t *testing.T) {
	w := newWorld(t)
	at := w.serveFar(t, 80, reverse)
	s := serve(t, Config{Network: w, User: "alice", Password: "secret"})
	for _, tt := range []struct {
		name, address string
		auth          *proxy.Auth
		ok            bool
	}{
		{"literal", at, &proxy.Auth{User: "alice", Password: "secret"}, true},
		{"name", "far.example.net:80", &proxy.Auth{User: "alice", Password: "secret"}, true},
		{"wrong password", at, &proxy.Auth{User: "alice", Password: "secreT"}, false},
		{"wrong user", at, &proxy.Auth{User: "bob", Password: "secret"}, false},
		{"no password", at, nil, false},
	} {
		d, err := proxy.SOCKS5("tcp", s.SOCKS5().String(), tt.auth, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := d.Dial("tcp", tt.address)
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err == nil {
			raw := c.(interface{ CloseWrite() error })
			_ = c.SetDeadline(time.Now().Add(limit))
			_, _ = io.WriteString(c, "abc")
			_ = raw.CloseWrite()
			if got, err := io.ReadAll(c); string(got) != "cba" || err != nil {
				t.Errorf("%s: %q, %v", tt.name, got, err)
			}
			_ = c.Close()
		}
	}
}

// request is a SOCKS5 greeting without authentication and a request.
func request(command byte, host string, port uint16) []byte {
	b := []byte{5, 1, 0, 5, command, 0}
	if a, err := netip.ParseAddr(host); err != nil {
		b = append(b, 3, byte(len(host)))
		b = append(b, host...)
	} else {
		b = append(b, map[bool]byte{true: 1, false: 4}[a.Is4()])
		b = append(b, a.AsSlice()...)
	}
	return binary.BigEndian.AppendUint16(b, port)
}

// reply reads the answers to the greeting and to the request.
func reply(t testing.TB, r io.Reader) (code byte, at netip.AddrPort) {
	t.Helper()
	b := make([]byte, 6)
	if _, err := io.ReadFull(r, b); err != nil || !bytes.Equal(b[:3], []byte{5, 0, 5}) {
		t.Fatalf("answer % x, %v", b, err)
	}
	rest := make([]byte, map[byte]int{1: 6, 4: 18}[b[5]])
	if _, err := io.ReadFull(r, rest); err != nil {
		t.Fatal(err)
	}
	addr, _ := netip.AddrFromSlice(rest[:len(rest)-2])
	return b[3], netip.AddrPortFrom(addr, binary.BigEndian.Uint16(rest[len(rest)-2:]))
}

// TestSocksRefusals: a client is told why.
func TestSocksRefusals(t *testing.T) {
	w := newWorld(t)
	w.names["local.example.net"] = []netip.Addr{netip.IPv6Loopback()}
	w.names["old.example.net"] = []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.1")}
	s := serve(t, Config{Network: w})
	for _, tt := range []struct {
		name    string
		command byte
		host    string
		want    byte
	}{
		{"nobody listens", 1, far.String(), 5},
		{"IPv4", 1, "192.0.2.1", 8},
		{"IPv4 in IPv6", 1, "::ffff:192.0.2.1", 8},
		{"name with IPv4 only", 1, "v4.example.net", 8},
		{"no such name", 1, "none.example.net", 4},
		{"name with IPv4 in IPv6", 1, "old.example.net", 8},
		{"this host", 1, "::1", 2},
		{"this host by name", 1, "local.example.net", 2},
		{"IPv4 of this host", 1, "127.0.0.1", 2},
		{"link", 1, "fe80::1", 2},
		{"metadata of a cloud", 1, "169.254.169.254", 2},
		{"everybody", 1, "ff02::1", 2},
		{"nowhere", 1, "::", 2},
		{"bind", 2, far.String(), 7},
		{"no command", 9, far.String(), 7},
	} {
		c := dialLocal(t, s.SOCKS5())
		if _, err := c.Write(request(tt.command, tt.host, 81)); err != nil {
			t.Fatal(err)
		}
		if code, _ := reply(t, c); code != tt.want {
			t.Errorf("%s: answer %d, want %d", tt.name, code, tt.want)
		}
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%s: the connection goes on", tt.name)
		}
	}
}

// TestOwn: this host's addresses are known as such, and no others.
func TestOwn(t *testing.T) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range all {
		if a := netip.MustParsePrefix(one.String()).Addr(); !isOwn(a) {
			t.Errorf("%s is not known", a)
		}
	}
	if isOwn(netip.MustParseAddr("203.0.113.77")) {
		t.Error("203.0.113.77 is nobody's here")
	}
}

// TestDirect: with DirectIPv4 only what has no IPv6 goes past the tunnel.
func TestDirect(t *testing.T) {
	w := newWorld(t)
	w.names["both.example.net"] = []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.1"), far}
	w.serveFar(t, 80, reverse)
	s, err := New(Config{Network: w, SOCKS5: "127.0.0.1:0", DirectIPv4: true})
	if err != nil {
		t.Fatal(err)
	}
	s.own = func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.9") }
	asked := make(chan string, 8)
	s.direct = func(_ context.Context, network, address string) (net.Conn, error) {
		asked <- network + " " + address
		us, them := net.Pipe()
		_ = them.Close()
		return us, nil
	}
	run(t, s)
	for _, tt := range []struct{ host, direct string }{
		{"192.0.2.7", "tcp4 192.0.2.7:80"},
		{"192.0.2.9", ""},
		{far.String(), ""},
		{"far.example.net", ""},
	} {
		c := dialLocal(t, s.SOCKS5())
		_, _ = c.Write(request(1, tt.host, 80))
		var b [1]byte
		_, _ = c.Read(b[:])
		_ = c.Close()
		select {
		case got := <-asked:
			if got != tt.direct {
				t.Errorf("%s: directly to %s", tt.host, got)
			}
		case <-time.After(map[bool]time.Duration{true: limit, false: 0}[tt.direct != ""]):
			if tt.direct != "" {
				t.Errorf("%s: not directly", tt.host)
			}
		}
	}
	c := dialLocal(t, s.SOCKS5())
	_, _ = c.Write(request(1, "127.0.0.1", 80))
	if code, _ := reply(t, c); code != 2 {
		t.Errorf("this host by IPv4: answer %d", code)
	}
}

// shouting answers datagrams to port 7 of the far host in capital letters, and tells who
// sent them.
func (w *world) shouting(t *testing.T) chan net.Addr {
	t.Helper()
	echo, err := w.far.ListenPacket("udp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan net.Addr, 8)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 2000); ; {
			n, from, err := echo.ReadFrom(buf)
			if err != nil {
				return
			}
			select {
			case seen <- from:
			default:
			}
			_, _ = echo.WriteTo([]byte(strings.ToUpper(string(buf[:n]))), from)
		}
	}()
	t.Cleanup(func() { _ = echo.Close(); <-done })
	return seen
}

// udpClient is a client with an association.
type udpClient struct {
	t       *testing.T
	control net.Conn
	at      net.Addr // where datagrams go
	relay   net.Conn
}

func associate(t *testing.T, s *Server) *udpClient {
	t.Helper()
	c := dialLocal(t, s.SOCKS5())
	_, _ = c.Write(request(3, "0.0.0.0", 0))
	code, at := reply(t, c)
	if code != 0 || at.Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Fatalf("answer %d, %v", code, at)
	}
	addr := net.UDPAddrFromAddrPort(at)
	return &udpClient{t, c, addr, dialLocal(t, addr)}
}

// datagramTo is text for port 7 of host as the relay takes and gives it.
func datagramTo(host, text string) []byte {
	return append(append([]byte{0, 0, 0}, request(3, host, 7)[6:]...), text...)
}

func (a *udpClient) say(host, text string) { _, _ = a.relay.Write(datagramTo(host, text)) }

// hear wants the next datagram to be this text of the far host.
func (a *udpClient) hear(want string) {
	a.t.Helper()
	buf := make([]byte, 2000)
	n, err := a.relay.Read(buf)
	if err != nil {
		a.t.Fatal(err)
	}
	if got := buf[:n]; !bytes.Equal(got, datagramTo(far.String(), want)) {
		a.t.Errorf("got % x", got)
	}
}

// ends wants the relay to take no more, however many datagrams are under way to seen.
func (a *udpClient) ends(seen <-chan net.Addr) {
	a.t.Helper()
	for deadline := time.Now().Add(limit); ; {
		a.say(far.String(), "late") // refused once the socket is gone
		_ = a.relay.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := a.relay.Read(make([]byte, 100)); errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		for len(seen) > 0 {
			<-seen
		}
		if time.Now().After(deadline) {
			a.t.Fatal("the association goes on without its connection")
		}
	}
}

// TestAssociate: only datagrams of the client go out, and only answers to them come in,
// for as long as its connection is there.
func TestAssociate(t *testing.T) {
	w := newWorld(t)
	seen := w.shouting(t)
	stranger, err := w.far.ListenPacket("udp", ":9")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()

	a := associate(t, serve(t, Config{Network: w}))
	a.say(far.String(), "one")
	a.hear("ONE")
	from := <-seen
	_, _ = a.relay.Write(append([]byte{0, 0, 1}, request(3, far.String(), 7)[6:]...)) // a fragment
	_, _ = a.relay.Write([]byte{0, 0, 0, 4, 1})                                       // cut short
	a.say("192.0.2.1", "nowhere")
	_, _ = stranger.WriteTo([]byte("from a stranger"), from)
	_, _ = dialLocal(t, a.at).Write(datagramTo(far.String(), "not the client")) // another program of this host
	a.say("far.example.net", "two")
	a.hear("TWO")
	a.say(far.String(), "")
	a.hear("")
	a.say("far.example.net", "")
	a.hear("")
	_, _ = <-seen, <-seen
	if got := <-seen; got.String() != from.String() {
		t.Errorf("another source: %v, then %v", from, got)
	}
	if len(seen) > 0 {
		t.Error("something of others came through")
	}

	_ = a.control.Close()
	a.ends(seen)
}
