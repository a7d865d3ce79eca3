package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/sasl"
)

// Config is what tunnel to get, and where. Servers, Network and Path are required.
type Config struct {
	Servers []Server // tried in this order

	Method   string // a mechanism of package sasl in any case, or sasl.Any, the default
	User     string // as sasl.Credentials has them; both empty for an anonymous user
	Password string

	// Request is what to ask for: Type, Proxy, Keepalive and Router. The type defaults
	// to tsp.V6AnyV4; tsp.V4V6 is not supported. Client is the outer address to
	// announce, by default the one that the broker is spoken to from. Action and Merged are
	// ignored.
	Request tsp.Request
	// Merged: this host takes merged TCP, as tsp.Request.Merged has it. Only a broker that
	// knows of it is told, and not for another host's tunnel (Request.Proxy).
	Merged    bool
	Transport Transport
	// Kind chooses the type to ask for at the beginning of each attempt; it is given
	// Request.Type, and runs where Observe does. Default: that type.
	Kind func(tsp.Type) tsp.Type

	GiveUp GiveUp
	Once   bool // return as soon as Path.Up has taken the first lease

	RetryDelay time.Duration // behind the first failures; 0 means 30 s, less than 1 s is 1 s
	RetryMax   time.Duration // behind many; at least RetryDelay; 0 means 300 s or RetryDelay

	AlwaysSame bool   // once Memory.Last knows a server, use no other
	Memory     Memory // default: none

	Network Network
	Path    Path

	// Observe is told what happens, in order and never twice at a time, from the
	// goroutine of Run; it must not block. Default: nothing is told.
	Observe func(Event)
	// Trace is shown the text of each message, sent and received, as Observe is told. What
	// gives a password away is "(credentials)" instead. What was received is the far
	// end's: quote it before it gets to a terminal. Default: nothing is shown.
	Trace func(sent bool, text []byte)

	Logger *slog.Logger // default: discard
}

// DefaultPort is the port of brokers, for TCP and UDP (IANA: tsp).
const DefaultPort = 3653

// Defaults and bounds of the waits between failures.
const (
	defaultRetryDelay = 30 * time.Second
	defaultRetryMax   = 300 * time.Second
	minRetryDelay     = time.Second
)

// Server is where a broker is.
type Server struct {
	Host string // a name or an address, no brackets
	Port uint16 // 0 is DefaultPort
}

// String is the host, with the port where it is not [DefaultPort].
func (s Server) String() string {
	if s.port() != DefaultPort {
		return net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port)))
	}
	return s.Host
}

func (s Server) port() uint16 {
	if s.Port == 0 {
		return DefaultPort
	}
	return s.Port
}

// parseServer reads what String wrote; ok is false for anything that cannot be dialled.
func parseServer(text string) (s Server, ok bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return Server{Host: a.String()}, true
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return Server{Host: text}, text != "" && !strings.ContainsAny(text, " \t:[]/")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return Server{Host: host, Port: uint16(n)}, err == nil && n != 0 && host != ""
}

// Transport is what the messages travel in.
type Transport uint8

// The transports.
const (
	// Auto means both, whichever is answered; only UDP for tsp.V6UDPV4, whose packets
	// travel on the very flow that set the tunnel up. No lease has it.
	Auto Transport = iota
	UDP
	TCP
)

// String is auto, udp or tcp.
func (t Transport) String() string { return [...]string{"auto", "udp", "tcp"}[t] }

// GiveUp says which failures end Run.
type GiveUp uint8

// The ways to give up.
const (
	// Never: every failure is followed by another attempt.
	Never GiveUp = iota
	// Permanent: while there was no tunnel yet, a failure that trying again will not
	// mend; see Error.Permanent.
	Permanent
	// Always: any failure while there is no tunnel, and the loss of the tunnel.
	Always
)

// Network is the host's network, as far as a client has to do with it. Its methods may be
// called by several goroutines at a time.
type Network interface {
	// Resolve looks a name up; a literal address is its own. Other than IPv4 addresses
	// are ignored.
	Resolve(ctx context.Context, host string) ([]netip.Addr, error)
	// Dial connects to a broker; network is "tcp" or "udp". Each call uses a new local
	// port. A datagram that was refused (ICMP port unreachable) is an error of Read or Write.
	Dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error)
	// Source is the local address that packets to an address leave from, an error when
	// there is no route.
	Source(to netip.Addr) (netip.Addr, error)
	// Own are the networks of this host, the tunnel's own excepted: a broker must not
	// give addresses of them.
	Own() ([]netip.Prefix, error)
	// Watch calls changed at once, and after each change of links, addresses and routes.
	// It returns nil when ctx ends.
	Watch(ctx context.Context, changed func()) error
}

// Path is what carries packets.
type Path interface {
	// Up makes the tunnel of a lease carry packets. It is called again with the next
	// lease while the one before is up: what stays the same must stay untouched, so that
	// connections through the tunnel live on. When it fails the lease is given up,
	// and the tunnel should be as it was before. Taking it down in the end is the
	// caller's business, when Run has returned.
	Up(ctx context.Context, l *Lease) error
	// Watch returns an error when the far end of a lease that is up does not answer any
	// more, and nil when ctx ends.
	Watch(ctx context.Context, l *Lease) error
}

