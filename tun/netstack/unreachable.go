package netstack

import (
	"encoding/binary"

	"sixin4/encap/packet"
)

// Destination unreachable and its codes (RFC 4443, Section 3.1).
const (
	icmpUnreachable = 1

	unreachableNoRoute = 0
	unreachablePort    = 4
	unreachableReject  = 6 // the last one

	icmpMinLen = 8
	icmpCode   = 1
	icmpCheck  = 2
)

// simplify makes a destination unreachable, for whatever reason, one that the stack
// knows: it takes no notice of most codes, so that a connect to where a filter refuses
// it would wait for its time to run out. A port stays a port, and all else becomes "no
// route". b is an ICMPv6 packet without extension headers; other messages stay what they
// are.
func simplify(b []byte) {
	if len(b) < ip6Len+icmpMinLen || b[ip6Len] != icmpUnreachable {
		return
	}
	icmp := b[ip6Len:]
	code := icmp[icmpCode]
	if code == unreachableNoRoute || code == unreachablePort || code > unreachableReject {
		return
	}
	icmp[icmpCode] = unreachableNoRoute
	// What the sum loses its complement gains (RFC 1624).
	sum := packet.AddWord(uint64(code), uint32(binary.BigEndian.Uint16(icmp[icmpCheck:])))
	binary.BigEndian.PutUint16(icmp[icmpCheck:], packet.Fold(sum))
}
