package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker/account"
	"sixin4/tsp/broker/internal/bucket"
	"sixin4/tsp/sasl"
)

// Config is what a broker offers, and to whom. Provisioner is required.
type Config struct {
	Provisioner Provisioner

	Accounts  Accounts // nil: nobody has one
	Anonymous bool     // let everybody in as nobody

	// Mechanisms for users with an account, as package sasl names them; nil: PLAIN,
	// DIGEST-MD5 and SCRAM-SHA-256 when there are Accounts. What a user may use is up to
	// the account.
	Mechanisms []string
	// Realm is part of what is stored for DIGEST-MD5, so it stays for ever: at most 32
	// letters, digits, dots and hyphens; empty for "sixin4".
	Realm string
	// Secret is as account.Config has it.
	Secret []byte
	// Nonce is as account.Config has it.
	Nonce func() string
	// Failures is as account.Config has it.
	Failures *account.Failures

	Carries  []tsp.Type    // of tsp.V6V4 and tsp.V6UDPV4; nil: tsp.V6V4
	Versions []tsp.Version // nil: all
	Merged   bool          // say that merged TCP may be sent here, as tsp.Request.Merged has it

	// Proxy reports whether a tunnel may end at another address than the one that asks;
	// u is nil for an anonymous user. By default it may not.
	Proxy func(u *User, from netip.AddrPort, end netip.Addr) bool

	Redirect Redirect
	Limits   Limits
	Logins   account.Limits

	Logger *slog.Logger // nil: discard
}

// Redirect sends clients to other brokers.
type Redirect struct {
	Brokers []tsp.Broker // at most 50; use addresses, there are clients that try a name for ever
	// When reports whether a client that asks for a tunnel is sent on, such as above some
	// load; u is nil for an anonymous user. Several goroutines call it. Nil: everybody is,
	// and before the login already.
	When func(u *User, from netip.AddrPort) bool
}

// Rate is how often: Burst at once, and one more every 1/PerSecond seconds.
type Rate = bucket.Rate

// Limits bound what clients may cost. Zero fields mean the defaults. A source is an
// IPv4 address or an IPv6 /64.
type Limits struct {
	Message  time.Duration // for a message to be complete, and an answer to be taken; 0 means 15 s
	Session  time.Duration // from the first word to accept; 0 means 2 min
	Messages int           // in a session; 0 means 64
	Errors   int           // answered in a session; 0 means 5

	// Starts are sessions of one source, over TCP and UDP each by itself. 0 means 100
	// at once and 10 a second.
	Starts Rate

	Conns          int // TCP connections without a tunnel, the oldest goes; 0 means 16384
	ConnsPerSource int // of them from one source, more are closed; 0 means 64
	Idle           int // TCP connections with a tunnel, the oldest goes; 0 means 65536

	// Datagrams are what of one source is looked at. 0 means 400 at once and 100 a second.
	Datagrams         Rate
	Sessions          int // over UDP on one socket, the oldest goes; 0 means 65536
	SessionsPerSource int // of them from one source, the oldest goes; 0 means 128
	Running           int // messages of one UDP socket at a time; 0 means 256
	Waiting           int // more that wait for that, the oldest session's first; others are dropped; 0 means 65536

	Sources int // remembered at a time; 0 means 65536
}

func (l Limits) withDefaults() Limits {
	l.Message = orDefault(l.Message, 15*time.Second)
	l.Session = orDefault(l.Session, 2*time.Minute)
	l.Messages = orDefault(l.Messages, 64)
	l.Errors = orDefault(l.Errors, 5)
	l.Starts = orDefault(l.Starts, Rate{PerSecond: 10, Burst: 100})
	l.Conns = orDefault(l.Conns, 16384)
	l.ConnsPerSource = orDefault(l.ConnsPerSource, 64)
	l.Idle = orDefault(l.Idle, 65536)
	l.Datagrams = orDefault(l.Datagrams, Rate{PerSecond: 100, Burst: 400})
	l.Sessions = orDefault(l.Sessions, 65536)
	l.SessionsPerSource = orDefault(l.SessionsPerSource, 128)
	l.Running = orDefault(l.Running, 256)
	l.Waiting = orDefault(l.Waiting, 65536)
	l.Sources = orDefault(l.Sources, 65536)
	return l
}

