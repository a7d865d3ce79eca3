package tun

import (
	"encoding/binary"

	"sixin4/encap/packet"
)

// Offsets and sizes in the IPv6, TCP and UDP headers (RFC 8200, Section 3;
// RFC 9293, Section 3.1; RFC 768) that splitting and joining touch.
const (
	ip6Len     = 40
	ip6PayLen  = 4
	ip6Next    = 6
	ip6Addrs   = 8 // 32 bytes: source, destination
	protoTCP   = 6
	protoUDP   = 17
	tcpMinLen  = 20
	tcpSeq     = 4
	tcpDataOff = 12
	tcpFlags   = 13
	tcpCheck   = 16
	udpLen     = 8
	udpLength  = 4
	udpCheck   = 6

	tcpFIN, tcpSYN, tcpRST, tcpPSH, tcpURG, tcpCWR = 0x01, 0x02, 0x04, 0x08, 0x20, 0x80
)

// IPv6 extension headers that may stand before a transport header
// (RFC 8200, Section 4.1). A fragment header ends the walk: what follows it is
// not a transport header of its own packet.
const (
	extHopByHop = 0
	extRouting  = 43
	extDstOpts  = 60
)

// transport is where the TCP or UDP header of a packet is.
type transport struct {
	off   int  // of the transport header
	hlen  int  // of all headers together: where the payload starts
	udp   bool // else TCP
	plain bool // it follows the IPv6 header at once
}

func (t transport) checkOff() int {
	if t.udp {
		return t.off + udpCheck
	}
	return t.off + tcpCheck
}

// findTransport finds the transport header of an IPv6 packet, behind any
// extension headers; ok is false when there is none or it is cut short.
func findTransport(b []byte) (t transport, ok bool) {
	if len(b) < ip6Len || b[0]>>4 != 6 {
		return t, false
	}
	next, off := b[ip6Next], ip6Len
	for next == extHopByHop || next == extRouting || next == extDstOpts {
		if len(b) < off+8 {
			return t, false
		}
		next, off = b[off], off+8+8*int(b[off+1])
	}
	t = transport{off: off, udp: next == protoUDP, plain: off == ip6Len}
	switch next {
	case protoUDP:
		t.hlen = off + udpLen
	case protoTCP:
		if len(b) < off+tcpMinLen {
			return t, false
		}
		t.hlen = off + int(b[off+tcpDataOff]>>4)*4
		if t.hlen < off+tcpMinLen {
			return t, false
		}
	default:
		return t, false
	}
	return t, len(b) >= t.hlen
}

// pseudoSum returns the sum of the pseudo-header of a packet without extension
// headers whose transport header and payload together have length bytes.
func pseudoSum(b []byte, t transport, length int) uint64 {
	proto := uint8(protoTCP)
	if t.udp {
		proto = protoUDP
	}
	return packet.PseudoHeader(b[ip6Addrs:], proto, length)
}

// putCheck stores the checksum that completes sum at b. For UDP a result of
// zero is sent as all ones, for zero would mean "no checksum" (RFC 8200,
// Section 8.1).
func putCheck(b []byte, sum uint64, udp bool) {
	c := ^packet.Fold(sum)
	if c == 0 && udp {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b, c)
}

// completeCheck finishes the checksum at field, which holds the folded sum of
// the pseudo-header, over everything from start on.
func completeCheck(head, payload []byte, start, field int, udp bool) {
	sum := packet.AddBytes(0, head[start:])
	putCheck(head[field:], packet.AddBytes(sum, payload), udp)
}
