package tsp

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrMalformed is what every error about a message that cannot be taken apart wraps.
var ErrMalformed = errors.New("malformed message")

// Code is the number of a status line (RFC 5572, Section 4.4.3 and the list of
// error codes, from memory). Between 1001 and 1999 it is a code of the list plus
// 1000, and a list of other brokers comes with it.
type Code int

// The status codes. 200 to 310, 500 and 1200 were seen on the wire; the others are
// numbers that clients know, with texts from memory.
const (
	Success           Code = 200
	AuthFailed        Code = 300 // user, password or mechanism
	NoTunnels         Code = 301 // the broker's capacity is used up
	BadVersion        Code = 302 // the client tries an older one, on a new connection
	BadType           Code = 303 // the broker does not make tunnels of this type
	ServerError       Code = 310
	BadRequest        Code = 500 // request format or specified length
	BadIPv4           Code = 501
	BadIPv6           Code = 502
	IPv4InUse         Code = 506 // another tunnel has this address
	PrefixUnavailable Code = 507 // of the length asked for
	BadDelegation     Code = 509 // reverse DNS
	BadPrefixLength   Code = 518
	NoPrefixLength    Code = 520
	InProgress        Code = 521 // temporary
	PrefixAnonymous   Code = 522 // anonymous users get no prefix
	Busy              Code = 530 // temporary
	TooSlow           Code = 599 // the negotiation took too long; seen from one broker only
	Redirection       Code = 1200
)

var codeTexts = map[Code]string{
	Success:           "Success",
	AuthFailed:        "Authentication failed",
	NoTunnels:         "No more tunnels available",
	BadVersion:        "Unsupported client version",
	BadType:           "Unsupported tunnel type",
	ServerError:       "Server side error",
	BadRequest:        "Invalid request format or specified length",
	BadIPv4:           "Invalid IPv4 address",
	BadIPv6:           "Invalid IPv6 address",
	IPv4InUse:         "IPv4 address already used for an existing tunnel",
	PrefixUnavailable: "Requested prefix length not available",
	BadDelegation:     "DNS delegation error",
	BadPrefixLength:   "Prefix length not supported",
	NoPrefixLength:    "Prefix length missing",
	InProgress:        "Request already in progress",
	PrefixAnonymous:   "Prefix requested for an anonymous tunnel",
	Busy:              "Server busy",
	TooSlow:           "Negotiation took too long",
	Redirection:       "Redirection",
}

// Text is the fixed text of a code, the only text this package ever sends with it.
func (c Code) Text() string {
	if s, ok := codeTexts[c]; ok {
		return s
	}
	if s, ok := codeTexts[c-1000]; ok && c.Redirects() {
		return s
	}
	return "Unknown status"
}

// String is the status line without its end: "200 Success".
func (c Code) String() string { return strconv.Itoa(int(c)) + " " + c.Text() }

// Redirects reports whether a broker list should come with the code.
func (c Code) Redirects() bool { return c > 1000 && c < 2000 }

// Temporary reports whether the same request may succeed a little later.
func (c Code) Temporary() bool { return c == InProgress || c == Busy }

// Message is the status line as an answer. An answer to a command is Framed, one
// before it is not.
func (c Code) Message(framed bool) Message {
	return Message{Line: []byte(c.String()), Framed: framed}
}

// Error is a status other than [Success]: of the far end, or one to be sent there.
type Error struct {
	Code    Code
	Text    string   // as received, made safe to print; empty when the error is our own
	Brokers []Broker // with a code that redirects: at least one, unless Unwrap says why not
	cause   error
}

// refuse makes the error that a broker answers with code; cause is for its log only.
func refuse(code Code, format string, args ...any) *Error {
	return &Error{Code: code, cause: fmt.Errorf(format, args...)}
}

func (e *Error) Error() string {
	s := "status " + strconv.Itoa(int(e.Code)) + " "
	if e.Text != "" {
		s += strconv.Quote(e.Text)
	} else {
		s += e.Code.Text()
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap is the reason behind the status where this package knows one.
func (e *Error) Unwrap() error { return e.cause }

// parseStatus takes a status line apart. Only the number counts; it has three or
// four digits, and a blank or nothing behind it.
func parseStatus(line []byte) (code Code, text string, ok bool) {
	number, text, _ := strings.Cut(strings.ReplaceAll(trimLine(line), "\t", " "), " ")
	if len(number) < 3 || len(number) > 4 {
		return 0, "", false
	}
	for _, c := range number {
		if c < '0' || c > '9' {
			return 0, "", false
		}
		code = code*10 + Code(c-'0')
	}
	return code, printable(text), code >= 100 && code < 2000
}

// maxText bounds the status text that is kept of a status line.
const maxText = 128

// printable makes text of the far end fit for a log line or a terminal.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, strings.TrimSpace(s))
	return s[:min(len(s), maxText)]
}
