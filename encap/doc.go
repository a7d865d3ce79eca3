// Package encap makes, checks and takes off the outer IPv4 header of an
// IPv6-in-IPv4 tunnel (protocol 41, RFC 4213, Section 3), and knows the byte
// formats around it: ECN across a tunnel (RFC 6040), IPv4 fragments (RFC 791),
// ICMPv6 errors (RFC 4443), ICMPv4 errors about what was sent (RFC 792), transport
// checksums that are still to be done, the segment size that TCP offers (RFC 9293),
// tunnels in tunnels (RFC 2473), and peers whose addresses are parts of inner ones: 6to4
// (RFC 3056), 6rd (RFC 5969) and ISATAP (RFC 5214). RFCs are cited from memory: their
// texts could not be read when this was written.
//
// It is bytes only: no I/O, no clock, no log, and no allocation on the way of a
// packet. A packet that may not pass is answered with a [Drop], never an error.
//
// A packet's way out is [CheckInner], [CheckNesting] and [ClampMSS], then
// [Header.Encap], then [Fragment] where the wire asks for it; its way in is [Decap] and
// [ClampMSS]. A [Mapping] knows where to and where from. What [ParseICMP4] believes goes
// back to the sender by [AppendRelayed].
package encap

// Numbers of the IANA protocol registry that this package has to tell apart.
const (
	// ProtoIPv6 is the IPv4 protocol number of an IPv6 packet inside IPv4
	// (RFC 4213, Section 3.5).
	ProtoIPv6 = 41

	protoHopByHop    = 0
	protoTCP         = 6
	protoUDP         = 17
	protoRouting     = 43
	protoFragment    = 44
	protoICMPv6      = 58
	protoNone        = 59
	protoDestOptions = 60
)

const (
	// HeaderLen is the length in bytes of the outer header that Encap adds, an
	// IPv4 header without options.
	HeaderLen = 20
	// IPv6HeaderLen is the length in bytes of the fixed IPv6 header.
	IPv6HeaderLen = 40
)
