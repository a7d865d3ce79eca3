package encap

import (
	"encoding/binary"
	"math/bits"

	"sixin4/encap/packet"
)

// The flags of TCP that tell a SYN or SYN-ACK (RFC 9293, Section 3.1), and the
// options that a walk has to know (Section 3.2).
const (
	tcpFlags   = 13 // where they stand in the header
	tcpFIN     = 0x01
	tcpSYN     = 0x02
	tcpRST     = 0x04
	tcpKinds   = tcpSYN | tcpRST | tcpFIN
	tcpHeader  = 20
	tcpOptEnd  = 0
	tcpOptNOP  = 1
	tcpOptMSS  = 2
	tcpMSSSize = 4
)

// MSS returns what TCP may put into a packet of m bytes: 40 less for the IPv6 header
// and 20 for its own (RFC 9293, Section 3.7.1).
func (m TunMTU) MSS() uint16 { return uint16(m - IPv6HeaderLen - tcpHeader) }

// ClampMSS lowers the maximum segment size that the inner packet p offers to limit,
// which is [TunMTU.MSS] of the tunnel, and reports whether it did. Only a SYN or
// SYN-ACK offers one (RFC 9293, Section 3.7.1); an offer is never raised and never
// added, because without one 1220 bytes are meant, which every tunnel carries.
//
// The checksum is updated for the change (RFC 1624), so that one that was wrong stays
// wrong; a partial one covers no option and stays as it is. p has passed [CheckInner],
// and all its headers are in its head. Extension headers are passed. A header that
// contradicts itself is left to the receiver, as is a SYN in a later fragment. Options
// are read up to the first one that makes no sense.
func ClampMSS(p *packet.Packet, limit uint16) bool {
	b, off := IPv6(p.Head()), IPv6HeaderLen
	if !MayOfferMSS(b) {
		return false
	}
	if b.NextHeader() != protoTCP {
		c, ok := b.walk()
		if !ok || c.later || c.proto != protoTCP {
			return false
		}
		if off = c.off; len(b) < off+tcpHeader || b[off+tcpFlags]&tcpKinds != tcpSYN {
			return false
		}
	}
	end := off + int(b[off+12]>>4)*4
	if end < off+tcpHeader || end > len(b) || end > IPv6HeaderLen+b.PayloadLen() {
		return false
	}
	return clampOptions(b[off:end], limit, p.Sum == packet.SumFull)
}

// MayOfferMSS tells by two bytes of a packet that has passed [CheckInner] whether
// [ClampMSS] has anything to look at: an opening packet of TCP, or an extension header,
// behind which there may be one. Nearly all packets are neither.
func MayOfferMSS(b IPv6) bool {
	if len(b) < IPv6HeaderLen+tcpHeader {
		return false
	}
	next := b.NextHeader()
	return next == protoTCP && b[IPv6HeaderLen+tcpFlags]&tcpKinds == tcpSYN || extension(next)
}

// clampOptions changes every offer in a TCP header: a receiver may take the first one
// or the last.
func clampOptions(h []byte, limit uint16, sum bool) (changed bool) {
	for at := tcpHeader; at < len(h) && h[at] != tcpOptEnd; {
		if h[at] == tcpOptNOP {
			at++
			continue
		}
		if at+1 >= len(h) {
			break
		}
		size := int(h[at+1])
		if size < 2 || at+size > len(h) {
			break
		}
		if h[at] == tcpOptMSS && size == tcpMSSSize && binary.BigEndian.Uint16(h[at+2:]) > limit {
			lowerMSS(h, at+2, limit, sum)
			changed = true
		}
		at += size
	}
	return changed
}

// lowerMSS writes mss at h[at:], and the checksum that follows from it (RFC 1624,
// Section 3, equation 3). Where at is odd the value's bytes are the low one of a word
// and the high one of the next, so its sum has them the other way round.
func lowerMSS(h []byte, at int, mss uint16, sum bool) {
	was := binary.BigEndian.Uint16(h[at:])
	binary.BigEndian.PutUint16(h[at:], mss)
	if !sum {
		return
	}
	if at%2 == 1 {
		was, mss = bits.ReverseBytes16(was), bits.ReverseBytes16(mss)
	}
	field := h[16:18]
	old := binary.BigEndian.Uint16(field)
	binary.BigEndian.PutUint16(field, ^packet.Fold(uint64(^old)+uint64(^was)+uint64(mss)))
}
