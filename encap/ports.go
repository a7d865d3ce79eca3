package encap

import "encoding/binary"

// Protocols that have ports.
const (
	ProtoTCP = 6
	ProtoUDP = 17
)

// portsLen is how much of a TCP or UDP header has the ports (RFC 9293, Section 3.1;
// RFC 768).
const portsLen = 4

// DestinationPort finds the transport protocol of an inner packet that has passed
// [CheckInner], behind whatever extension headers, and the destination port when that
// is TCP or UDP.
//
// A fragment other than the first has neither: proto and port are 0. It is worth
// nothing without the first one, which has the whole chain of headers (RFC 7112) and
// which no other may overlap (RFC 5722), so that who refuses the first has refused all.
//
// It fails when the packet hides what it is: a chain of headers that is too long, is
// cut off, as in a first fragment that is against RFC 7112, or has a routing header
// that is not known.
func DestinationPort(inner IPv6) (proto uint8, port uint16, ok bool) {
	c := chain{proto: inner.NextHeader(), off: IPv6HeaderLen}
	if extension(c.proto) {
		if c, ok = inner.walk(); !ok {
			return 0, 0, false
		}
	}
	switch {
	case c.later:
		return 0, 0, true
	case c.proto != ProtoTCP && c.proto != ProtoUDP:
		return c.proto, 0, true
	case len(inner) < c.off+portsLen:
		return c.proto, 0, false
	}
	return c.proto, binary.BigEndian.Uint16(inner[c.off+2:]), true
}
