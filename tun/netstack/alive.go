package netstack

import (
	"net"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A connection that was quiet for some time is asked whether its other end is there
// still (RFC 9293, Section 3.8.4), and ended when that is silent: others would stay for
// ever when a host at the far end goes away without a word.
const (
	aliveIdle  = 2 * time.Minute  // before the first question
	aliveEach  = 15 * time.Second // between questions
	aliveTries = 8                // questions
)

// newConn has the other end of a connection asked.
func (d *Device) newConn(c *gonet.TCPConn) *conn {
	ep := d.endpoint(c)
	if ep == nil {
		return &conn{TCPConn: c}
	}
	idle, each := tcpip.KeepaliveIdleOption(aliveIdle), tcpip.KeepaliveIntervalOption(aliveEach)
	for _, o := range []tcpip.SettableSocketOption{&idle, &each} {
		_ = ep.SetSockOpt(o) // TCP has them all
	}
	_ = ep.SetSockOptInt(tcpip.KeepaliveCountOption, aliveTries)
	ep.SocketOptions().SetKeepAlive(true)
	return &conn{TCPConn: c, ep: ep}
}

// endpoint is what the stack has of a connection, nil when that is over. The
// connection itself does not give it away.
func (d *Device) endpoint(c *gonet.TCPConn) tcpip.Endpoint {
	local, ok := c.LocalAddr().(*net.TCPAddr)
	remote, ok2 := c.RemoteAddr().(*net.TCPAddr)
	if !ok || !ok2 || local == nil || remote == nil {
		return nil
	}
	ep, _ := d.stack.FindTransportEndpoint(ipv6.ProtocolNumber, tcp.ProtocolNumber, stack.TransportEndpointID{
		LocalPort: uint16(local.Port), LocalAddress: tcpip.AddrFromSlice(local.IP.To16()),
		RemotePort: uint16(remote.Port), RemoteAddress: tcpip.AddrFromSlice(remote.IP.To16()),
	}, nic).(tcpip.Endpoint)
	return ep
}
