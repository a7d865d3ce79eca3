package netstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// DialContext connects to an address and port of a literal IPv6 address, as
// net.Dialer does; network is tcp, tcp6, udp or udp6. Its errors wrap the
// syscall.Errno that a kernel would give, and os.ErrClosed after Close. A
// connection is a net.Conn with CloseWrite and SetLinger for TCP, a net.PacketConn
// too for UDP.
func (d *Device) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	to, kind, err := parse(network, address)
	if err == nil && to.Addr().IsUnspecified() {
		err = errors.New("no destination address")
	}
	if err == nil {
		err = d.closed()
	}
	if err != nil {
		return nil, fmt.Errorf("netstack: dial %s %s: %w", network, address, err)
	}
	if kind == "udp" {
		remote := full(to)
		c, err := gonet.DialUDP(d.stack, nil, &remote, ipv6.ProtocolNumber)
		if err != nil {
			return nil, errno(err)
		}
		return &packetConn{UDPConn: c}, nil
	}
	if err := d.share(1); err != nil {
		return nil, err
	}
	c, err := gonet.DialContextTCP(ctx, d.stack, full(to), ipv6.ProtocolNumber)
	if err != nil {
		return nil, errno(err)
	}
	return d.newConn(c), nil
}

// Listen accepts TCP connections to an address and port of this host; network is
// tcp or tcp6. The address [::] or none means all addresses, those to come too, and
// port 0 a free port. Errors are as those of DialContext.
func (d *Device) Listen(network, address string) (net.Listener, error) {
	at, kind, err := parse(network, address)
	if err == nil && kind != "tcp" {
		err = net.UnknownNetworkError(network)
	}
	if err == nil {
		err = d.closed()
	}
	if err != nil {
		return nil, fmt.Errorf("netstack: listen on %s %s: %w", network, address, err)
	}
	l, err := gonet.ListenTCP(d.stack, full(at), ipv6.ProtocolNumber)
	if err != nil {
		return nil, errno(err)
	}
	return &listener{TCPListener: l, device: d}, nil
}

// ListenPacket receives UDP at an address and port of this host, as Listen; network
// is udp or udp6.
func (d *Device) ListenPacket(network, address string) (net.PacketConn, error) {
	at, kind, err := parse(network, address)
	if err == nil && kind != "udp" {
		err = net.UnknownNetworkError(network)
	}
	if err == nil {
		err = d.closed()
	}
	if err != nil {
		return nil, fmt.Errorf("netstack: listen on %s %s: %w", network, address, err)
	}
	local := full(at)
	c, err := gonet.DialUDP(d.stack, &local, nil, ipv6.ProtocolNumber)
	if err != nil {
		return nil, errno(err)
	}
	return &packetConn{UDPConn: c}, nil
}

// parse reads what the functions of package net are given. kind is tcp or udp.
func parse(network, address string) (to netip.AddrPort, kind string, err error) {
	switch network {
	case "tcp", "tcp6":
		kind = "tcp"
	case "udp", "udp6":
		kind = "udp"
	default:
		return to, "", net.UnknownNetworkError(network)
	}
	if len(address) > 0 && address[0] == ':' {
		address = "[::]" + address
	}
	to, err = netip.ParseAddrPort(address)
	if err == nil && (!to.Addr().Is6() || to.Addr().Is4In6()) {
		err = errors.New("not an IPv6 address")
	}
	return to, kind, err
}

// full is what the stack calls an address; the zero Addr in it means any.
func full(a netip.AddrPort) tcpip.FullAddress {
	f := tcpip.FullAddress{NIC: nic, Port: a.Port()}
	if !a.Addr().IsUnspecified() {
		f.Addr = toAddress(a.Addr())
	}
	return f
}

// conn is a TCP connection with the errors of package net.
type conn struct {
	*gonet.TCPConn
	closer
	ep tcpip.Endpoint // nil: the other end had reset it before it was ours
}

// Read is net.Conn's. The stack tells of a failure once; when Write was told, here is
// an end that looks as if nothing were missing.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	if errors.Is(err, io.EOF) && c.hasFailed() {
		err = &net.OpError{Op: "read", Net: "tcp", Addr: c.RemoteAddr(), Err: syscall.ECONNRESET}
	}
	return n, c.why(err)
}

// hasFailed reports whether the connection was reset or given up, in place of ended by
// both sides.
func (c *conn) hasFailed() bool {
	return c.ep == nil || tcp.EndpointState(c.ep.State()) == tcp.StateError
}

// SetLinger is net.TCPConn's: after 0 Close discards what is not sent yet, and resets the
// connection. Close never waits.
func (c *conn) SetLinger(sec int) error {
	if c.ep != nil {
		c.ep.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: sec >= 0, Timeout: time.Duration(sec) * time.Second})
	}
	return nil
}

// Write is net.Conn's.
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	return n, c.why(err)
}

// Close is net.Conn's. It is idempotent.
func (c *conn) Close() error { return c.once(c.TCPConn.Close) }

// packetConn is a UDP socket with the errors of package net.
type packetConn struct {
	*gonet.UDPConn
	closer
}

// Read is net.Conn's.
func (c *packetConn) Read(b []byte) (int, error) {
	n, err := c.UDPConn.Read(b)
	return n, c.why(err)
}

// ReadFrom is net.PacketConn's.
func (c *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.UDPConn.ReadFrom(b)
	return n, from, c.why(err)
}

// Write is net.Conn's.
func (c *packetConn) Write(b []byte) (int, error) {
	n, err := c.UDPConn.Write(b)
	return n, c.why(err)
}

// WriteTo is net.PacketConn's; to is a *net.UDPAddr of an IPv6 address.
func (c *packetConn) WriteTo(b []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok || u.IP.To4() != nil || len(u.IP) != net.IPv6len {
		return 0, &net.OpError{Op: "write", Net: "udp", Addr: to, Err: errors.New("not an IPv6 address")}
	}
	n, err := c.UDPConn.WriteTo(b, to)
	return n, c.why(err)
}

// Close is net.Conn's. It is idempotent.
func (c *packetConn) Close() error { return c.once(c.UDPConn.Close) }

// listener is a TCP listener with the errors of package net.
type listener struct {
	*gonet.TCPListener
	closer
	device *Device
}

// Accept is net.Listener's.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.TCPListener.Accept()
	if err != nil {
		return nil, l.why(err)
	}
	t, ok := c.(*gonet.TCPConn)
	if !ok {
		return c, nil
	}
	if err := l.device.share(0); err != nil {
		_ = t.Close()
		return nil, err
	}
	return l.device.newConn(t), nil
}

// Close is net.Listener's. It is idempotent.
func (l *listener) Close() error {
	return l.once(func() error {
		l.Shutdown() // ends an Accept that waits
		return l.TCPListener.Close()
	})
}

// netErrClosed is os.ErrClosed as package net has it, so that both match.
var netErrClosed = errors.Join(net.ErrClosed, os.ErrClosed)
