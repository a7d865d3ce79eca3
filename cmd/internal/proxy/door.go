package proxy

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// socksVersion is the first byte of every SOCKS5 connection (RFC 1928, Section 3); no
// HTTP method begins with it.
const socksVersion = 5

// acceptPause is the wait behind an accept that failed because something ran out.
const acceptPause = 100 * time.Millisecond

// door is a socket on this host, behind which is a SOCKS5 server, an HTTP proxy or
// both.
type door struct {
	s           *Server
	l           net.Listener
	socks, http bool
	visits      sync.WaitGroup // connections
}

// run accepts until the listener is closed.
func (d *door) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	web := newHall(d.l.Addr())
	transport := d.s.newTransport(ctx)
	server := d.s.httpServer(ctx, transport)
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(web) }) // ends with web
	defer transport.CloseIdleConnections()
	defer d.visits.Wait()
	defer wg.Wait()
	defer server.Close()
	defer web.Close()
	defer cancel() // first
	for d.s.acquire(ctx) {
		c, err := accept(ctx, d.l)
		if err != nil {
			<-d.s.slots
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		d.visits.Add(1)
		d.s.serve(ctx, c, func(ctx context.Context) {
			defer d.visits.Done()
			d.enter(ctx, c, web)
		})
	}
	return nil
}

// accept goes on after what may mend by itself, as too many open files.
func accept(ctx context.Context, l net.Listener) (net.Conn, error) {
	for {
		c, err := l.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return c, err
		}
		select {
		case <-time.After(acceptPause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// enter looks at the first byte and takes the connection where it belongs.
func (d *door) enter(ctx context.Context, c net.Conn, web *hall) {
	_ = c.SetDeadline(time.Now().Add(handshakeTime))
	p := &peeked{Conn: c, r: bufio.NewReader(c), gone: make(chan struct{})}
	first, err := p.r.Peek(1)
	switch {
	case err != nil:
		return
	case first[0] == socksVersion && d.socks:
		d.s.socks(ctx, p)
	case first[0] != socksVersion && d.http:
		web.bring(ctx, p)
	default:
		d.s.log.Debug("a client speaks another protocol than this port does", "from", c.RemoteAddr())
	}
}

// peeked is a connection whose first bytes have been looked at. It knows how many
// requests are being answered on it, which may outlive it.
type peeked struct {
	net.Conn
	r    *bufio.Reader
	once sync.Once
	gone chan struct{} // closed by Close

	mu   sync.Mutex
	busy sync.WaitGroup // requests; it grows only with mu held, and not when over is true
	over bool
}

// begin reports whether a request may still be answered; end must follow then.
func (p *peeked) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		p.busy.Add(1)
	}
	return !p.over
}

func (p *peeked) end() { p.busy.Done() }

// finish waits for all requests.
func (p *peeked) finish() {
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	p.busy.Wait()
}

// Read is net.Conn's.
func (p *peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

// CloseWrite ends one direction, where the connection can.
func (p *peeked) CloseWrite() error { return closeWrite(p.Conn) }

// SetLinger is net.TCPConn's for 0, where the connection can.
func (p *peeked) SetLinger(int) error { setLinger(p.Conn); return nil }

// Close is net.Conn's.
func (p *peeked) Close() error {
	p.once.Do(func() { close(p.gone) })
	return p.Conn.Close()
}

// hall is a net.Listener of connections that were accepted elsewhere.
type hall struct {
	at    net.Addr
	conns chan net.Conn
	once  sync.Once
	shut  chan struct{}
}

func newHall(at net.Addr) *hall {
	return &hall{at: at, conns: make(chan net.Conn), shut: make(chan struct{})}
}

// bring hands a connection over and waits until it is closed and all that was asked
// on it is done.
func (h *hall) bring(ctx context.Context, p *peeked) {
	_ = p.SetDeadline(time.Time{}) // the HTTP server has deadlines of its own
	defer p.finish()
	defer closeWith(ctx, p)()
	select {
	case h.conns <- p:
		<-p.gone
	case <-h.shut:
	case <-ctx.Done():
	}
}

// Accept is net.Listener's.
func (h *hall) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.shut:
		return nil, http.ErrServerClosed
	}
}

// Close is net.Listener's.
func (h *hall) Close() error {
	h.once.Do(func() { close(h.shut) })
	return nil
}

// Addr is net.Listener's.
func (h *hall) Addr() net.Addr { return h.at }
