package encap

import (
	"encoding/binary"

	"sixin4/encap/packet"
)

// minExtended is how much a message with extensions quotes at least; shorter
// packets are padded (RFC 4884, Section 4).
const minExtended = 128

// icmp4Quote returns what a message quotes, without extensions. Their length field
// is the second byte behind the checksum, in units of 4 bytes. Routers that are
// older than RFC 4884 put extensions behind 128 bytes and do not say so
// (Section 5.5).
func icmp4Quote(msg []byte) []byte {
	quote := msg[icmp4HeaderLen:]
	if msg[0] == icmp4SourceQuench {
		return quote
	}
	n := int(msg[5]) * 4
	if n == 0 && len(quote) > minExtended && extensions4(quote[minExtended:]) {
		n = minExtended
	}
	if n >= minExtended && n <= len(quote) {
		return quote[:n]
	}
	return quote
}

// extensions4 reports whether b is an extension structure: version 2, and a right
// checksum, which none has that is 0 (RFC 4884, Section 7).
func extensions4(b []byte) bool {
	return len(b) >= 4 && b[0]>>4 == 2 && binary.BigEndian.Uint16(b[2:]) != 0 &&
		packet.Fold(packet.AddBytes(0, b)) == 0xffff
}

// plateaus are the MTUs of RFC 1191, Section 7, Table 7-1.
var plateaus = [...]WireMTU{32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296}

// minPlateau is the last row of that table, the least that IPv4 allows.
const minPlateau WireMTU = 68

// Plateau returns the MTU to try next when a packet of size bytes was too long and
// the router did not say for what: the greatest usual one below size (RFC 1191,
// Section 5), 68 to 32000.
func Plateau(size WireMTU) WireMTU {
	for _, m := range plateaus {
		if m < size {
			return m
		}
	}
	return minPlateau
}
