package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/sasl"
)

// Login is how a client logs in.
type Login struct {
	Mechanism      string // as package sasl names it; empty for ANONYMOUS
	User, Password string
	TCP            bool // else over UDP
	Guess          bool // the password is wrong, and nothing is made of it
}

// Session is what one session of a client was.
type Session struct {
	Tunnel   *Tunnel
	Hello    time.Duration // from the first datagram, or the connection, to the first answer
	Accepted time.Duration // from there to the answer to accept; over TCP, which has none, to accept
	Attempts int           // from 1
}

// Connect gets a tunnel for a client, by as many sessions as it takes while the broker
// does not answer or is busy; any other refusal is an error.
func (c *Crowd) Connect(ctx context.Context, client int, l Login) (Session, error) {
	start := time.Now()
	for attempt := 1; ; attempt++ {
		s, err := c.once(ctx, client, l, start)
		s.Attempts = attempt
		if err == nil || ctx.Err() != nil || !again(err) {
			return s, err
		}
		if err := pause(ctx, retry); err != nil {
			return s, err
		}
	}
}

// retry is how long a client waits until it tries again.
const retry = time.Second

// again reports whether a client that was told err tries again.
func again(err error) bool {
	var status *tsp.Error
	if errors.As(err, &status) {
		return status.Code.Temporary()
	}
	return errors.Is(err, tsp.ErrNoAnswer) || errors.Is(err, net.ErrClosed) || isNetwork(err)
}

func isNetwork(err error) bool {
	_, ok := errors.AsType[*net.OpError](err)
	return ok
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// once is one session. A client has one at a time.
func (c *Crowd) once(ctx context.Context, client int, l Login, start time.Time) (s Session, err error) {
	c.slots[client].mu.Lock()
	defer c.slots[client].mu.Unlock()
	over, closeConn, err := c.transport(ctx, client, l)
	if err != nil {
		return s, err
	}
	defer closeConn()
	t := tsp.NewSession(over)
	if _, err := t.Hello(ctx, tsp.V202); err != nil {
		return s, err
	}
	s.Hello = time.Since(start)
	m, err := c.mechanism(l)
	if err != nil {
		return s, err
	}
	if err := t.Authenticate(ctx, m); err != nil {
		return s, err
	}
	offer, err := t.Create(ctx, &tsp.Request{Action: tsp.ActionCreate, Type: tsp.V6V4, Client: c.Addr(client)})
	if err != nil {
		return s, err
	}
	s.Tunnel = c.enter(client, offer)
	if err := t.Accept(ctx); err != nil {
		return s, err
	}
	s.Accepted = time.Since(start)
	return s, nil
}

// transport is what a session goes over, and what closes it.
func (c *Crowd) transport(ctx context.Context, client int, l Login) (tsp.Transport, func(), error) {
	if !l.TCP {
		return c.newFlow(client), func() {}, nil
	}
	conn, err := c.dial(ctx, c.Addr(client))
	if err != nil {
		return nil, nil, err
	}
	return tsp.NewStream(conn), func() { conn.Close() }, nil
}

// dial connects from an address by TCP.
func (c *Crowd) dial(ctx context.Context, from netip.Addr) (conn net.Conn, err error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	err = c.in.Do(func() error {
		conn, err = d.DialContext(ctx, "tcp4", c.cfg.Server.String())
		return err
	})
	return conn, err
}

func (c *Crowd) mechanism(l Login) (tsp.Mechanism, error) {
	switch l.Mechanism {
	case sasl.ScramSHA256:
		return &scram{keys: &c.keys, user: l.User, password: l.Password, guess: l.Guess}, nil
	case "":
		return sasl.NewClient(sasl.Anonymous, sasl.Credentials{})
	}
	return sasl.NewClient(l.Mechanism, sasl.Credentials{
		User: l.User, Password: l.Password, Server: c.cfg.Server.Addr().String(),
	})
}

// Answer is how long the broker took to answer the first message of a login, and the
// one that decides it.
type Answer struct{ First, Last time.Duration }

// Guess logs in as somebody with a wrong password, over UDP, and measures how long the
// broker takes to say no. An error is anything else that it says.
func (c *Crowd) Guess(ctx context.Context, client int, l Login) (a Answer, err error) {
	c.slots[client].mu.Lock()
	defer c.slots[client].mu.Unlock()
	over := c.newFlow(client)
	t := tsp.NewSession(timed{over, &a})
	if _, err := t.Hello(ctx, tsp.V202); err != nil {
		return a, err
	}
	a, l.Guess = Answer{}, true
	m, err := c.mechanism(l)
	if err != nil {
		return a, err
	}
	err = t.Authenticate(ctx, m)
	var status *tsp.Error
	if errors.As(err, &status) && status.Code == tsp.AuthFailed {
		return a, nil
	}
	return a, fmt.Errorf("guess %s of %q: %w where a refusal belongs", l.Mechanism, l.User, err)
}

// timed notes how long answers take.
type timed struct {
	*flow
	a *Answer
}

// Call implements tsp.Transport.
func (t timed) Call(ctx context.Context, text []byte) (tsp.Message, error) {
	start := time.Now()
	m, err := t.flow.Call(ctx, text)
	t.a.Last = time.Since(start)
	if t.a.First == 0 {
		t.a.First = t.a.Last
	}
	return m, err
}
