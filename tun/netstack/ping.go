package netstack

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// nonceLen is how many random bytes an echo request carries, so that nobody answers
// it who has not seen it.
const nonceLen = 16

// Ping sends one ICMPv6 echo request (RFC 4443, Section 4.1) and waits until ctx
// ends for its answer, whose delay it returns. An answer of another request does
// not count.
func (d *Device) Ping(ctx context.Context, from, to netip.Addr) (time.Duration, error) {
	c, err := d.openPing(from, to)
	if err != nil {
		return 0, fmt.Errorf("netstack: ping %v: %w", to, err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	request := make([]byte, header.ICMPv6EchoMinimumSize+nonceLen)
	request[0] = byte(header.ICMPv6EchoRequest)
	_, _ = rand.Read(request[header.ICMPv6EchoMinimumSize:]) // it never fails
	sent := time.Now()
	if _, err := c.Write(request); err != nil {
		return 0, fmt.Errorf("netstack: ping %v: %w", to, errno(err))
	}
	if err := answered(ctx, c, request); err != nil {
		return 0, fmt.Errorf("netstack: ping %v: %w", to, err)
	}
	return time.Since(sent), nil
}

// openPing opens a socket for echo requests whose identifier is its own.
func (d *Device) openPing(from, to netip.Addr) (*gonet.UDPConn, error) {
	if err := d.closed(); err != nil {
		return nil, err
	}
	var wq waiter.Queue
	ep, terr := d.stack.NewEndpoint(icmp.ProtocolNumber6, ipv6.ProtocolNumber, &wq)
	if terr == nil {
		terr = ep.Bind(full(netip.AddrPortFrom(from, 0)))
		if terr == nil {
			terr = ep.Connect(full(netip.AddrPortFrom(to, 0)))
		}
		if terr != nil {
			ep.Close()
		}
	}
	if terr != nil {
		if n, ok := numbers[terr.String()]; ok {
			return nil, n
		}
		return nil, fmt.Errorf("%s", terr)
	}
	return gonet.NewUDPConn(&wq, ep), nil
}

// answered waits for the reply to request. That its identifier is right is how it
// got to this socket.
func answered(ctx context.Context, c *gonet.UDPConn, request []byte) error {
	buf := make([]byte, 2048)
	for {
		n, err := c.Read(buf)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errno(err)
		}
		reply := buf[:n]
		if n == len(request) && reply[0] == byte(header.ICMPv6EchoReply) &&
			bytes.Equal(reply[header.ICMPv6EchoMinimumSize:], request[header.ICMPv6EchoMinimumSize:]) {
			return nil
		}
	}
}
