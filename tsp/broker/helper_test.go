package broker_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker"
	"sixin4/tsp/broker/account"
	"sixin4/tsp/sasl"
	"sixin4/tsp/tsptest"
)

var (
	here   = netip.MustParseAddrPort("192.0.2.1:3653")
	alice4 = netip.MustParseAddr("198.51.100.7")
	mob4   = netip.MustParseAddr("203.0.113.66")
	inside = netip.MustParseAddr("10.0.0.7")
)

// iterations keep the tests short.
const iterations = 4096

// realm of all tests.
const realm = "Freenet6"

// users are accounts in memory.
type users map[string]*broker.User

func (u users) Lookup(_ context.Context, name string) (*broker.User, error) {
	if user := u[name]; user != nil {
		return user, nil
	}
	return nil, fmt.Errorf("look up: %w", broker.ErrNoUser)
}

// newUser has the password "secret" and may do everything.
var newUser = sync.OnceValue(func() broker.User {
	keys, err := account.HashPassword("alice", "secret", iterations)
	if err != nil {
		panic(err)
	}
	digest := sasl.NewDigest("alice", realm, "secret")
	return broker.User{ID: "1", Name: "alice", Scram: keys, Digest: &digest, PrefixLen: 56}
})

// everybody is alice.
func everybody() users {
	u := newUser()
	return users{"alice": &u}
}

// pool is a Provisioner that gives everybody the same.
type pool struct {
	mu        sync.Mutex
	offer     func(context.Context, broker.Ask) (*broker.Grant, error) // nil for goodGrant
	acceptErr error
	asks      []broker.Ask
	accepts   int
	free      int // Close with keep false
	kept      int // and true
}

func (p *pool) Offer(ctx context.Context, a broker.Ask) (*broker.Grant, error) {
	p.mu.Lock()
	p.asks = append(p.asks, a)
	offer := p.offer
	p.mu.Unlock()
	if offer != nil {
		return offer(ctx, a)
	}
	return goodGrant(ctx, a)
}

func (p *pool) Accept(context.Context, *broker.Grant) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.acceptErr == nil {
		p.accepts++
	}
	return p.acceptErr
}

func (p *pool) Close(_ *broker.Grant, keep bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if keep {
		p.kept++
	} else {
		p.free++
	}
}

// counts are how many were asked for, accepted, freed and kept.
func (p *pool) counts() [4]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return [4]int{len(p.asks), p.accepts, p.free, p.kept}
}

func goodGrant(_ context.Context, a broker.Ask) (*broker.Grant, error) {
	bits, err := a.PrefixLen()
	if err != nil {
		return nil, err
	}
	t := &tsp.Tunnel{
		Type: a.Type, Lifetime: 24 * time.Hour,
		Server4: here.Addr(), Server6: netip.MustParseAddr("2001:db8:aa::1"),
		Client4: a.Outer, Client6: netip.MustParseAddr("2001:db8:aa::2"),
		DNS: []netip.Addr{netip.MustParseAddr("2001:db8::53")},
	}
	if k := a.Request.Keepalive; k > 0 {
		t.Keepalive, t.KeepaliveTo = k, t.Server6
	}
	if bits > 0 {
		t.Prefix = netip.PrefixFrom(netip.MustParseAddr("2001:db8:f00::"), bits)
	}
	return &broker.Grant{ID: "7", Tunnel: t}, nil
}

// world is a broker and the network around it.
type world struct {
	t    *testing.T
	net  tsptest.Net
	pool *pool
	*broker.Server
	stop context.CancelFunc
}

// inWorld runs a test whose clock only moves when everybody waits. A goroutine that is
// left behind fails it.
func inWorld(t *testing.T, change func(*broker.Config), f func(t *testing.T, w *world)) {
	t.Helper()
	newUser() // takes time that is none of the test's
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, pool: new(pool)}
		c := w.config()
		if change != nil {
			change(&c)
		}
		w.serve(c)
		f(t, w)
		w.stop()
	})
}

// config is a broker for everything and everybody.
func (w *world) config() broker.Config {
	return broker.Config{
		Provisioner: w.pool, Accounts: everybody(), Anonymous: true, Realm: realm,
		Carries: []tsp.Type{tsp.V6V4, tsp.V6UDPV4},
		Logins:  account.Limits{Iterations: iterations, LookupTime: -1},
	}
}

// serve starts a broker on both transports; stop ends it and waits for that.
func (w *world) serve(c broker.Config) {
	w.t.Helper()
	s, err := broker.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Server = s
	l, err := w.net.Listen(here)
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := w.net.ListenPacket(here)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- s.ServeTCP(ctx, l) }()
	go func() { ended <- s.ServeUDP(ctx, p) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				w.t.Errorf("serve: %v", err)
			}
		}
	})
	w.t.Cleanup(w.stop)
}

// dial connects from an address.
func (w *world) dial(network string, from netip.Addr) net.Conn {
	w.t.Helper()
	c, err := w.net.Dial(context.Background(), network, from, here)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}

// talk is a session of our own client.
type talk struct {
	*tsp.Session
	transport tsp.Transport
	net.Conn
}

func (w *world) talk(network string, from netip.Addr) talk {
	w.t.Helper()
	c := w.dial(network, from)
	var t tsp.Transport = tsp.NewStream(c)
	if network == "udp" {
		t = tsp.NewDatagrams(c.(tsp.DatagramConn), tsp.DatagramConfig{})
	}
	return talk{tsp.NewSession(t), t, c}
}

// login is who a client of a test is.
type login struct {
	method, user, password string
}

var anonymous, byScram = login{method: sasl.Anonymous}, login{sasl.ScramSHA256, "alice", "secret"}

// in takes a session to where it may ask for a tunnel.
func (k talk) in(ctx context.Context, v tsp.Version, l login) error {
	if _, err := k.Hello(ctx, v); err != nil {
		return err
	}
	m, err := sasl.NewClient(l.method, sasl.Credentials{User: l.user, Password: l.password, Server: "broker.example.net"})
	if err != nil {
		return err
	}
	return k.Authenticate(ctx, m)
}

// run takes a session to its end.
func (k talk) run(ctx context.Context, l login, r *tsp.Request) (*tsp.Tunnel, error) {
	if err := k.in(ctx, tsp.V202, l); err != nil {
		return nil, err
	}
	t, err := k.Create(ctx, r)
	if err != nil {
		return nil, err
	}
	return t, k.Accept(ctx)
}

// request asks for a tunnel to an address.
func request(t tsp.Type, client netip.Addr) *tsp.Request {
	return &tsp.Request{Action: tsp.ActionCreate, Type: t, Client: client, Keepalive: 30 * time.Second}
}

// pass lets time pass, to its end: all that happens at that moment has happened.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
