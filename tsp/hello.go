package tsp

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

// Version is a protocol version as the VERSION line has it (RFC 5572, Section
// 4.4.2, from memory).
type Version string

// The versions in the field. Each connection tries one.
const (
	V202 Version = "2.0.2" // what it adds over 2.0.1 is unknown
	V201 Version = "2.0.1" // redirections
	V200 Version = "2.0.0" // v6udpv4, v4v6, keepalive, UDP
	V101 Version = "1.0.1" // v6v4 over TCP only; the tunnel is up without accept
)

// Versions are all of them, newest first: the order in which a client that is
// answered [BadVersion] goes through them.
func Versions() []Version { return []Version{V202, V201, V200, V101} }

// Accepts reports whether a tunnel of this version must be accepted before it is up.
func (v Version) Accepts() bool { return v != V101 }

// Older is the next version to try after [BadVersion]; false when there is none.
func (v Version) Older() (Version, bool) {
	all := Versions()
	i := slices.Index(all, v) + 1
	if i == 0 || i == len(all) {
		return "", false
	}
	return all[i], true
}

// Line is the first thing a client says.
func (v Version) Line() []byte { return []byte("VERSION=" + string(v) + "\r\n") }

// ParseVersion reads a VERSION line. A version outside [Versions] is the [Error]
// with code [BadVersion], another line one with [BadRequest].
func ParseVersion(line []byte) (Version, error) {
	const keyword = "VERSION="
	s := trimLine(line)
	if len(s) < len(keyword) || !strings.EqualFold(s[:len(keyword)], keyword) {
		return "", refuse(BadRequest, "version: %w: %q", ErrMalformed, clip(s))
	}
	v := Version(s[len(keyword):])
	if !slices.Contains(Versions(), v) {
		return "", refuse(BadVersion, "version %q", clip(string(v)))
	}
	return v, nil
}

// Capability is what a broker offers (RFC 5572, Section 4.4.2, from memory).
type Capability struct {
	Tunnels []Type   // never V6AnyV4, which has no token: it needs V6V4 or V6UDPV4
	Auths   []string // names of mechanisms, upper case
	Merged  bool     // merged TCP may be sent to the broker, see Request.Merged
}

// The token of Capability.Merged, our own. It is this short so that what a broker offers
// at most is still no more than five times the datagram with the VERSION line.
const (
	mergedKey   = "M"
	mergedValue = "TCP"
)

// Line is the CAPABILITY line, in upper case, as clients compare it.
func (c Capability) Line() []byte {
	b := []byte("CAPABILITY")
	for _, t := range c.Tunnels {
		b = append(b, " TUNNEL="+strings.ToUpper(string(t))...)
	}
	for _, a := range c.Auths {
		b = append(b, " AUTH="+strings.ToUpper(a)...)
	}
	if c.Merged {
		b = append(b, " "+mergedKey+"="+mergedValue...)
	}
	return append(b, "\r\n"...)
}

// Offers reports whether the broker makes tunnels that answer a request for t.
func (c Capability) Offers(t Type) bool {
	return slices.ContainsFunc(c.Tunnels, t.Allows)
}

// ParseCapability reads a CAPABILITY line. Tokens it does not know are skipped, so
// that either list may be empty.
func ParseCapability(line []byte) (Capability, error) {
	words := strings.Fields(trimLine(line))
	if len(words) == 0 || !strings.EqualFold(words[0], "CAPABILITY") {
		return Capability{}, fmt.Errorf("capability: %w: %q", ErrMalformed, clip(trimLine(line)))
	}
	var c Capability
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		switch strings.ToUpper(key) {
		case "TUNNEL":
			if t := Type(strings.ToLower(value)); t.valid() && t != V6AnyV4 && !slices.Contains(c.Tunnels, t) {
				c.Tunnels = append(c.Tunnels, t)
			}
		case "AUTH":
			if a := strings.ToUpper(value); validMechanism(a) && !slices.Contains(c.Auths, a) {
				c.Auths = append(c.Auths, a)
			}
		case mergedKey:
			c.Merged = c.Merged || strings.EqualFold(value, mergedValue)
		}
	}
	return c, nil
}

// validMechanism bounds the name of a SASL mechanism (RFC 4422, Section 3.1).
func validMechanism(s string) bool {
	return s != "" && len(s) <= 20 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
}

// plain is the one mechanism whose messages are not base64 here, and whose
// AUTHENTICATE line has no answer on a stream.
const plain = "PLAIN"

// AuthenticateLine starts an authentication. A mechanism in which the client speaks
// first has its first message behind the name in base64, which saves a round trip;
// this was seen from nobody else, so it is for our own mechanisms. PLAIN is told its
// credentials in a line of their own, as it is seen on the wire.
func AuthenticateLine(mechanism string, initial []byte) []byte {
	b := []byte("AUTHENTICATE " + strings.ToUpper(mechanism))
	if initial != nil {
		b = append(append(b, ' '), base64.StdEncoding.EncodeToString(initial)...)
	}
	return append(b, "\r\n"...)
}

// ParseAuthenticate reads an AUTHENTICATE line: the mechanism in upper case and the
// first message behind it, nil when there is none. Errors are an [Error] with
// [AuthFailed], or [BadRequest] for another line.
func ParseAuthenticate(line []byte) (mechanism string, initial []byte, err error) {
	words := strings.Fields(trimLine(line))
	if len(words) == 0 || !strings.EqualFold(words[0], "AUTHENTICATE") {
		return "", nil, refuse(BadRequest, "authenticate: %w: %q", ErrMalformed, clip(trimLine(line)))
	}
	if len(words) < 2 || len(words) > 3 || !validMechanism(strings.ToUpper(words[1])) {
		return "", nil, refuse(AuthFailed, "authenticate: %w: no mechanism", ErrMalformed)
	}
	if len(words) == 3 {
		if initial, err = base64.StdEncoding.Strict().DecodeString(words[2]); err != nil {
			return "", nil, refuse(AuthFailed, "authenticate: %w: first message: %w", ErrMalformed, err)
		}
	}
	return strings.ToUpper(words[1]), initial, nil
}

// AuthLine is a message of a mechanism as a line: base64, but for PLAIN.
func AuthLine(mechanism string, data []byte) []byte {
	if mechanism == plain {
		return append(bytes.Clone(data), "\r\n"...)
	}
	return append([]byte(base64.StdEncoding.EncodeToString(data)), "\r\n"...)
}

// ParseAuthLine is the message of a mechanism that a line holds.
func ParseAuthLine(mechanism string, line []byte) ([]byte, error) {
	if mechanism == plain {
		return line, nil
	}
	data, err := base64.StdEncoding.Strict().DecodeString(trimLine(line))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", mechanism, ErrMalformed, err)
	}
	return data, nil
}

// trimLine takes off what may stand behind the words of a line: blanks, and zero
// bytes of clients that send the end of a C string.
func trimLine(line []byte) string { return strings.TrimRight(string(line), "\x00 \t\r\n\b") }

// clip shortens what an error quotes.
func clip(s string) string { return s[:min(len(s), 64)] }
