// Package sasl has the authentication mechanisms of the Tunnel Setup Protocol as
// state machines (RFC 4422): bytes in, bytes out. None of them sees a connection;
// how their messages become lines is package tsp's business.
//
//	ANONYMOUS      no messages; who is let in is the broker's decision
//	PLAIN          a zero byte, the user, a zero byte, the password: as seen on the
//	               wire, never with another authorization identity
//	DIGEST-MD5     RFC 2831, md5-sess, qop auth, as the programs in the field speak it
//	SCRAM-SHA-256  RFC 7677: what two of our own programs use
//
// The mechanisms that others speak were seen on the wire, and the RFCs are cited from
// memory: their texts could not be consulted.
package sasl

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// The names of the mechanisms.
const (
	Anonymous   = "ANONYMOUS"
	Plain       = "PLAIN"
	DigestMD5   = "DIGEST-MD5"
	ScramSHA256 = "SCRAM-SHA-256"
)

var (
	// ErrAuth is what every error wraps that means: this is not who it says. A
	// broker answers it with status 300.
	ErrAuth = errors.New("authentication failed")
	// ErrProtocol is what every error wraps about a message that makes no sense.
	ErrProtocol = errors.New("authentication protocol error")
	// ErrNoMechanism is the error when the broker offers nothing that may be used.
	ErrNoMechanism = errors.New("no common authentication mechanism")
)

// Client is one authentication, seen from the client. Next is called with nil first,
// then with each message of the broker. It returns what to send, nil for nothing, and
// done when only the broker's verdict is to come. After an error it is over.
type Client interface {
	Name() string
	Next(in []byte) (out []byte, done bool, err error)
}

// Server is one authentication, seen from the broker. Next is called first with the
// message that came with the mechanism's name, nil when there was none, then with each
// message of the client. It returns what to send, nil for nothing, and done when the
// client is who it says. After an error it is over.
type Server interface {
	Name() string
	Next(in []byte) (out []byte, done bool, err error)
	// User is who authenticated; empty before done, and for ANONYMOUS.
	User() string
}

// Credentials are what a client authenticates with.
type Credentials struct {
	User     string // at most 253 bytes, without zero, CR and LF; empty for nobody
	Password string // at most 128 bytes, without zero, CR and LF

	// Server is how the user names the broker, for the digest-uri of DIGEST-MD5.
	// There are brokers that refuse any but letters, digits, dots and hyphens, so
	// leave the port out.
	Server string

	// Nonce makes the client's nonces: printable ASCII without commas and quotes.
	// By default they are random; tests replay old ones.
	Nonce func() string
}

// check refuses what cannot be told in every mechanism.
func (c Credentials) check() error {
	switch {
	case len(c.User) > 253 || len(c.Password) > 128:
		return errors.New("credentials: user over 253 or password over 128 bytes")
	case strings.ContainsAny(c.User+c.Password, "\x00\r\n"):
		return errors.New("credentials: a zero byte or a line end")
	}
	return nil
}

func (c Credentials) nonce() string {
	if c.Nonce != nil {
		return c.Nonce()
	}
	return rand.Text()
}

// NewClient starts the mechanism of a name. All but ANONYMOUS need a user.
func NewClient(name string, c Credentials) (Client, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.User == "" && name != Anonymous {
		return nil, fmt.Errorf("%s: no user", name)
	}
	switch name {
	case Anonymous:
		return anonymous{}, nil
	case Plain:
		return &plainClient{c}, nil
	case DigestMD5:
		return &digestClient{credentials: c}, nil
	case ScramSHA256:
		return newScramClient(c)
	}
	return nil, fmt.Errorf("mechanism %q: %w", name, errors.ErrUnsupported)
}

// Any is the method that leaves the choice to [Choose].
const Any = "any"

// Choose picks the mechanism of a method: Any, or a name in any case. By name one
// gets what one asks for. Any means ANONYMOUS without a user, and with one the best of
// SCRAM-SHA-256 and DIGEST-MD5: never PLAIN, which shows the password to everybody
// on the way and so must be asked for by name, and never ANONYMOUS.
func Choose(method string, offered []string, user string) (string, error) {
	want := []string{strings.ToUpper(method)}
	if strings.EqualFold(method, Any) || method == "" {
		want = []string{ScramSHA256, DigestMD5}
		if user == "" {
			want = []string{Anonymous}
		}
	}
	for _, name := range want {
		if slices.ContainsFunc(offered, func(o string) bool { return strings.EqualFold(o, name) }) {
			return name, nil
		}
	}
	return "", fmt.Errorf("%w: %s wanted, %s offered", ErrNoMechanism, strings.Join(want, " or "), quoted(offered))
}

// quoted lists names that the far end chose.
func quoted(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return fmt.Sprintf("%q", names[:min(len(names), 8)])
}

// anonymous is both sides of ANONYMOUS.
type anonymous struct{}

// NewAnonymousServer lets everybody in.
func NewAnonymousServer() Server { return anonymous{} }

func (anonymous) Name() string { return Anonymous }
func (anonymous) User() string { return "" }

func (anonymous) Next(in []byte) ([]byte, bool, error) {
	if in != nil {
		return nil, false, fmt.Errorf("%s: %w: it has no messages", Anonymous, ErrProtocol)
	}
	return nil, true, nil
}

// SamePassword compares in a time that tells neither content nor length.
func SamePassword(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// decoy is what secrets of users that do not exist are made of, so that an answer
// does not tell whether a user exists.
var decoy = sync.OnceValue(func() (key [32]byte) {
	_, _ = rand.Read(key[:]) // never fails
	return key
})
