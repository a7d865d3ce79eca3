// Package tsp speaks the Tunnel Setup Protocol (RFC 5572), by which a client asks
// a broker for an IPv6 tunnel: the messages, their framing on a stream, and their
// transport in datagrams. Client and broker use it alike. It opens nothing and
// starts nothing: it works on whatever [io.ReadWriter] or [DatagramConn] it is given.
//
// A session, with the bytes of a TCP connection:
//
//	C: VERSION=2.0.2
//	S: CAPABILITY TUNNEL=V6V4 TUNNEL=V6UDPV4 AUTH=ANONYMOUS AUTH=DIGEST-MD5
//	C: AUTHENTICATE ANONYMOUS
//	S: 200 Success
//	C: Content-length: 211 <tunnel action="create" type="v6v4" proxy="no">...</tunnel>
//	S: Content-length: 614 200 Success <tunnel action="info" type="v6v4" lifetime="604800">...</tunnel>
//	C: Content-length: 35 <tunnel action="accept"></tunnel>
//
// # Who does what
//
// A client makes a [Stream] or [Datagrams] and walks a [Session] over it. A broker
// calls [Stream.Receive] and [Stream.Send] for TCP; for UDP it sorts datagrams with
// [Classify], takes off the header with [ParseHeader], the text apart with
// [ParseMessage], and lets [Replies] answer what was asked before.
//
// # Strict and tolerant
//
// What is written has one form: CR LF, exact lengths, all addresses in full, no XML
// but elements, attributes and text. What is read may have zero bytes in front of a
// line, a bare LF, no line end before the end of the input, something behind a CR,
// an error without Content-length, a redirection without one, addresses in any valid
// spelling with white space around them, unknown elements and attributes, and either
// byte order of the sequence word. Everything else is [ErrMalformed] or [ErrBadTunnel].
// Nothing read is larger than [MaxMessage], and XML with entities, document types,
// comments, many attributes or deep nesting is refused before it is decoded.
//
// # Sources
//
// The text of RFC 5572 could not be consulted: its section numbers are cited from
// memory. What this package relies on was seen on the wire between programs of
// others, or is marked "from memory" where it was not. The recorded sessions are in
// testdata/tsp and are replayed by the tests.
package tsp
