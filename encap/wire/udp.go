package wire

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"

	"sixin4/encap"
)

// UDPConfig describes a connection of IPv6 in UDP over IPv4. Zero fields mean the
// default.
type UDPConfig struct {
	// Conn is the socket, which belongs to the wire once NewUDP has succeeded:
	// connected to a broker after a session of the Tunnel Setup Protocol on it, or
	// listening for any number of clients. It is IPv4. Required.
	Conn *net.UDPConn
	// LinkMTU is the MTU of the IPv4 link in bytes: a datagram that is longer came
	// in fragments. Default 1500.
	LinkMTU int
	// ReceiveBuffer is the size of the socket's queue in bytes, as far as the
	// system lets it grow. Default 8 MiB.
	ReceiveBuffer int
	// ControlQueue is how many control datagrams wait for their reader at most, and then
	// 16 MiB of them; what comes on top is lost. Default 128; a broker wants more.
	ControlQueue int
	// TTL is the time to live of what is sent, 1 to 255. Default 64.
	TTL uint8
	// ClearDF begins with the bit "don't fragment" clear: a static MTU (RFC 4213,
	// Section 3.2.1). See [UDP.SetDF].
	ClearDF bool
	// Unsegmented has every datagram sent and received for itself, even where the
	// kernel can take and give many in one piece.
	Unsegmented bool
	Logger      *slog.Logger // default: discard
}

// UDPHeaderLen is the length in bytes of the outer headers, IPv4 without options
// and UDP (RFC 768): the MTU of a tunnel is that of its path less this.
const UDPHeaderLen = encap.HeaderLen + 8

// UDP is a wire of IPv6 in UDP, the mode v6udpv4 of the Tunnel Setup Protocol
// (RFC 5572, Section 3, from memory). The socket of the session is that of the data
// too: NAT devices know one flow. The first four bits of a datagram tell what it
// is: 6 an IPv6 packet, 15 the protocol's own. The latter go to Control, anything
// else is counted as junk.
//
// To the engine it looks like a raw socket. What Read brings begins with an IPv4 and
// a UDP header, made of what the kernel tells: addresses, ports, type of service
// with its ECN bits; identification and time to live are not told, and the UDP
// checksum, which the kernel has checked, reads 0. What Write takes begins with such
// headers too, and is sent to their destination with their type of service and time
// to live. Length, identification, checksum and DF are the kernel's business.
//
// Packets to one peer that are equally long are handed to the kernel in one piece
// (UDP_SEGMENT), and come from it so (UDP_GRO). It cuts bytes: each packet in it has
// headers of its own, and is one datagram on the way.
//
// A peer whose kernel carries its tunnel may hand over TCP that is never cut, and
// checksums left undone, as long as both are on one machine: then Seg and Sum of a packet
// say so, as with a raw socket. The length of the parts is the kernel's word where it may
// be asked, which takes CAP_NET_RAW, and else what every link carries.
type UDP struct {
	cfg       UDPConfig
	log       *slog.Logger
	local     netip.AddrPort
	remote    netip.AddrPort // zero: listening
	control   *ControlConn
	count     udpCounters
	udpSocket // what the system needs
}

type udpCounters struct {
	counters
	control, controlLost, junk, refused atomic.Uint64
}

func (c *counters) stats() Stats {
	return Stats{
		Overflow: c.overflow.Load(), Merged: c.merged.Load(),
		LongerMTU: c.longer.Load(), Reassembled: c.reassembled.Load(),
	}
}

// UDPStats counts what happened in front of Read, since the start.
type UDPStats struct {
	Stats
	Control     uint64 // datagrams that were handed to Control
	ControlLost uint64 // datagrams that Control had no room for, or was closed for
	Junk        uint64 // datagrams that were neither data nor control
	Refused     uint64 // ICMP errors about what was sent, seen on a connected socket
}

// NewUDP makes a wire of a socket. It closes cfg.Conn, whose socket lives on in the
// wire, so nobody may use that any more; after an error it is still open. The error is
// errors.ErrUnsupported on systems other than Linux.
func NewUDP(cfg UDPConfig) (*UDP, error) {
	if cfg.Conn == nil {
		return nil, errors.New("UDP wire: the socket is missing")
	}
	if cfg.LinkMTU == 0 {
		cfg.LinkMTU = 1500
	}
	if cfg.ReceiveBuffer == 0 {
		cfg.ReceiveBuffer = 8 << 20
	}
	if cfg.ControlQueue <= 0 {
		cfg.ControlQueue = controlQueue
	}
	if cfg.TTL == 0 {
		cfg.TTL = encap.DefaultTTL
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	u := &UDP{cfg: cfg, log: cfg.Logger, local: addrPort(cfg.Conn.LocalAddr()), remote: addrPort(cfg.Conn.RemoteAddr())}
	if !u.local.Addr().Is4() {
		return nil, fmt.Errorf("UDP wire: the socket's address %v is not IPv4 (open it as udp4)", cfg.Conn.LocalAddr())
	}
	u.control = newControlConn(u)
	if err := u.open(); err != nil {
		return nil, fmt.Errorf("UDP wire: %w", err)
	}
	return u, nil
}

// addrPort is the address of a socket; zero for none.
func addrPort(a net.Addr) netip.AddrPort {
	if u, ok := a.(*net.UDPAddr); ok && u != nil {
		if v4 := u.IP.To4(); v4 != nil {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte(v4)), uint16(u.Port))
		}
		return u.AddrPort()
	}
	return netip.AddrPort{}
}

// LocalAddr returns the address and port of the socket.
func (u *UDP) LocalAddr() netip.AddrPort { return u.local }

// RemoteAddr returns what the socket is connected to; the zero value for one that
// listens.
func (u *UDP) RemoteAddr() netip.AddrPort { return u.remote }

// Control returns the view of the socket on which control datagrams arrive, the same
// one each time. They arrive only while Reader().Read is called.
func (u *UDP) Control() *ControlConn { return u.control }

// Reader returns the connection's reader.
func (u *UDP) Reader() Reader { return u.theReader() }

// NewWriter returns a new writer. All of them send through the one socket.
func (u *UDP) NewWriter() (Writer, error) { return u.newWriter() }

// SetDF sets whether routers must not fragment what is sent from now on: yes for a
// tunnel that follows the path MTU (RFC 4213, Section 3.2.2), no for a static MTU and
// for a path that carries less than 1280 bytes and the headers.
func (u *UDP) SetDF(on bool) error { return u.setDF(on) }

// PathMTU returns the longest IPv4 packet in bytes that the kernel believes to reach
// to, or the far end of a connected socket. A connected socket asks nobody else.
func (u *UDP) PathMTU(to netip.AddrPort) (encap.WireMTU, error) { return u.pathMTU(to) }

// Stats returns the counters that all wires have.
func (u *UDP) Stats() Stats {
	u.countDrops()
	return u.count.stats()
}

// UDPStats returns all counters.
func (u *UDP) UDPStats() UDPStats {
	return UDPStats{
		Stats: u.Stats(), Control: u.count.control.Load(), ControlLost: u.count.controlLost.Load(),
		Junk: u.count.junk.Load(), Refused: u.count.refused.Load(),
	}
}

// Close closes the socket, ends a Read that waits, and closes Control. It is
// idempotent.
func (u *UDP) Close() error {
	u.control.Close()
	return u.close()
}
