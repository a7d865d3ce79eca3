package encap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"sixin4/encap/packet"
)

// UDPHeaderLen is the length in bytes of the outer headers of IPv6 in UDP: IPv4
// without options and UDP (RFC 768).
const UDPHeaderLen = HeaderLen + 8

// UDPHeader is the outer headers of a tunnel of IPv6 in UDP (RFC 5572, v6udpv4; from
// memory), made ready as a [Header] is. The wire sends from its own port, whatever is said
// here; length, identification, checksums and DF are its business too, so they are left out.
type UDPHeader struct {
	bytes       [UDPHeaderLen]byte
	tosMask     uint8
	hopLimitTTL uint8
}

// UDPHeader is Header for a tunnel of IPv6 in UDP to a port. The far end may be on this
// host: a relay perhaps, to which the way is another.
func (o Outer) UDPHeader(port uint16) (UDPHeader, error) {
	v4, err := o.header4()
	if err != nil {
		return UDPHeader{}, fmt.Errorf("outer header: %w", err)
	}
	if port == 0 {
		return UDPHeader{}, fmt.Errorf("outer header: %w", errors.New("UDP has no port 0"))
	}
	h := UDPHeader{tosMask: v4.tosMask, hopLimitTTL: v4.hopLimitTTL}
	b := h.bytes[:]
	b[0], b[1], b[8], b[9] = 0x45, v4.tos, v4.ttl, protoUDP
	binary.BigEndian.PutUint32(b[12:], v4.src)
	binary.BigEndian.PutUint32(b[16:], v4.dst)
	binary.BigEndian.PutUint16(b[20:], o.SrcPort)
	binary.BigEndian.PutUint16(b[22:], port)
	return h, nil
}

// header4 is the IPv4 header of one over UDP.
func (o Outer) header4() (Header, error) {
	for _, a := range []netip.Addr{o.Src, o.Dst} {
		if !a.Is4() || !someHost4(a.As4()) {
			return Header{}, fmt.Errorf("address %v: not that of an IPv4 host", a)
		}
	}
	others := o // the rest is checked with addresses that nobody minds
	others.Src = netip.AddrFrom4([4]byte{192, 0, 2, 1})
	h, err := others.header()
	src := o.Src.As4()
	h.src = binary.BigEndian.Uint32(src[:])
	return h.To(o.Dst.As4()), err
}

// someHost4 reports whether a may be a host's address, this one's too.
func someHost4(a [4]byte) bool { return a[0] == 127 || unicast4(a) }

// Encap puts the outer headers in front of the inner IPv6 packet p, in place, as
// Header.Encap does. p has UDPHeaderLen bytes of headroom.
func (h *UDPHeader) Encap(p *packet.Packet) {
	p.Off -= UDPHeaderLen
	head := p.Buf[p.Off:]
	b, inner := (*[UDPHeaderLen]byte)(head), (*[8]byte)(head[UDPHeaderLen:])
	*b = h.bytes
	b[1] |= (inner[0]<<4 | inner[1]>>4) & h.tosMask
	b[8] |= inner[7] & h.hopLimitTTL
	total := len(head) + len(p.Payload)
	binary.BigEndian.PutUint16(b[2:], uint16(total))
	binary.BigEndian.PutUint16(b[24:], uint16(total-HeaderLen))
}

// OverUDP reports whether an outer packet carries its inner one in UDP.
func OverUDP(p *packet.Packet) bool {
	b := p.Head()
	return len(b) >= UDPHeaderLen && b[0] == 0x45 && b[9] == protoUDP
}

// OuterLen is the length of the outer headers that Encap has put in front of p.
func OuterLen(p *packet.Packet) int {
	if p.Head()[9] == protoUDP {
		return UDPHeaderLen
	}
	return HeaderLen
}

// DecapUDP is Decap for a datagram of IPv6 in UDP, from a wire that has checked it and
// put its outer headers together again. Sum and Seg stay as the wire has set them: only
// the wire knows what came alone.
func DecapUDP(p *packet.Packet) (src [4]byte, port uint16, d Drop) {
	if !OverUDP(p) {
		return src, 0, DropOuterProtocol
	}
	outer := IPv4(p.Head())
	src, port = outer.Src4(), binary.BigEndian.Uint16(outer[20:])
	if !someHost4(src) || port == 0 {
		return src, port, DropOuterSource
	}
	ecn := outer.ECN()
	p.Pull(UDPHeaderLen)
	if d := CheckInner(p); d != Forward {
		return src, port, d
	}
	inner := IPv6(p.Head())
	if d := inner.propagateECN(ecn); d != Forward {
		return src, port, d
	}
	return src, port, inner.checkSource()
}
