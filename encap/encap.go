package encap

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"

	"sixin4/encap/packet"
)

// DefaultTTL is the outer time to live unless Outer says otherwise.
const DefaultTTL = 64

// ecnMask is the ECN field of a TOS or traffic class (RFC 3168, Section 5).
const ecnMask = 0x03

// Outer says what the outer headers of a tunnel look like (RFC 4213,
// Section 3.5). The zero value of every field but the addresses is its default.
type Outer struct {
	Src, Dst netip.Addr // the tunnel's own address and the peer's, both IPv4 unicast
	// SrcPort is the tunnel's own port in UDP; 0 where the wire has one port only, and for
	// protocol 41.
	SrcPort uint16

	TTL        uint8 // hops, 1 to 255; 0 means DefaultTTL
	InheritTTL bool  // take the inner hop limit instead; TTL must be 0

	// DSCP is the outer TOS with its two ECN bits clear, 0 to 252; 0 by default.
	// ECN is never configured: it follows the inner packet (RFC 6040).
	DSCP        uint8
	InheritDSCP bool // take the inner traffic class instead; DSCP must be 0

	// ClearDF allows routers to fragment the outer packet: RFC 4213's static
	// MTU (Section 3.2.1). By default they may not.
	ClearDF bool
}

// Header is an outer header made ready: Encap only fills in what differs from
// packet to packet. It never changes, so that any number of goroutines may use
// one.
type Header struct {
	src, dst         uint32
	sum              uint32 // of all 16-bit words that are always the same
	df               uint16
	tos, tosMask     uint8 // outer TOS = tos | inner class & tosMask
	ttl, hopLimitTTL uint8 // outer TTL = ttl | inner hop limit & hopLimitTTL
}

// Header checks o and prepares its header. It fails when an address is not
// IPv4 or not unicast, when both are the same, when DSCP has an ECN bit, and when
// a fixed value is given together with its Inherit.
func (o Outer) Header() (Header, error) {
	h, err := o.header()
	if err == nil {
		err = o.checkDst()
	}
	if err != nil {
		return Header{}, fmt.Errorf("outer header: %w", err)
	}
	return h.To(o.Dst.As4()), nil
}

// Template is Header without a destination, whatever o.Dst is. It is not for Encap
// itself but for [Header.To].
func (o Outer) Template() (Header, error) {
	h, err := o.header()
	if err != nil {
		return Header{}, fmt.Errorf("outer header: %w", err)
	}
	return h, nil
}

func (o Outer) header() (Header, error) {
	if err := o.check(); err != nil {
		return Header{}, err
	}
	src := o.Src.As4()
	h := Header{
		src: binary.BigEndian.Uint32(src[:]), df: flagDF, tos: o.DSCP, tosMask: ecnMask, ttl: o.TTL,
	}
	if o.ClearDF {
		h.df = 0
	}
	if o.InheritDSCP {
		h.tosMask = 0xff
	}
	if o.InheritTTL {
		h.hopLimitTTL = 0xff
	} else if o.TTL == 0 {
		h.ttl = DefaultTTL
	}
	h.sum = 0x4500 + uint32(h.df) + ProtoIPv6 + h.src>>16 + h.src&0xffff
	return h, nil
}

func (o Outer) check() error {
	switch {
	case !o.Src.Is4():
		return fmt.Errorf("source %v: not an IPv4 address", o.Src)
	case !unicast4(o.Src.As4()):
		return fmt.Errorf("source %v: not a unicast address", o.Src)
	case o.DSCP&ecnMask != 0:
		return fmt.Errorf("DSCP %d: not a multiple of 4, the low two bits are ECN", o.DSCP)
	case o.InheritDSCP && o.DSCP != 0:
		return fmt.Errorf("DSCP %d: cannot be both fixed and inherited", o.DSCP)
	case o.InheritTTL && o.TTL != 0:
		return fmt.Errorf("TTL %d: cannot be both fixed and inherited", o.TTL)
	}
	return nil
}

func (o Outer) checkDst() error {
	switch {
	case !o.Dst.Is4():
		return fmt.Errorf("destination %v: not an IPv4 address", o.Dst)
	case !unicast4(o.Dst.As4()):
		return fmt.Errorf("destination %v: not a unicast address", o.Dst)
	case o.Src == o.Dst:
		return fmt.Errorf("source and destination are both %v", o.Src)
	}
	return nil
}

// Encap puts the outer header in front of the inner IPv6 packet p, in place. p
// has passed [CheckInner], is no longer than [MaxTunMTU], and has HeaderLen bytes
// of headroom. ECN is copied as it is, congestion experienced too (RFC 6040,
// Section 4.1, normal mode). id is the identification, from [IDs] or [NextID].
func (h *Header) Encap(p *packet.Packet, id uint16) {
	p.Off -= HeaderLen
	head := p.Buf[p.Off:]
	b, inner := (*[HeaderLen]byte)(head), (*[8]byte)(head[HeaderLen:])

	tos := h.tos | (inner[0]<<4|inner[1]>>4)&h.tosMask
	total := uint16(len(head) + len(p.Payload))
	ttl := h.ttl | inner[7]&h.hopLimitTTL
	sum := h.sum + uint32(tos) + uint32(total) + uint32(id) + uint32(ttl)<<8
	sum = sum>>16 + sum&0xffff
	sum += sum >> 16

	binary.BigEndian.PutUint32(b[0:], 0x45<<24|uint32(tos)<<16|uint32(total))
	binary.BigEndian.PutUint32(b[4:], uint32(id)<<16|uint32(h.df))
	binary.BigEndian.PutUint32(b[8:], uint32(ttl)<<24|ProtoIPv6<<16|uint32(^uint16(sum)))
	binary.BigEndian.PutUint32(b[12:], h.src)
	binary.BigEndian.PutUint32(b[16:], h.dst)
}

// IDs counts the identifications of one tunnel's packets: 1 to 65535 and from
// the start again, 0 left out because the kernel replaces it on a raw socket.
// They count even where DF makes them meaningless (RFC 6864, Section 4.1), since
// receivers merge only packets whose identifications count or stay the same. The
// zero value is ready, and any number of goroutines may use one.
type IDs struct{ used atomic.Uint64 }

// Reserve takes n identifications in a row and returns the first of them;
// [NextID] leads from each to the next.
func (c *IDs) Reserve(n int) uint16 {
	first := c.used.Add(uint64(n)) - uint64(n)
	return uint16(first%65535) + 1
}

// NextID returns the identification after id, which is never 0.
func NextID(id uint16) uint16 {
	return max(id+1, 1)
}
