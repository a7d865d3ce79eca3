package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
)

// throughs are the ways from a program on this host to a port of the far one.
var throughs = []struct {
	name   string
	tunnel bool // what follows is the far host's
	greet  func(at string) []byte
}{
	{"SOCKS5", true, func(at string) []byte {
		to := netip.MustParseAddrPort(at)
		return request(1, to.Addr().String(), to.Port())
	}},
	{"CONNECT", true, func(at string) []byte {
		return fmt.Appendf(nil, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", at, at)
	}},
	{"HTTP/1.0", false, func(at string) []byte { return fmt.Appendf(nil, "GET http://%s/ HTTP/1.0\r\n\r\n", at) }},
}

// wantReset wants c to end with a reset behind what was said.
func wantReset(t *testing.T, name string, c io.Reader, said string) {
	t.Helper()
	b, err := io.ReadAll(c)
	if !errors.Is(err, syscall.ECONNRESET) || !strings.HasSuffix(string(b), said) {
		t.Errorf("%s: %q, %v; no reset", name, b, err)
	}
}

// TestCutFar: what the far host cuts short, or loses with the address of ours, does not
// look whole.
func TestCutFar(t *testing.T) {
	for _, tt := range []struct {
		name string
		cut  func(w *world, c net.Conn)
	}{
		{"reset", func(_ *world, c net.Conn) { _ = cut(c) }},
		{"address", func(w *world, _ net.Conn) { _ = w.near.SetAddresses([]netip.Addr{near.Next()}) }},
	} {
		for _, way := range throughs {
			w := newWorld(t)
			read, done := make(chan struct{}), make(chan struct{})
			at := w.serveFar(t, 80, func(c net.Conn) {
				_, _ = http.ReadRequest(bufio.NewReader(c))
				_, _ = io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\nhalf of it")
				select {
				case <-read:
					tt.cut(w, c)
					<-done
				case <-done:
				}
			})
			t.Cleanup(func() { close(done) }) // before that of serveFar
			s := serve(t, Config{Network: w, SOCKS5: "127.0.0.1:0", HTTP: "127.0.0.1:0"})
			c := dialLocal(t, s.HTTP())
			_, _ = c.Write(way.greet(at))
			if way.tunnel {
				_, _ = io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
			}
			got := make([]byte, 0, 1000)
			for !strings.HasSuffix(string(got), "half of it") {
				n, err := c.Read(got[len(got):cap(got)])
				if err != nil {
					t.Fatal(err)
				}
				got = got[:len(got)+n]
			}
			close(read)
			wantReset(t, way.name+" "+tt.name, c, "")
		}
	}
}

// TestCutNear: what a client cuts short does not look whole to the far host, nor what a
// stranger does to a published server, nor the other way.
func TestCutNear(t *testing.T) {
	w := newWorld(t)
	got := make(chan error, 1)
	listens := func(c net.Conn) {
		b := make([]byte, 3)
		_, _ = io.ReadFull(c, b)
		_, _ = c.Write(b)
		_, err := io.ReadAll(c)
		got <- err
	}
	at := w.serveFar(t, 80, listens)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveListener(t, l, listens)
	cuts, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveListener(t, cuts, func(c net.Conn) {
		_, _ = io.ReadFull(c, make([]byte, 3))
		_ = cut(c)
	})
	s := serve(t, Config{Network: w, SOCKS5: "127.0.0.1:0", HTTP: "127.0.0.1:0",
		Publish: []Publish{{80, l.Addr().String()}, {81, cuts.Addr().String()}}})
	for _, way := range []struct {
		name  string
		c     net.Conn
		greet []byte
	}{
		{throughs[0].name, dialLocal(t, s.SOCKS5()), throughs[0].greet(at)},
		{throughs[1].name, dialLocal(t, s.HTTP()), throughs[1].greet(at)},
		{"published", w.dialNear(t, 80), nil},
	} {
		_, _ = way.c.Write(append(way.greet, "abc"...))
		for b := make([]byte, 0, 1000); !strings.HasSuffix(string(b), "abc"); {
			n, err := way.c.Read(b[len(b):cap(b)])
			if err != nil {
				t.Fatal(err)
			}
			b = b[:len(b)+n]
		}
		_ = cut(way.c)
		if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v; no reset", way.name, err)
		}
	}
	stranger := w.dialNear(t, 81)
	_, _ = io.WriteString(stranger, "abc")
	wantReset(t, "published server", stranger, "")
}
