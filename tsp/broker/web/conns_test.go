package web

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// room is a listener without a network.
type room struct {
	*boundedListener
	t *testing.T
}

func newRoom(t *testing.T) room {
	h := newHouse(t, func(c *Config) { c.Proxies = []netip.Addr{netip.MustParseAddr("192.0.2.80")} })
	return room{newBoundedListener(nil, h.site), t}
}

// from is a connection of a source; an empty text is a proxy.
func (r room) from(source string) *boundedConn {
	c := &boundedConn{of: r.boundedListener}
	if source != "" {
		c.source = netip.MustParseAddr(source)
	}
	return c
}

// fill lets each of so many sources have so many connections.
func (r room) fill(sources, each int) (all []*boundedConn) {
	r.t.Helper()
	for i := range sources {
		for range each {
			c := r.from(fmt.Sprintf("198.51.100.%d", i))
			if _, ok := r.take(c); !ok {
				r.t.Fatal("refused too early")
			}
			all = append(all, c)
		}
	}
	return all
}

// TestBoundedSource: one source has so many connections.
func TestBoundedSource(t *testing.T) {
	r := newRoom(t)
	source := func(text string) netip.Addr { return r.source(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(text))) }
	for _, text := range []string{"127.0.0.1:1", "192.0.2.80:1", "[::1]:1", "[::ffff:127.0.0.1]:1"} {
		if s := source(text); s.IsValid() {
			t.Errorf("%s is counted as %s", text, s)
		}
	}
	if got := source("[2001:db8:1:2:3::4]:1"); got.String() != "2001:db8:1::" {
		t.Errorf("counted as %s", got)
	}
	all := r.fill(1, maxOfOne)
	if _, ok := r.take(r.from("198.51.100.0")); ok {
		t.Error("one more of a source")
	}
	if v, ok := r.take(r.from("198.51.100.1")); !ok || v != nil {
		t.Error("another source is refused")
	}
	r.mu.Lock()
	r.remove(all[0])
	r.remove(all[0]) // as a second Close
	r.mu.Unlock()
	if _, ok := r.take(r.from("198.51.100.0")); !ok || r.all != maxOfOne+1 {
		t.Errorf("refused though there is room, %d are counted", r.all)
	}
}

// TestBoundedInAll: who comes when all is full gets the place of one of the source that
// has most: one that is idle, or else the one that has been busy for longest.
func TestBoundedInAll(t *testing.T) {
	const sources = maxConns / maxOfOne
	t.Run("idle", func(t *testing.T) {
		r := newRoom(t)
		all := r.fill(sources, maxOfOne)
		for _, c := range all[:5] {
			r.state(c, http.StateActive)
		}
		r.state(all[1], http.StateIdle) // the one that is idle for the shortest time
		for i := maxOfOne; i < len(all); i++ {
			if i%maxOfOne == 0 { // the others have one less
				r.mu.Lock()
				r.remove(all[i])
				r.mu.Unlock()
				if _, ok := r.take(r.from(fmt.Sprintf("203.0.113.%d", i/maxOfOne))); !ok {
					t.Fatal("refused")
				}
			}
		}
		v, ok := r.take(r.from("192.0.2.1"))
		if !ok || v != all[5] {
			t.Errorf("%v: not the one that is idle for longest goes", ok)
		}
		if r.all != maxConns {
			t.Errorf("%d connections", r.all)
		}
	})
	t.Run("busy", func(t *testing.T) {
		r := newRoom(t)
		all := r.fill(sources, maxOfOne)
		for _, c := range all {
			r.state(tls.Server(c, nil), http.StateActive) // as it is with https
		}
		v, ok := r.take(r.from("192.0.2.1"))
		if !ok || v == nil || v.source == netip.MustParseAddr("192.0.2.1") {
			t.Fatalf("%v, %+v", ok, v)
		}
		if of := r.sources[v.source]; v != all[int(v.source.As4()[3])*maxOfOne] || of.len() != maxOfOne-1 {
			t.Error("not the oldest goes")
		}
		if _, ok := r.take(r.from("")); !ok {
			t.Error("a proxy is refused")
		}
	})
	t.Run("no more than others", func(t *testing.T) {
		r := newRoom(t)
		for i := range maxConns {
			r.take(r.from(fmt.Sprintf("10.0.%d.%d", i/256, i%256)))
		}
		if v, ok := r.take(r.from("10.0.0.0")); ok {
			t.Errorf("who has one already ousts %v", v.source)
		}
		if v, ok := r.take(r.from("192.0.2.1")); !ok || v == nil {
			t.Error("who has none is refused")
		}
	})
	t.Run("behind a proxy", func(t *testing.T) {
		r := newRoom(t)
		var all []*boundedConn
		for range maxConns {
			all = append(all, r.from(""))
			r.take(all[len(all)-1])
			r.state(all[len(all)-1], http.StateActive)
		}
		if _, ok := r.take(r.from("")); ok {
			t.Error("a request that a proxy has handed on is cut off")
		}
		r.state(all[7], http.StateIdle)
		if v, ok := r.take(r.from("192.0.2.1")); !ok || v != all[7] {
			t.Error("an idle one is kept")
		}
	})
}

