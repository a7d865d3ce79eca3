package proxy

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"
)

// dialNear connects the far host with a published port, which is there a moment after Run
// began.
func (w *world) dialNear(t *testing.T, port uint16) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		c, err := w.far.DialContext(ctx, "tcp", netip.AddrPortFrom(near, port).String())
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
			_ = c.SetDeadline(time.Now().Add(limit))
			return c
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func TestPublish(t *testing.T) {
	w := newWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveListener(t, l, reverse)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = nobody.Close()
	serve(t, Config{Network: w, Publish: []Publish{{80, l.Addr().String()}, {81, nobody.Addr().String()}}})
	if got := talk(t, w.dialNear(t, 80), "stressed"); got != "desserts" {
		t.Errorf("%q", got)
	}
	c := w.dialNear(t, 81)
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("a connection to nobody")
	}
	if got := (Publish{80, "127.0.0.1:8080"}).String(); got != "[::]:80=127.0.0.1:8080" {
		t.Error(got)
	}
}

// TestMaxConns: one more than there may be waits until another one ends.
func TestMaxConns(t *testing.T) {
	w := newWorld(t)
	w.serveFar(t, 80, reverse)
	s := serve(t, Config{Network: w, MaxConns: 1})
	first := dialLocal(t, s.SOCKS5())
	_, _ = first.Write(request(1, far.String(), 80))
	if code, _ := reply(t, first); code != 0 {
		t.Fatalf("answer %d", code)
	}
	second := dialLocal(t, s.SOCKS5())
	_, _ = second.Write(request(1, far.String(), 80))
	_ = second.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, _ := second.Read(make([]byte, 1)); n != 0 {
		t.Fatal("the second one was served beside the first")
	}
	_ = first.Close()
	_ = second.SetReadDeadline(time.Now().Add(limit))
	if code, _ := reply(t, second); code != 0 {
		t.Errorf("answer %d", code)
	}
}

// TestEnd: what is under way when Run ends is closed, and nothing is left running
// (TestMain).
func TestEnd(t *testing.T) {
	w := newWorld(t)
	w.serveFar(t, 80, reverse)
	s, err := New(Config{Network: w, SOCKS5: "127.0.0.1:0", HTTP: "127.0.0.1:0", Publish: []Publish{{80, "127.0.0.1:1"}}})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, s)
	var open []net.Conn
	for _, b := range [][]byte{
		request(1, far.String(), 80), request(3, "0.0.0.0", 0), {5}, {},
		[]byte("CONNECT [2001:db8:b::1]:80 HTTP/1.1\r\nHost: x\r\n\r\n"), []byte("GET "),
	} {
		c := dialLocal(t, s.SOCKS5())
		_, _ = c.Write(b)
		if len(b) > 5 {
			_, _ = c.Read(make([]byte, 100)) // it is answered
		}
		open = append(open, c)
	}
	stop()
	for _, c := range open {
		for b := make([]byte, 100); ; {
			if _, err := c.Read(b); err != nil {
				if e, ok := err.(net.Error); ok && e.Timeout() {
					t.Error("a connection goes on")
				}
				break
			}
		}
	}
	if _, err := net.Dial("tcp", s.SOCKS5().String()); err == nil {
		t.Error("the port is open still")
	}
}

func TestNew(t *testing.T) {
	w := newWorld(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, bad := range map[string]Config{
		"no network":          {},
		"user alone":          {Network: w, User: "alice"},
		"password alone":      {Network: w, Password: "secret"},
		"long user":           {Network: w, User: string(make([]byte, 256)), Password: "secret"},
		"no address":          {Network: w, SOCKS5: "here"},
		"port that is in use": {Network: w, SOCKS5: "127.0.0.1:0", HTTP: taken.Addr().String()},
	} {
		if _, err := New(bad); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	s, err := New(Config{Network: w, SOCKS5: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if s.HTTP() != nil || !IsLocal(s.SOCKS5()) || IsLocal(&net.TCPAddr{IP: net.IPv4zero}) {
		t.Errorf("at %v and %v", s.SOCKS5(), s.HTTP())
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("a closed server runs")
	}
}
