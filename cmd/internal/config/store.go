package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"sixin4/cmd/internal/exit"
	"sixin4/tsp"
	"sixin4/tsp/broker/account"
)

const (
	// DefaultState is the database of a broker.
	DefaultState = "/var/lib/sixin4/tspd.db"
	// DefaultRealm is part of what is stored for DIGEST-MD5.
	DefaultRealm = "sixin4"
	// keyName is the key file, beside the database.
	keyName = "tspd.key"
	// maxRealm is what fits the challenges of a broker (package broker).
	maxRealm = 32

	minIterations = 4096 // of package sasl
	maxIterations = 1_000_000
)

// Store is what `tspd serve` and the commands beside it must agree on to use one
// database.
type Store struct {
	State   string // path of the database, or its URL, see Postgres
	KeyFile string // path of the key for what is encrypted in it

	Quarantine time.Duration // how long a released address stays unused: whole seconds up to 10 years; 0 for none
	Iterations int           // of PBKDF2, for passwords set from now on: 4096 to 1 000 000
	Realm      string        // of DIGEST-MD5: at most 32 letters, digits, dots and hyphens
}

// Postgres reports whether the database is one of PostgreSQL, so that State is its URL.
// It has no password.
func (s Store) Postgres() bool { return isURL(s.State) }

func isURL(s string) bool {
	return strings.HasPrefix(s, "postgres://") || strings.HasPrefix(s, "postgresql://")
}

// parseState parses the path of a database, or the URL of one of PostgreSQL.
func parseState(s string) (string, error) {
	if !isURL(s) {
		return parsePath(s)
	}
	u, err := url.Parse(s)
	if err != nil { // which may show a password
		return "", errors.New("not a URL, like postgres://tspd@db.example.net/tspd?sslmode=verify-full")
	}
	if _, has := u.User.Password(); has || u.Query().Has("password") {
		return "", errors.New("a password does not belong here, where others can read it; put it into a file of mode 0600, " +
			"a line HOST:PORT:DATABASE:USER:PASSWORD, and say where that is: ?passfile=FILE, or PGPASSFILE")
	}
	return s, nil
}

// CheckStore checks those values of raw that are in Store, with errors as those of
// CheckBroker. What else raw has is not looked at.
func CheckStore(raw Raw) (s Store, err error) {
	if v, _ := raw.last(State); isURL(v.Text) {
		if _, err := parseState(v.Text); err != nil {
			return Store{}, invalid(State, Value{Text: "postgres://...", Origin: v.Origin}, err.Error()) // not what is secret
		}
	}
	if s.State, err = one(raw, State, DefaultState, parseState); err != nil {
		return Store{}, err
	}
	beside := s.State
	if s.Postgres() {
		beside = DefaultState
	}
	if s.KeyFile, err = one(raw, KeyFile, filepath.Join(filepath.Dir(beside), keyName), parsePath); err != nil {
		return Store{}, err
	}
	if filepath.Clean(s.KeyFile) == filepath.Clean(s.State) {
		v, given := raw.last(KeyFile)
		if !given {
			v, _ = raw.last(State)
			return Store{}, invalid(State, v, "the usual name of the key file; the database needs another one")
		}
		return Store{}, invalid(KeyFile, v, "the database itself; a file of its own belongs here")
	}
	if s.Quarantine, err = one(raw, Quarantine, "7d", parseQuarantine); err != nil {
		return Store{}, err
	}
	if s.Iterations, err = one(raw, Iterations, strconv.Itoa(account.DefaultIterations), parseIterations); err != nil {
		return Store{}, err
	}
	s.Realm, err = one(raw, Realm, DefaultRealm, parseRealm)
	return s, err
}

func parseQuarantine(s string) (time.Duration, error) {
	return parseDays(s, 0, tsp.MaxLifetime, "1s to 3650d, like 7d, or 0 for none")
}

func parseIterations(s string) (int, error) {
	return parseNumber(s, minIterations, maxIterations, fmt.Sprintf("%d to %d; %d is usual, more is harder to guess and slower to log in with",
		minIterations, maxIterations, account.DefaultIterations))
}

func parseRealm(s string) (string, error) {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-'
	}
	switch {
	case s == "":
		return "", errors.New("empty; the name of a broker belongs here, like broker.example.net")
	case strings.ContainsFunc(s, odd):
		return "", errors.New("letters, digits, dots and hyphens only: there are clients that read no more")
	case len(s) > maxRealm:
		return "", fmt.Errorf("%d characters long; at most %d", len(s), maxRealm)
	}
	return s, nil
}

// CheckPool checks the prefix in raw, with errors as those of CheckBroker.
func CheckPool(raw Raw) (netip.Prefix, error) {
	if !raw.Has(Prefix) {
		return netip.Prefix{}, exit.With(exit.Usage, errors.New("no prefix: give --prefix PREFIX, "+
			"the IPv6 network that is routed to this host, "+likePool))
	}
	return one(raw, Prefix, "", parsePool)
}