// TestBoundedServer: the server tells what is idle.
func TestBoundedServer(t *testing.T) {
	h := newHouse(t, nil)
	ours, theirs := net.Pipe()
	conns := make(chan net.Conn, 1)
	conns <- stranger{ours}
	b := newBoundedListener(refusing{conns}, h.site)
	moves := make(chan http.ConnState, 8)
	_ = theirs.SetDeadline(time.Now().Add(10 * time.Second)) // a pipe has deadlines
	server := &http.Server{Handler: h.site, ConnState: func(c net.Conn, s http.ConnState) {
		b.state(c, s)
		moves <- s
	}}
	ended := make(chan error)
	go func() { ended <- server.Serve(b) }()
	await := func(want http.ConnState) {
		t.Helper()
		for late := time.After(10 * time.Second); ; {
			select {
			case s := <-moves:
				if s == want {
					return
				}
			case <-late:
				t.Fatalf("not %s", want)
			}
		}
	}
	lens := func(want http.ConnState) (idle, busy int) {
		t.Helper()
		await(want)
		b.mu.Lock()
		defer b.mu.Unlock()
		of := b.sources[netip.MustParseAddr("203.0.113.9")]
		return of.idle.Len(), of.busy.Len()
	}
	if idle, busy := lens(http.StateNew); idle != 1 || busy != 0 {
		t.Errorf("new: %d, %d", idle, busy)
	}
	if _, err := io.WriteString(theirs, "GET /style.css HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if idle, busy := lens(http.StateActive); idle != 0 || busy != 1 {
		t.Errorf("asked: %d, %d", idle, busy)
	}
	resp, err := http.ReadResponse(bufio.NewReader(theirs), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	if idle, busy := lens(http.StateIdle); idle != 1 || busy != 0 {
		t.Errorf("answered: %d, %d", idle, busy)
	}
	if err := theirs.Close(); err != nil {
		t.Error(err)
	}
	await(http.StateClosed)
	close(conns)
	<-ended
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if b.all != 0 || len(b.sources) != 0 {
		t.Errorf("%d connections are still counted, of %d sources", b.all, len(b.sources))
	}
}

// refusing is a listener whose connections come from one stranger.
type refusing struct {
	conns chan net.Conn
}

func (r refusing) Accept() (net.Conn, error) {
	if c, ok := <-r.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (refusing) Close() error   { return nil }
func (refusing) Addr() net.Addr { return &net.TCPAddr{} }

type stranger struct{ net.Conn }

func (stranger) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(203, 0, 113, 9), Port: 1} }

// TestAccept: what is one too many is closed, and makes room when another is.
func TestAccept(t *testing.T) {
	h := newHouse(t, nil)
	conns := make(chan net.Conn, maxOfOne+2)
	b := newBoundedListener(refusing{conns}, h.site)
	offer := func() net.Conn {
		ours, theirs := net.Pipe()
		conns <- stranger{ours}
		t.Cleanup(func() { _ = theirs.Close() })
		return theirs
	}
	var accepted []net.Conn
	for range maxOfOne {
		offer()
		c, err := b.Accept()
		if err != nil {
			t.Fatal(err)
		}
		accepted = append(accepted, c)
	}
	extra := offer()
	close(conns)
	if _, err := b.Accept(); err == nil {
		t.Error("one too many is served")
	}
	if _, err := extra.Read(make([]byte, 1)); err == nil {
		t.Error("one too many is not closed")
	}
	for _, c := range accepted {
		for range 2 {
			_ = c.Close()
		}
	}
	if b.all != 0 || len(b.sources) != 0 {
		t.Errorf("%d connections are still counted, of %d sources", b.all, len(b.sources))
	}
}