// Memory outlives the process, in practice two files. Servers are as Server.String has
// them; entries that are no servers are ignored.
type Memory interface {
	Last() (server string, ok bool) // the server of the last lease
	SetLast(server string) error
	List() []string // the brokers of the last redirection, nearest first
	SetList(servers []string) error
}

// Lease is a tunnel that the broker has agreed to. It is never changed.
type Lease struct {
	Tunnel  *tsp.Tunnel
	Server  Server         // as configured or redirected to
	Broker  netip.AddrPort // who that was
	Local   netip.Addr     // where the broker was spoken to from
	Version tsp.Version
	Offers  []tsp.Type // the types of tunnels that the broker says it makes
	Merged  bool       // the broker takes merged TCP, whatever type this tunnel is of

	Transport Transport // UDP or TCP
	Method    string    // the mechanism used, as package sasl names it
	User      string    // empty for an anonymous user

	// Conn is the control connection. It belongs to the client, which keeps it open
	// until a newer lease is up, or Run returns; with tsp.V6UDPV4 the packets travel on it.
	Conn net.Conn

	Since time.Time // accepted
	Renew time.Time // when a new session starts; zero for never

	// source is what Network.Source said when the session began. It is not Local where
	// routes depend on more than the destination.
	source netip.Addr
}

// anonymous reports whether a new session would be somebody else's.
func (l *Lease) anonymous() bool { return l.Method == sasl.Anonymous }

// check fills in the defaults and refuses what cannot work.
func (c *Config) check() error {
	if c.Request.Type == "" {
		c.Request.Type = tsp.V6AnyV4
	}
	if c.RetryDelay == 0 {
		c.RetryDelay = defaultRetryDelay
	}
	c.RetryDelay = max(c.RetryDelay, minRetryDelay)
	if c.RetryMax == 0 {
		c.RetryMax = max(defaultRetryMax, c.RetryDelay)
	}
	if c.Observe == nil {
		c.Observe = func(Event) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Memory == nil {
		c.Memory = noMemory{}
	}
	if err := c.checkServers(); err != nil {
		return err
	}
	return c.checkWants()
}

func (c *Config) checkServers() error {
	if c.Network == nil || c.Path == nil {
		return errors.New("no network or no path")
	}
	if len(c.Servers) == 0 {
		return errors.New("no server")
	}
	for _, s := range c.Servers {
		if s.Host == "" {
			return errors.New("a server without a host")
		}
	}
	return nil
}

func (c *Config) checkWants() error {
	switch {
	case c.Transport > TCP || c.GiveUp > Always:
		return fmt.Errorf("transport %d, give up %d", c.Transport, c.GiveUp)
	case c.Request.Type == tsp.V4V6:
		return fmt.Errorf("type %s: %w", c.Request.Type, errors.ErrUnsupported)
	case c.Request.Type == tsp.V6UDPV4 && c.Transport == TCP:
		return fmt.Errorf("type %s over TCP: %w", c.Request.Type, errors.ErrUnsupported)
	case c.Request.Type == tsp.V6UDPV4 && c.Request.Proxy:
		return fmt.Errorf("type %s for another host: %w", c.Request.Type, errors.ErrUnsupported)
	case c.RetryMax < c.RetryDelay:
		return fmt.Errorf("retry delay %v is more than its maximum %v", c.RetryDelay, c.RetryMax)
	}
	if err := c.checkRequest(); err != nil {
		return err
	}
	return c.checkCredentials()
}

// checkRequest asks for the tunnel from an address that any request may come from.
func (c *Config) checkRequest() error {
	r := c.request(netip.MustParseAddr("192.0.2.1"), tsp.Capability{})
	_, err := r.Message()
	return err
}

// request is the create command of a client at an address, to a broker with an offer.
func (c *Config) request(local netip.Addr, offer tsp.Capability) tsp.Request {
	r := c.Request
	r.Action = tsp.ActionCreate
	r.Merged = c.Merged && offer.Merged && !r.Proxy
	if !r.Client.IsValid() {
		r.Client = local
	}
	return r
}

// checkCredentials starts a mechanism, which looks at them.
func (c *Config) checkCredentials() error {
	name := strings.ToUpper(c.Method)
	switch {
	case name == "" || name == strings.ToUpper(sasl.Any):
		name = sasl.DigestMD5
		if c.User == "" {
			name = sasl.Anonymous
		}
	case name == sasl.Anonymous:
		return nil
	}
	_, err := sasl.NewClient(name, sasl.Credentials{User: c.User, Password: c.Password})
	return err
}

// ofKind is the configuration for one attempt.
func (c *Config) ofKind() *Config {
	if c.Kind == nil {
		return c
	}
	of := *c
	of.Request.Type = c.Kind(c.Request.Type)
	return &of
}

// noMemory forgets.
type noMemory struct{}

func (noMemory) Last() (string, bool)   { return "", false }
func (noMemory) SetLast(string) error   { return nil }
func (noMemory) List() []string         { return nil }
func (noMemory) SetList([]string) error { return nil }