// check refuses limits that nobody could live with.
func (l Limits) check() error {
	for _, n := range []int{
		l.Messages, l.Errors, l.Starts.Burst, l.Conns, l.ConnsPerSource, l.Idle,
		l.Datagrams.Burst, l.Sessions, l.SessionsPerSource, l.Running, l.Waiting, l.Sources,
	} {
		if n < 1 {
			return fmt.Errorf("a limit of %d", n)
		}
	}
	if l.Message < time.Second || l.Session < l.Message || l.Starts.PerSecond <= 0 || l.Datagrams.PerSecond <= 0 {
		return fmt.Errorf("a message of %v in a session of %v, at rates of %v and %v a second",
			l.Message, l.Session, l.Starts.PerSecond, l.Datagrams.PerSecond)
	}
	return nil
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// maxRealm keeps the challenge of DIGEST-MD5 below five times the datagram that asks
// for it.
const maxRealm = 32

// checked is a configuration with its defaults.
func (c Config) checked() (Config, error) {
	c.Limits = c.Limits.withDefaults()
	if c.Mechanisms == nil && c.Accounts != nil {
		c.Mechanisms = []string{sasl.Plain, sasl.DigestMD5, sasl.ScramSHA256}
	}
	if c.Carries == nil {
		c.Carries = []tsp.Type{tsp.V6V4}
	}
	if c.Versions == nil {
		c.Versions = tsp.Versions()
	}
	if c.Proxy == nil {
		c.Proxy = func(*User, netip.AddrPort, netip.Addr) bool { return false }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, c.check()
}

func (c Config) check() error {
	if c.Provisioner == nil {
		return errors.New("no provisioner")
	}
	if len(c.Realm) > maxRealm {
		return fmt.Errorf("realm %q is longer than %d", c.Realm, maxRealm)
	}
	if !c.Anonymous && len(c.Mechanisms) == 0 {
		return errors.New("neither accounts nor anonymous users")
	}
	for _, t := range c.Carries {
		if t != tsp.V6V4 && t != tsp.V6UDPV4 {
			return fmt.Errorf("%w: tunnels of type %q", errors.ErrUnsupported, t)
		}
	}
	for _, m := range c.Mechanisms {
		if !slices.Contains([]string{sasl.Plain, sasl.DigestMD5, sasl.ScramSHA256}, m) {
			return fmt.Errorf("%w: mechanism %q", errors.ErrUnsupported, m)
		}
	}
	if len(c.Redirect.Brokers) > 0 {
		if _, err := tsp.RedirectMessage(c.Redirect.Brokers, false); err != nil {
			return err
		}
	}
	return c.Limits.check()
}

// capability is what the broker says that it offers.
func (c Config) capability() tsp.Capability {
	o := tsp.Capability{Tunnels: c.Carries, Merged: c.Merged}
	if c.Anonymous {
		o.Auths = append(o.Auths, sasl.Anonymous)
	}
	o.Auths = append(o.Auths, c.Mechanisms...)
	return o
}

// hellos are the CAPABILITY lines, the longest first. Each next one is without something
// that only new clients know, for a VERSION line that lacks its end.
func (c Config) hellos() [][]byte {
	o := c.capability()
	all := [][]byte{o.Line()}
	if o.Merged {
		o.Merged = false
		all = append(all, o.Line())
	}
	o.Auths = slices.DeleteFunc(o.Auths, func(a string) bool { return a == sasl.ScramSHA256 })
	return append(all, o.Line())
}
