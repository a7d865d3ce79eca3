package wire

import (
	"encoding/binary"

	"sixin4/encap"
	"sixin4/encap/packet"
)

// maxUDPPayload is what fits into the longest IPv4 packet behind both headers.
const maxUDPPayload = maxPacket - UDPHeaderLen

// udpHeader is the outer headers of the datagrams of one peer, but for what depends
// on their length (RFC 791, Section 3.1; RFC 768).
type udpHeader struct {
	bytes [UDPHeaderLen]byte
	sum   uint32 // of the IPv4 words that are always the same
}

// endpoint is an address and port as they stand in a header.
type endpoint struct {
	addr [4]byte
	port uint16
}

func newUDPHeader(src, dst endpoint, tos uint8) (h udpHeader) {
	b := h.bytes[:]
	b[0], b[1], b[8], b[9] = 0x45, tos, encap.DefaultTTL, protoUDP
	copy(b[12:], src.addr[:])
	copy(b[16:], dst.addr[:])
	binary.BigEndian.PutUint16(b[20:], src.port)
	binary.BigEndian.PutUint16(b[22:], dst.port)
	// A few words of 16 bits, so that no carry is lost; put adds the length.
	s, d := binary.BigEndian.Uint32(b[12:]), binary.BigEndian.Uint32(b[16:])
	h.sum = 0x4500 + uint32(tos) + encap.DefaultTTL<<8 + protoUDP + s>>16 + s&0xffff + d>>16 + d&0xffff
	return h
}

// put writes the headers of a datagram of n bytes, which make a whole IPv4 packet.
func (h *udpHeader) put(b []byte, n int) {
	*(*[UDPHeaderLen]byte)(b) = h.bytes
	total := uint32(n + UDPHeaderLen)
	sum := h.sum + total
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[2:], uint16(total))
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum>>16+sum))
	binary.BigEndian.PutUint16(b[24:], uint16(n+8))
}

// udpFlow is what packets have in common that may be sent in one piece: addresses,
// ports, type of service and time to live.
type udpFlow struct {
	ends     [12]byte
	tos, ttl byte
}

// flowOf reads the headers in front of p. It reports whether they are there.
func flowOf(p *packet.Packet) (f udpFlow, ok bool) {
	b := p.Head()
	if len(b) < UDPHeaderLen || b[0] != 0x45 || b[9] != protoUDP {
		return f, false
	}
	return udpFlow{ends: [12]byte(b[12:]), tos: b[1], ttl: b[8]}, true
}

func (f *udpFlow) src4() [4]byte     { return [4]byte(f.ends[:4]) }
func (f *udpFlow) dst() endpoint     { return endpoint{[4]byte(f.ends[4:8]), f.port(10)} }
func (f *udpFlow) port(i int) uint16 { return binary.BigEndian.Uint16(f.ends[i:]) }

// udpKind is what a datagram holds.
type udpKind uint8

const (
	udpJunk udpKind = iota
	udpData
	udpControl
)

// kindOf tells data from control by the first four bits (RFC 5572, Section 4.4.1,
// from memory). Clients of old that write their sequence number in little-endian
// order have the bits of control in the fourth byte. IPv4 in UDP is not defined.
func kindOf(d []byte) udpKind {
	const controlHeader = 8
	switch {
	case len(d) == 0:
		return udpJunk
	case d[0]>>4 == 6:
		return udpData
	case len(d) < controlHeader || d[0]>>4 == 4:
		return udpJunk
	case d[0]>>4 == 0xf || d[3]>>4 == 0xf:
		return udpControl
	}
	return udpJunk
}

// udpFront holds every packet of an ordinary link. It is even, for checksums go on
// from one piece to the next.
const udpFront = 2048

const protoTCP = 6

// headLen is how many bytes of the inner packet d have to stand in its head: all its
// headers, and nothing else where that is easy to tell, so that what follows can be
// joined to the data of the packet before.
func headLen(d []byte) int {
	n := udpFront
	if upper := encap.IPv6HeaderLen; len(d) >= upper+20 {
		switch d[6] {
		case protoTCP:
			if h := int(d[upper+12]>>4) * 4; h >= 20 {
				n = upper + h
			}
		case protoUDP:
			n = upper + 8
		}
	}
	return min(n, len(d))
}
