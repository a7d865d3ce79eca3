package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"time"

	"sixin4/tsp/broker/account"
	"sixin4/tsp/broker/store"
)

// Mode is who may sign up.
type Mode string

// The modes.
const (
	Closed  Mode = "closed"  // nobody
	Approve Mode = "approve" // who the operator approves
	Mail    Mode = "mail"    // who reads the e-mail that they give
)

// Config is what a site needs to know. Store and Backend are required, Mailer with
// Mail.
type Config struct {
	Store   store.Store
	Backend Backend

	// URL is where people find the site, without a path: for links in mails, and in what
	// is there to be copied. Its scheme is http or https; nil means http://localhost.
	URL *url.URL
	// Proxies are the addresses of reverse proxies. What they say about who asks, in
	// X-Forwarded-For and X-Forwarded-Proto, is believed.
	Proxies []netip.Addr

	Server string     // where TSP clients find the broker, host or host:port
	End    netip.Addr // the IPv4 address that tunnels end at
	MTU    int        // of a tunnel, in bytes; 0 means 1480

	SignUp     Mode // empty means Closed
	PrefixLen  int  // of users who sign up: 48 to 64, 0 for no prefix
	Mailer     Mailer
	Iterations int    // of PBKDF2, as account.HashPassword has it
	Realm      string // as account.Config has it; empty for "sixin4"
	Secret     []byte // as account.Config has it
	// Failures are those of the broker, as account.Config has it.
	Failures *account.Failures
	// CheckPassword says what is wrong with a password that a user wants, in words for
	// people. nil: at least 8 characters.
	CheckPassword func(user, password string) error

	Logger *slog.Logger // nil: discard
}

// Backend is the broker that runs, as far as the pages need it. Any number of
// goroutines use it.
type Backend interface {
	// Live is the state of a lease whose tunnel the broker carries.
	Live(leaseID string) (l Live, ok bool)
	// Totals are all tunnels together.
	Totals() Totals
	// Move makes a user's tunnel of protocol 41 end at an IPv4 address: that of a lease,
	// or, with an empty ID, the one that the user has or may have. Errors wrap
	// ErrAddress, ErrTaken, ErrDraining or the causes of package store.
	Move(ctx context.Context, userID, leaseID string, to netip.Addr) error
	// Ended takes down a tunnel whose session was ended in the store.
	Ended(leaseID string)
	// Draining reports whether no new tunnels are given, and Drain says so.
	Draining() bool
	Drain(on bool)
}

// The causes of errors of Backend.Move that the caller is told.
var (
	ErrAddress  = errors.New("no address that a tunnel can end at")
	ErrTaken    = errors.New("somebody else's tunnel ends there")
	ErrDraining = errors.New("no new tunnels are given")
)

// Count is packets and their bytes, outer headers not included.
type Count struct{ Packets, Bytes uint64 }

// Live is a tunnel that is carried.
type Live struct {
	Outer  netip.AddrPort // the client's end; the port is 0 for protocol 41
	Proven bool           // it has answered there
	Since  time.Time      // the session began
	Heard  time.Time      // a packet of the client came; zero: none yet
	// Up came from the client, Down went to it.
	Up, Down Count
}

// Totals are all tunnels together since the broker started.
type Totals struct {
	Tunnels  int // carried now
	Up, Down Count
	Dropped  uint64 // packets that were refused, both ways
}

// checked is a configuration with its defaults.
func (c Config) checked() (Config, error) {
	if c.SignUp == "" {
		c.SignUp = Closed
	}
	if c.MTU == 0 {
		c.MTU = 1480
	}
	if c.Realm == "" {
		c.Realm = "sixin4"
	}
	if c.Iterations == 0 {
		c.Iterations = account.DefaultIterations
	}
	if c.URL == nil {
		c.URL = &url.URL{Scheme: "http", Host: "localhost"}
	}
	if c.CheckPassword == nil {
		c.CheckPassword = atLeast8
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, c.check()
}

func (c Config) check() error {
	switch {
	case c.Store == nil:
		return errors.New("no store")
	case c.Backend == nil:
		return errors.New("no backend")
	case c.SignUp != Closed && c.SignUp != Approve && c.SignUp != Mail:
		return fmt.Errorf("sign-up %q: %w", c.SignUp, errors.ErrUnsupported)
	case c.SignUp == Mail && c.Mailer == nil:
		return errors.New("sign-up by mail without a mailer")
	case c.PrefixLen != 0 && (c.PrefixLen < 48 || c.PrefixLen > 64):
		return fmt.Errorf("prefix length %d", c.PrefixLen)
	case c.URL.Scheme != "http" && c.URL.Scheme != "https" || c.URL.Host == "" || c.URL.Path != "":
		return fmt.Errorf("URL %s: http or https, and a host", c.URL)
	}
	return nil
}

func atLeast8(_, password string) error {
	if len([]rune(password)) < 8 {
		return errors.New("the password has fewer than 8 characters")
	}
	return nil
}
