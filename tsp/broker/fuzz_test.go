package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker/account"
	"sixin4/tsp/sasl"
)

// deny has no tunnels, and one user.
type deny struct{ open, closed int }

func (d *deny) Offer(_ context.Context, a Ask) (*Grant, error) {
	d.open++
	return &Grant{ID: "1", Tunnel: &tsp.Tunnel{
		Type: a.Type, Server4: netip.MustParseAddr("192.0.2.1"), Server6: netip.MustParseAddr("2001:db8::1"),
		Client4: a.Outer, Client6: netip.MustParseAddr("2001:db8::2"), DNS: []netip.Addr{netip.MustParseAddr("2001:db8::53")},
	}}, nil
}

func (d *deny) Accept(context.Context, *Grant) error { return nil }

func (d *deny) Close(_ *Grant, keep bool) { d.closed++ }

func (d *deny) Lookup(context.Context, string) (*User, error) { return nil, ErrNoUser }

func fuzzed(f testing.TB, d *deny) *Server {
	s, err := New(Config{
		Provisioner: d, Accounts: d, Anonymous: true, Mechanisms: []string{sasl.DigestMD5, sasl.ScramSHA256},
		Carries: []tsp.Type{tsp.V6V4, tsp.V6UDPV4}, Merged: true, Logins: account.Limits{Iterations: 4096, LookupTime: -1},
	})
	if err != nil {
		f.Fatal(err)
	}
	return s
}

// sink is a socket that takes answers and has no questions.
type sink struct {
	net.PacketConn
	mu   sync.Mutex
	said [][]byte
}

func (s *sink) WriteTo(b []byte, _ net.Addr) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, b)
	return len(b), nil
}

var stranger = &net.UDPAddr{IP: net.IPv4(198, 51, 100, 7), Port: 40000}

const asking = "Content-length: 105\r\n<tunnel action=\"create\" type=\"v6v4\"><client><address type=\"ipv4\">198.51.100.7</address></client></tunnel>"

// FuzzDatagrams: datagrams are two bytes of length and themselves. Each is answered at
// most once, at most five times as long, with its own header.
func FuzzDatagrams(f *testing.F) {
	join := func(texts ...string) (all []byte) {
		for n, text := range texts {
			b := tsp.Header{Word: 0xf00000f0 + uint32(n)}.Datagram([]byte(text))
			all = append(binary.BigEndian.AppendUint16(all, uint16(len(b))), b...)
		}
		return all
	}
	f.Add(join("VERSION=2.0.2\r\n", "AUTHENTICATE ANONYMOUS\r\n\x00", asking, "Content-length: 33\r\n<tunnel action=\"accept\"></tunnel>"))
	f.Add(join("VERSION=2.0.0\r\n", "AUTHENTICATE DIGEST-MD5\r\n", "eD15\r\n", ""))
	f.Add(join("VERSION=2.0.2\r\n", "AUTHENTICATE SCRAM-SHA-256 biwsbj1hLHI9Yg==\r\n", "Yz1iaXdz\r\n", "ECHO REQUEST"))
	f.Add([]byte{0, 8, 0, 0, 0, 0xf0, 0, 0, 0, 0, 0, 2, 0x60, 0})
	f.Fuzz(func(t *testing.T, all []byte) {
		out, d := new(sink), new(deny)
		p := fuzzed(t, d).newPort(out)
		for len(all) >= 2 {
			n := min(int(binary.BigEndian.Uint16(all)), len(all)-2)
			b := all[2 : 2+n]
			all = all[2+n:]
			p.receive(t.Context(), stranger, b)
			p.turns.work.Wait()
			if len(out.said) > 1 || len(out.said) == 1 && (len(out.said[0]) > 5*n || string(out.said[0][:8]) != string(b[:8])) {
				t.Fatalf("%q is answered by %q", b, out.said)
			}
			out.said = nil
		}
		p.closeAll()
		if up := int(p.Stats().Tunnels); d.open > d.closed+up {
			t.Errorf("%d offers, %d closed, %d up", d.open, d.closed, up)
		}
	})
}

// tape is a connection that has said it all, and takes whatever comes back.
type tape struct {
	net.Conn
	said []byte
	size int // of what one read brings at most
}

func (c *tape) Read(b []byte) (int, error) {
	if len(c.said) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), c.size)], c.said)
	c.said = c.said[n:]
	return n, nil
}

func (c *tape) Write(b []byte) (int, error)      { return len(b), nil }
func (c *tape) Close() error                     { return nil }
func (c *tape) SetDeadline(time.Time) error      { return nil }
func (c *tape) SetReadDeadline(time.Time) error  { return nil }
func (c *tape) SetWriteDeadline(time.Time) error { return nil }

// FuzzStream: a stream in pieces of some size comes to an end, and leaves nothing.
func FuzzStream(f *testing.F) {
	f.Add([]byte("VERSION=2.0.2\r\nAUTHENTICATE ANONYMOUS\r\n\x00"+asking+"Content-length: 33\r\n<tunnel action=\"accept\"></tunnel>"), uint8(7))
	f.Add([]byte("VERSION=1.0.1\nAUTHENTICATE ANONYMOUS\n"+asking), uint8(255))
	f.Add([]byte("VERSION=2.0.2\r\nAUTHENTICATE DIGEST-MD5\r\neD15\r\nContent-length: 99999\r\n"), uint8(1))
	f.Fuzz(func(t *testing.T, all []byte, size uint8) {
		d := new(deny)
		s := fuzzed(t, d)
		from := netip.MustParseAddrPort("198.51.100.7:40000")
		c := &conn{Conn: &tape{said: all, size: int(size) + 1}, source: from.Addr()}
		if !s.gate.admit(c) {
			t.Fatal("not admitted")
		}
		s.serveConn(t.Context(), c, from)
		stats := s.Stats()
		if stats.Conns+stats.Idle != 0 || d.open < d.closed || d.open-d.closed > int(stats.Tunnels) {
			t.Errorf("%+v, %d offers, %d closed", stats, d.open, d.closed)
		}
	})
}

// TestConnKeepsWhatFollows: a stream that is thrown away between two messages takes
// nothing of the next one with it.
func TestConnKeepsWhatFollows(t *testing.T) {
	c := &conn{Conn: &tape{said: []byte("one\r\ntwo\r\n\x00three\r\n"), size: 100}}
	for _, want := range []string{"one", "two", "three"} {
		if err := c.wait(time.Time{}); err != nil {
			t.Fatal(err)
		}
		m, err := tsp.NewStream(c).Receive(t.Context())
		if err != nil || string(m.Line) != want {
			t.Errorf("%q, %v", m.Line, err)
		}
	}
	if err := c.wait(time.Time{}); !errors.Is(err, io.EOF) || c.buf != nil {
		t.Errorf("%v, a buffer of %d", err, len(c.buf))
	}
}
