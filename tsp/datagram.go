package tsp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// HeaderLen is the length of the header in front of the text of a control datagram.
const HeaderLen = 8

// firstSequence is the first word of a session's first datagram. RFC 5572 starts at
// 0xF0000000 (from memory); but there are brokers that look for the 0xF in the last
// byte, so that only a sequence from F0 to FF in that byte reaches all of them.
const firstSequence = 0xf00000f0

// maxMessages is how many messages of a session those brokers understand.
const maxMessages = 16

// Header is the reliability header in front of each control datagram (RFC 5572,
// Section 4.4.1, from memory). The client chooses both words and the broker returns
// both as they came.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------+-------------------------------------------------------+
//	|  0xF  |                   sequence number                     |
//	+-------+-------------------------------------------------------+
//	|                           timestamp                           |
//	+---------------------------------------------------------------+
type Header struct {
	Word      uint32 // 0xF and the sequence number, in the order of the wire
	Timestamp uint32 // whatever the client counts in
}

// Datagram is the header and text behind it.
func (h Header) Datagram(text []byte) []byte {
	b := make([]byte, 0, HeaderLen+len(text))
	b = binary.BigEndian.AppendUint32(b, h.Word)
	b = binary.BigEndian.AppendUint32(b, h.Timestamp)
	return append(b, text...)
}

// Sequence is the sequence number, 28 bits, in either byte order.
func (h Header) Sequence() uint32 {
	if h.Word>>28 == 0xf {
		return h.Word & 0x0fffffff
	}
	return bits.ReverseBytes32(h.Word) & 0x0fffffff
}

// Kind is what a datagram on a TSP port holds.
type Kind uint8

// The kinds of datagram.
const (
	Junk    Kind = iota // neither; to be dropped quietly
	Data                // an IPv6 packet of a tunnel
	Control             // a Header and text
)

// Classify tells data from control by the first byte: 6 is IPv6, 0xF is control.
// Clients that write the sequence word in little-endian order have the 0xF in the
// fourth byte; their datagrams are control unless they look like IP.
func Classify(b []byte) Kind {
	const ipv6Header = 40
	switch {
	case len(b) > 0 && b[0]>>4 == 6:
		if len(b) < ipv6Header {
			return Junk
		}
		return Data
	case len(b) < HeaderLen || b[0]>>4 == 4: // IPv4 in UDP is not defined
		return Junk
	case b[0]>>4 == 0xf || b[3]>>4 == 0xf:
		return Control
	}
	return Junk
}

// ParseHeader takes the header off a datagram that is Control. The text is part of b.
func ParseHeader(b []byte) (Header, []byte, error) {
	if Classify(b) != Control {
		return Header{}, nil, fmt.Errorf("header: %w: not a control datagram", ErrMalformed)
	}
	h := Header{Word: binary.BigEndian.Uint32(b), Timestamp: binary.BigEndian.Uint32(b[4:])}
	return h, b[HeaderLen:], nil
}

// echoRequest asks for the round trip time without a session. It has no line end.
const echoRequest = "ECHO REQUEST"

// IsEcho reports whether the text of a datagram is an echo request, which a broker
// answers with 200 at any time.
func IsEcho(text []byte) bool {
	return bytes.Equal(bytes.TrimRight(text, "\x00\r\n"), []byte(echoRequest))
}

// Forgotten reports whether a datagram says that the broker has no tunnel for our
// address and port: a first word of 0xFFFFFFFF and status 310. It was seen from one
// broker. Anyone can forge it, so it is a hint: probe the tunnel at once, and
// connect again when nothing answers.
func Forgotten(b []byte) bool {
	h, text, err := ParseHeader(b)
	return err == nil && h.Word == 0xffffffff && Message{Line: text}.Code() == ServerError
}
