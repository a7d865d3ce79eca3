package tsptest

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/sasl"
)

// Step is a place in a session: which of the broker's answers it is.
type Step uint8

// The steps. A mechanism without messages of its own has a Verdict only. What
// answers Accept is a bare header in datagrams, and nothing on a stream.
const (
	Hello        Step = iota // answers VERSION
	Authenticate             // a message of the mechanism
	Verdict                  // says that the authentication was good
	Create                   // answers create: the offer
	Accept                   // answers accept
)

// Steps are all of them, in the order of a session.
func Steps() []Step { return []Step{Hello, Authenticate, Verdict, Create, Accept} }

func (s Step) String() string {
	return [...]string{"hello", "authenticate", "verdict", "create", "accept"}[s]
}

// Config is what a broker offers and how it behaves. The zero value makes tunnels
// for everybody who is anonymous.
type Config struct {
	Versions []tsp.Version  // that it speaks; nil for all
	Offers   tsp.Capability // an empty list means: v6v4 and v6udpv4, every mechanism
	Users    map[string]string
	Realm    string        // of DIGEST-MD5; empty for "example"
	Nonce    func() string // of DIGEST-MD5; nil for random ones

	// Answer makes the offer, or refuses with a tsp.Error; any other error is status
	// 310. Nil for Offer.
	Answer func(r *tsp.Request, from netip.Addr) (*tsp.Tunnel, error)

	Refuse   map[Step]tsp.Code     // in place of the answer
	Redirect map[Step][]tsp.Broker // in place of the answer to Hello, Verdict or Create
	Faults   map[Step]Fault        // done to the answer

	// Faulty is how many sessions, from the first on, are refused, redirected and have
	// faults; 0 for all of them.
	Faulty int

	// Pause stands between two answers in a row on a stream; 0 for tsp.AnswerPause.
	Pause time.Duration

	Logger *slog.Logger // nil: discard
}

// Session is what a broker notes about one.
type Session struct {
	Network   string // tcp or udp
	From      netip.AddrPort
	Version   tsp.Version // empty when the client said none that there is
	Mechanism string      // asked for; empty when it did not come to that
	User      string      // who has authenticated; empty for the anonymous
	Request   *tsp.Request
	Tunnel    *tsp.Tunnel // offered
	Accepted  bool
	Messages  int // of the client, each counted once however often it came
}

// Broker is a scripted broker. Any number of goroutines may use it.
type Broker struct {
	mu       sync.Mutex
	config   Config
	sessions []*Session
	accepts  []*Session
	echoes   int
	changed  chan struct{} // closed and replaced with every change above
	keys     map[string]sasl.ScramKeys
}

// New makes a broker that serves nobody yet.
func New(c Config) *Broker {
	b := &Broker{changed: make(chan struct{}), keys: make(map[string]sasl.ScramKeys)}
	b.setConfig(c)
	return b
}

func (b *Broker) setConfig(c Config) {
	if c.Versions == nil {
		c.Versions = tsp.Versions()
	}
	if c.Offers.Tunnels == nil {
		c.Offers.Tunnels = []tsp.Type{tsp.V6V4, tsp.V6UDPV4}
	}
	if c.Offers.Auths == nil {
		c.Offers.Auths = []string{sasl.Anonymous, sasl.Plain, sasl.DigestMD5, sasl.ScramSHA256}
	}
	if c.Realm == "" {
		c.Realm = "example"
	}
	if c.Answer == nil {
		c.Answer = func(r *tsp.Request, from netip.Addr) (*tsp.Tunnel, error) { return Offer(r, from), nil }
	}
	if c.Pause == 0 {
		c.Pause = tsp.AnswerPause
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	b.config = c
}

// Change changes the configuration for the messages to come. The maps of the old
// configuration may be in use: replace them as a whole.
func (b *Broker) Change(f func(*Config)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.config
	f(&c)
	b.setConfig(c)
}

func (b *Broker) settings() Config {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.config
}

// Sessions are all sessions so far, in the order of their first message.
func (b *Broker) Sessions() []Session {
	b.mu.Lock()
	defer b.mu.Unlock()
	return copies(b.sessions)
}

// Accepts are the sessions whose tunnel was accepted, in the order of that. In version
// 1.0.1 an offer is as good as accepted.
func (b *Broker) Accepts() []Session {
	b.mu.Lock()
	defer b.mu.Unlock()
	return copies(b.accepts)
}

func copies(sessions []*Session) []Session {
	all := make([]Session, 0, len(sessions))
	for _, s := range sessions {
		all = append(all, *s)
	}
	return all
}

// Echoes is how many echo requests were answered.
func (b *Broker) Echoes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.echoes
}

// AwaitSession waits for the n-th session, counted from 1, to begin, and returns it
// as it is then. The error is that of ctx.
func (b *Broker) AwaitSession(ctx context.Context, n int) (Session, error) {
	return b.await(ctx, n, func() []*Session { return b.sessions })
}

// AwaitAccept waits for the n-th tunnel, counted from 1, to be accepted.
func (b *Broker) AwaitAccept(ctx context.Context, n int) (Session, error) {
	return b.await(ctx, n, func() []*Session { return b.accepts })
}

func (b *Broker) await(ctx context.Context, n int, list func() []*Session) (Session, error) {
	for {
		b.mu.Lock()
		all, changed := list(), b.changed
		if len(all) >= n {
			s := *all[n-1]
			b.mu.Unlock()
			return s, nil
		}
		b.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return Session{}, context.Cause(ctx)
		}
	}
}

// note changes what is noted, and wakes who waits for it.
func (b *Broker) note(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.changed)
	b.changed = make(chan struct{})
}

// scramKeys are the keys of a user, made once: that takes time on purpose.
func (b *Broker) scramKeys(user string) (sasl.ScramKeys, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	password, ok := b.config.Users[user]
	if !ok {
		return sasl.ScramKeys{}, false
	}
	id := user + "\x00" + password
	keys, ok := b.keys[id]
	if !ok {
		var err error
		if keys, err = sasl.NewScramKeys(user, password, []byte("sixteen byte salt"), 4096); err != nil {
			return sasl.ScramKeys{}, false
		}
		b.keys[id] = keys
	}
	return keys, true
}

// Offer is the tunnel that a broker without an Answer of its own offers: from
// 192.0.2.1 to where the client is, v6udpv4 when it seems to be behind NAT, with all
// that it asked for.
func Offer(r *tsp.Request, from netip.Addr) *tsp.Tunnel {
	t := &tsp.Tunnel{
		Type: r.Type, Lifetime: 24 * time.Hour,
		Server4: netip.MustParseAddr("192.0.2.1"), Server6: netip.MustParseAddr("2001:db8:aa::1"),
		Client4: from, Client6: netip.MustParseAddr("2001:db8:aa::2"),
		DNS: []netip.Addr{netip.MustParseAddr("2001:db8::53")},
	}
	if r.Proxy {
		t.Client4 = r.Client
	}
	if r.Type == tsp.V6AnyV4 {
		t.Type = tsp.V6UDPV4
		if r.Proxy || r.Client == from {
			t.Type = tsp.V6V4
		}
	}
	if r.Keepalive > 0 {
		t.Keepalive, t.KeepaliveTo = r.Keepalive, t.Server6
	}
	if r.Router != nil {
		bits := r.Router.PrefixLen
		t.Prefix = netip.PrefixFrom(netip.MustParseAddr("2001:db8:f00::"), max(bits, 48))
	}
	return t
}
