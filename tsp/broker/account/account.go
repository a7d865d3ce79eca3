// Package account finds out who a client of a broker is: it runs the mechanisms of
// package sasl against the accounts there are (RFC 4422).
//
// A broker stores no password. SCRAM-SHA-256 (RFC 7677) is checked with the keys that
// it was made for; PLAIN (RFC 4616) by making the same keys out of the password that
// came, which is slow on purpose and so done by few at a time; DIGEST-MD5 (RFC 2831)
// needs a hash of its own, which is as good as the password, so only users who asked
// for it have one.
//
// Nobody learns here who has an account: for a name that has none all is done as for
// one that has, with keys that no password fits. That holds while all accounts have
// as many iterations as [Limits] says.
//
// The RFCs are cited from memory: their texts could not be consulted.
package account

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"sixin4/tsp/sasl"
)

// DefaultIterations is how slow keys are made: PBKDF2 rounds of SHA-256.
const DefaultIterations = 100_000

var (
	// ErrNoUser is what Lookup wraps for a name that has no account.
	ErrNoUser = errors.New("no such user")
	// ErrBusy is what every error wraps that means: not now. A broker answers it with
	// status 530.
	ErrBusy = errors.New("too many logins")
)

// User is an account.
type User struct {
	ID   string // never changes, and means nothing
	Name string

	Scram      sasl.ScramKeys // also what PLAIN is checked with
	Digest     *sasl.Digest   // nil: no DIGEST-MD5 for this user
	Mechanisms []string       // that may be used, as package sasl names them; none: all

	PrefixLen  int // of the prefix that a router may have, in bits; 0 for none
	MaxTunnels int // at a time; 0 for one
	Disabled   bool
}

// Accounts are all users there are. Any number of goroutines use them.
type Accounts interface {
	// Lookup finds the user of a name, of at most 253 bytes of UTF-8 without control
	// characters. The error wraps ErrNoUser when there is none. The result is not
	// changed any more, by either side.
	Lookup(ctx context.Context, name string) (*User, error)
}

// HashPassword makes what is stored of a password: keys with a salt of their own, of
// 4096 to 1 000 000 iterations, 0 means DefaultIterations. User and password are as
// sasl.Credentials has them. It takes as long as the iterations say.
func HashPassword(user, password string, iterations int) (sasl.ScramKeys, error) {
	if iterations == 0 {
		iterations = DefaultIterations
	}
	if !validName(user) || password == "" || len(password) > 128 || strings.ContainsAny(password, "\x00\r\n") {
		return sasl.ScramKeys{}, errors.New("hash password: user of 1 to 253 bytes and password of 1 to 128 without line ends wanted")
	}
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	keys, err := sasl.NewScramKeys(user, password, salt, iterations)
	if err != nil {
		return sasl.ScramKeys{}, fmt.Errorf("hash password: %w", err)
	}
	return keys, nil
}
