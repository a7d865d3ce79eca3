// Package wire carries whole IPv4 packets of protocol 41 (RFC 4213, Section 3.5)
// to and from the network through raw sockets, in batches; and by UDP those of IPv6
// in UDP (RFC 5572, mode v6udpv4), through the socket of the session that set it up.
//
// What a raw socket delivers is not always what was on the wire. The kernel
// reassembles fragments, which is welcome. It also merges the packets of one
// inner TCP or UDP flow before any socket sees them (generic receive offload),
// and a peer on the same machine never computes checksums at all. Read hands such
// packets on as what they are, with Sum and Seg of packet.Packet set; merge.go
// tells how they are recognised.
package wire

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"sixin4/encap/packet"
)

// BatchSize is the number of packets that one Read or Write handles best.
const BatchSize = 64

// Config describes a connection. Zero fields mean the default.
type Config struct {
	// Local is the IPv4 address that packets are received at, and that routes are
	// looked up from; required.
	Local netip.Addr
	// Interface is the name of the only one that packets leave and come by; empty means
	// whatever the routes say, and any.
	Interface string
	// LinkMTU is the MTU of the IPv4 link in bytes: what is longer was merged by
	// the kernel, or reassembled. Default 1500.
	LinkMTU int
	// ReceiveBuffer is the size of the socket's queue in bytes, as far as the
	// system lets it grow. Default 8 MiB.
	ReceiveBuffer int
	// Direct lets writers hand packets to the link themselves, for the peers that
	// SetHops names. That is a quarter cheaper than a raw socket, and bypasses the
	// host's routing, firewall, connection tracking, address translation and IPsec
	// for them. What arrives still goes through all of these.
	Direct bool
	// Portable chooses golang.org/x/net/ipv4 and one packet a system call even
	// where there is something faster.
	Portable bool
	Logger   *slog.Logger // default: discard
}

// Reader receives packets. A connection has one: every open raw socket would get
// a copy of each packet.
type Reader interface {
	// Read waits for packets and replaces the contents of b by them, outer header
	// first; they are valid until the next Read. Err is packet.ErrSegmentUnknown
	// on a packet that the kernel merged in a way that cannot be undone. After
	// Close Read returns os.ErrClosed.
	Read(b *packet.Batch) error
	// Close ends a Read that waits, and closes the connection.
	Close() error
}

// Writer sends packets. It belongs to one goroutine; a connection may have many,
// and closes them all.
type Writer interface {
	// Write sends the packets of b, each a whole IPv4 packet with its header. One
	// that the system refuses gets the error as its Err and costs no other; n
	// counts those sent, and err is the first error.
	Write(b *packet.Batch) (n int, err error)
}

// Stats counts what happened in front of Read, since the start.
type Stats struct {
	Overflow    uint64 // packets that the kernel dropped because the queue was full
	Merged      uint64 // packets that were several when they left their sender
	LongerMTU   uint64 // packets longer than the link MTU, merged or reassembled
	Reassembled uint64 // packets put together from fragments by the kernel
}

// Hop is how a peer is reached from this host: over which link, by the link-layer
// address of the next host on it. MAC is empty on links that have no addresses.
type Hop struct {
	Link int // interface index
	MAC  net.HardwareAddr
}

type counters struct {
	asking                                sync.Mutex // held to bring overflow up to date
	overflow, merged, longer, reassembled atomic.Uint64
}

// Conn is a protocol-41 connection.
type Conn struct {
	cfg      Config
	log      *slog.Logger
	counters counters
	reader   Reader
	hops     atomic.Pointer[map[[4]byte]Hop]
	conn     // what the system needs
}

// Listen opens a connection. The error names a missing privilege.
func Listen(cfg Config) (*Conn, error) {
	if !cfg.Local.Is4() {
		return nil, fmt.Errorf("local address %v: not an IPv4 address", cfg.Local)
	}
	if cfg.LinkMTU == 0 {
		cfg.LinkMTU = 1500
	}
	if cfg.ReceiveBuffer == 0 {
		cfg.ReceiveBuffer = 8 << 20
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Conn{cfg: cfg, log: cfg.Logger}
	if err := c.listen(); err != nil {
		return nil, err
	}
	return c, nil
}

// Reader returns the connection's reader.
func (c *Conn) Reader() Reader { return c.reader }

// NewWriter returns a new writer, with a socket of its own where that helps.
func (c *Conn) NewWriter() (Writer, error) { return c.newWriter() }

// SetHops replaces the next hops of peers, by their IPv4 address, for writers of a
// Direct connection. Packets to other addresses go through the raw socket: all of
// them when hops is nil, which holds for every Write that begins later. The map
// belongs to the connection from then on.
func (c *Conn) SetHops(hops map[[4]byte]Hop) { c.hops.Store(&hops) }

// Stats returns the counters.
func (c *Conn) Stats() Stats {
	c.countDrops()
	return c.counters.stats()
}

// Close closes the connection and ends a Read that waits. It is idempotent.
func (c *Conn) Close() error { return c.close() }
