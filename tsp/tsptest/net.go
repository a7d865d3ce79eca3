package tsptest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// Net is a network in memory. Its zero value has no hosts: whoever listens on an
// address has it. All that it hands out works under testing/synctest.
type Net struct {
	// Path is what happens to datagrams; nil for nothing.
	Path *Path

	mu        sync.Mutex
	listeners map[netip.AddrPort]*listener
	sockets   map[netip.AddrPort]*socket
	next      uint16
}

// Listen is a TCP listener; its backlog is 128. It fails when the address is taken.
func (n *Net) Listen(addr netip.AddrPort) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[addr] != nil {
		return nil, opError("listen", "tcp", syscall.EADDRINUSE)
	}
	if n.listeners == nil {
		n.listeners = make(map[netip.AddrPort]*listener)
	}
	l := &listener{net: n, addr: addr, backlog: make(chan net.Conn, 128), closed: make(chan struct{})}
	n.listeners[addr] = l
	return l, nil
}

// ListenPacket is a UDP socket. It fails when the address is taken.
func (n *Net) ListenPacket(addr netip.AddrPort) (net.PacketConn, error) {
	return n.socket(addr, netip.AddrPort{})
}

// Dial connects from an address, over "tcp" or "udp", from a port of its own. Where
// nobody listens it is refused: TCP at once, UDP when it reads after it has sent.
func (n *Net) Dial(ctx context.Context, network string, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	local := netip.AddrPortFrom(from, n.port())
	if network != "tcp" {
		return n.socket(local, to)
	}
	n.mu.Lock()
	l := n.listeners[to]
	n.mu.Unlock()
	if l == nil {
		return nil, opError("dial", "tcp", syscall.ECONNREFUSED)
	}
	near, far := net.Pipe()
	select {
	case l.backlog <- stream{far, to, local}:
		return stream{near, local, to}, nil
	case <-l.closed:
		return nil, opError("dial", "tcp", syscall.ECONNREFUSED)
	case <-ctx.Done():
		return nil, fmt.Errorf("dial %v: %w", to, context.Cause(ctx))
	}
}

// port is one that was not handed out before, of the dynamic ones.
func (n *Net) port() uint16 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next++
	return 49152 + (n.next-1)%16384
}

func (n *Net) socket(local, peer netip.AddrPort) (*socket, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sockets[local] != nil {
		return nil, opError("listen", "udp", syscall.EADDRINUSE)
	}
	if n.sockets == nil {
		n.sockets = make(map[netip.AddrPort]*socket)
	}
	s := newSocket(n, local, peer)
	n.sockets[local] = s
	return s, nil
}

// find is the socket that gets what is sent to an address.
func (n *Net) find(to netip.AddrPort) *socket {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sockets[to]
}

func opError(op, network string, err error) error {
	return &net.OpError{Op: op, Net: network, Err: err}
}

type listener struct {
	net     *Net
	addr    netip.AddrPort
	backlog chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.backlog:
		return conn, nil
	case <-l.closed:
		return nil, opError("accept", "tcp", net.ErrClosed)
	}
}

// Close also closes connections that nobody accepted.
func (l *listener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		delete(l.net.listeners, l.addr)
		l.net.mu.Unlock()
		close(l.closed)
		for {
			select {
			case conn := <-l.backlog:
				conn.Close()
			default:
				return
			}
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

// stream is one end of a pipe that has addresses.
type stream struct {
	net.Conn
	local, peer netip.AddrPort
}

func (s stream) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(s.local) }
func (s stream) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.peer) }
