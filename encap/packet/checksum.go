package packet

import (
	"encoding/binary"
	"math/bits"
)

// The Internet checksum (RFC 1071) is kept as an unfolded 64-bit ones'
// complement sum of big-endian words, so that partial sums can be added in any
// order and folded once at the end. All pieces but the last must have an even
// number of bytes.

// AddBytes adds the bytes of b to sum as big-endian 16-bit words; an odd last
// byte counts as if a zero byte followed it (RFC 1071, Section 1).
func AddBytes(sum uint64, b []byte) uint64 {
	var carry uint64
	for len(b) >= 64 {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b), 0)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[8:]), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[16:]), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[24:]), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[32:]), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[40:]), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[48:]), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[56:]), carry)
		sum += carry // cannot overflow: the carry came out of an addition
		b = b[64:]
	}
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b), 0)
		sum += carry
		b = b[8:]
	}
	if len(b) > 0 {
		var tail [8]byte
		copy(tail[:], b)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(tail[:]), 0)
		sum += carry
	}
	return sum
}

// AddWord adds a number of up to 32 bits to sum, as a length or protocol
// number of a pseudo-header is added.
func AddWord(sum uint64, w uint32) uint64 {
	sum, carry := bits.Add64(sum, uint64(w), 0)
	return sum + carry
}

// Fold reduces a sum to the 16 bits that stand in a pseudo-header checksum. It
// is not complemented.
func Fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}

// PseudoHeader returns the unfolded sum of the IPv6 pseudo-header (RFC 8200,
// Section 8.1). addrs is the 32 bytes of source and destination as they stand
// in the header; length counts the transport header and all that follows it.
func PseudoHeader(addrs []byte, proto uint8, length int) uint64 {
	a := (*[32]byte)(addrs)
	sum, carry := bits.Add64(binary.BigEndian.Uint64(a[:]), binary.BigEndian.Uint64(a[8:]), 0)
	sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(a[16:]), carry)
	sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(a[24:]), carry)
	sum, carry = bits.Add64(sum, uint64(uint32(length))+uint64(proto), carry)
	return sum + carry // cannot overflow: the carry came out of an addition
}
