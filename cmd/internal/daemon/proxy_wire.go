package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"sixin4/encap"
	"sixin4/encap/packet"
	"sixin4/encap/wire"
	"sixin4/tun/ifcfg"
)

// sessionConn is the UDP socket of a session with a broker. It is the client's control
// connection all the time, and when the broker has agreed to a tunnel the wire that
// carries it (RFC 5572, Section 3, from memory): the same addresses and ports.
type sessionConn struct {
	mu      sync.Mutex
	current net.Conn // the socket, then the wire's control
	socket  *net.UDPConn
	wire    *wire.UDP // nil before carry
}

func newSessionConn(c *net.UDPConn) *sessionConn { return &sessionConn{current: c, socket: c} }

// carry makes the wire. It is called once, while nobody reads.
func (s *sessionConn) carry(cfg wire.UDPConfig) (*wire.UDP, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != net.Conn(s.socket) {
		return nil, errCarried
	}
	cfg.Conn = s.socket
	u, err := wire.NewUDP(cfg)
	if err == nil {
		s.current, s.wire = u.Control(), u
	}
	return u, err
}

// conn is what reads and writes go to.
func (s *sessionConn) conn() net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// The methods of net.Conn. Close ends control; data goes on as long as its wire.

func (s *sessionConn) Read(b []byte) (int, error)         { return s.conn().Read(b) }
func (s *sessionConn) Write(b []byte) (int, error)        { return s.conn().Write(b) }
func (s *sessionConn) Close() error                       { return s.conn().Close() }
func (s *sessionConn) LocalAddr() net.Addr                { return s.conn().LocalAddr() }
func (s *sessionConn) RemoteAddr() net.Addr               { return s.conn().RemoteAddr() }
func (s *sessionConn) SetDeadline(t time.Time) error      { return s.conn().SetDeadline(t) }
func (s *sessionConn) SetReadDeadline(t time.Time) error  { return s.conn().SetReadDeadline(t) }
func (s *sessionConn) SetWriteDeadline(t time.Time) error { return s.conn().SetWriteDeadline(t) }

// proxyNetwork is this host's network as the client of a proxy sees it. It asks the
// kernel for nothing that needs a privilege.
type proxyNetwork struct{}

// Resolve returns the IPv4 addresses of a host.
func (proxyNetwork) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	return network{}.Resolve(ctx, host)
}

// Dial connects to a broker.
func (proxyNetwork) Dial(ctx context.Context, proto string, to netip.AddrPort) (net.Conn, error) {
	return asSession(new(net.Dialer).DialContext(ctx, proto+"4", to.String()))
}

// asSession makes a UDP socket one that can carry a tunnel.
func asSession(c net.Conn, err error) (net.Conn, error) {
	if u, ok := c.(*net.UDPConn); ok && err == nil {
		return newSessionConn(u), nil
	}
	return c, err
}

// Source returns the address that packets to a broker leave from: that of a socket
// which is connected to it, by which nothing is sent.
func (proxyNetwork) Source(to netip.Addr) (netip.Addr, error) {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 9)))
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	local, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}, fmt.Errorf("source for %v: %w", to, errors.ErrUnsupported)
	}
	return local.AddrPort().Addr().Unmap(), nil
}

// Own is nothing: what the broker gives is on no interface of this host.
func (proxyNetwork) Own() ([]netip.Prefix, error) { return nil, nil }

// Watch tells of changes of links, addresses and routes.
func (proxyNetwork) Watch(ctx context.Context, changed func()) error {
	return ifcfg.Watch(ctx, changed)
}

// The engine knows one peer by its address, as with protocol 41. Over UDP the peer is
// the far end of a connected socket, whatever its address, so these two stand for
// both ends there. They are of those set aside for documentation (RFC 5737), and never
// leave the process.
var (
	nearEnd = netip.AddrFrom4([4]byte{192, 0, 2, 1})
	farEnd4 = netip.AddrFrom4([4]byte{192, 0, 2, 2})
)

// single4 is a UDP wire with one far end that looks like one of protocol 41: the outer
// headers of each packet are exchanged in place.
type single4 struct {
	*wire.UDP
	near, far netip.Addr
}

// Reader is wire.Link's.
func (l single4) Reader() wire.Reader { return singleReader{l.UDP.Reader(), l.near, l.far} }

// NewWriter is wire.Link's.
func (l single4) NewWriter() (wire.Writer, error) {
	w, err := l.UDP.NewWriter()
	return &singleWriter{w, l.LocalAddr(), l.RemoteAddr()}, err
}

type singleReader struct {
	wire.Reader
	near, far netip.Addr
}

// Read replaces IPv4 and UDP by IPv4 with protocol 41.
func (r singleReader) Read(b *packet.Batch) error {
	if err := r.Reader.Read(b); err != nil {
		return err
	}
	for i := range b.Packets {
		p := &b.Packets[i]
		if len(p.Head()) < wire.UDPHeaderLen {
			continue // the engine counts it
		}
		tos := p.Head()[1]
		p.Pull(wire.UDPHeaderLen - encap.HeaderLen)
		h := p.Head()[:encap.HeaderLen]
		outerHeader(h, encap.ProtoIPv6, tos, p.Len(), r.far, r.near)
		encap.IPv4(h).FillChecksum()
	}
	return nil
}

type singleWriter struct {
	wire.Writer
	local, remote netip.AddrPort
}

// Write puts IPv4 and UDP in the place of IPv4 with protocol 41. Behind it the packets
// are as long as before: the engine counts them.
func (w *singleWriter) Write(b *packet.Batch) (n int, err error) {
	const more = wire.UDPHeaderLen - encap.HeaderLen
	for i := range b.Packets {
		p := &b.Packets[i]
		tos, ttl := p.Head()[1], p.Head()[8]
		p.Push(more)
		h := p.Head()[:wire.UDPHeaderLen]
		outerHeader(h, protoUDP, tos, p.Len(), w.local.Addr(), w.remote.Addr())
		h[8] = ttl
		binary.BigEndian.PutUint16(h[20:], w.local.Port())
		binary.BigEndian.PutUint16(h[22:], w.remote.Port())
		binary.BigEndian.PutUint16(h[24:], uint16(p.Len()-encap.HeaderLen))
		h[26], h[27] = 0, 0
	}
	n, err = w.Writer.Write(b)
	for i := range b.Packets {
		p := &b.Packets[i]
		p.Pull(more)
		h := p.Head()
		h[6], h[7] = 0, 0 // no fragment
	}
	return n, err
}

const protoUDP = 17

// outerHeader writes an IPv4 header (RFC 791, Section 3.1) without its checksum, which
// a UDP wire leaves to the kernel.
func outerHeader(h []byte, proto, tos uint8, length int, src, dst netip.Addr) {
	s, d := src.As4(), dst.As4()
	h[0], h[1] = 0x45, tos
	binary.BigEndian.PutUint16(h[2:], uint16(length))
	h[4], h[5], h[6], h[7] = 0, 0, 0, 0
	h[8], h[9], h[10], h[11] = encap.DefaultTTL, proto, 0, 0
	copy(h[12:], s[:])
	copy(h[16:], d[:])
}
