package client

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"sixin4/tsp"
)

const (
	// dialLimit bounds the making of a connection.
	dialLimit = 10 * time.Second
	// answerLimit bounds an answer on a stream; datagrams have their own timers.
	answerLimit = 20 * time.Second
)

var errSlow = fmt.Errorf("%w in time", tsp.ErrNoAnswer)

// link is a connection to a broker, with the session on it.
type link struct {
	place
	over    Transport
	version tsp.Version
	conn    net.Conn
	local   netip.Addr // invalid when the connection does not tell
	session *tsp.Session
	teller  *teller
	sent    *counted // nil for TCP
	offer   tsp.Capability
}

// fail makes the Error of a stage on this link.
func (l *link) fail(stage Stage, err error) *Error {
	repeated := l.sent != nil && l.sent.writes > l.teller.messages
	return &Error{Stage: stage, Server: l.server.String(), Err: err, repeated: repeated}
}

// counted counts the datagrams that are sent.
type counted struct {
	net.Conn
	writes int
}

func (c *counted) Write(b []byte) (int, error) {
	c.writes++
	return c.Conn.Write(b)
}

// knock connects to a broker and says a version.
func (a *attempt) knock(ctx context.Context, where place, v tsp.Version, over Transport) greeting {
	l := &link{place: where, over: over, version: v}
	if err := a.dial(ctx, l); err != nil {
		return greeting{l, l.fail(Connect, err)}
	}
	var err error
	if l.offer, err = l.session.Hello(ctx, v); err == nil {
		return greeting{link: l}
	}
	l.conn.Close()
	stage := Hello
	var status *tsp.Error
	if over == UDP && !errors.As(err, &status) && !errors.Is(err, tsp.ErrMalformed) {
		stage = Connect // without an answer, nobody may be there at all
	}
	return greeting{l, l.fail(stage, err)}
}

func (a *attempt) dial(ctx context.Context, l *link) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, dialLimit, errSlow)
	defer cancel()
	if l.conn, err = a.cfg.Network.Dial(ctx, l.over.String(), l.at); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("connect: %w", err)
	}
	if from, err := netip.ParseAddrPort(l.conn.LocalAddr().String()); err == nil {
		l.local = from.Addr().Unmap()
	}
	l.teller = &teller{show: a.shower()}
	if l.over == UDP {
		l.sent = &counted{Conn: l.conn}
		l.teller.Transport = tsp.NewDatagrams(l.sent, tsp.DatagramConfig{})
	} else {
		l.teller.Transport, l.teller.limit = tsp.NewStream(l.conn), answerLimit
	}
	l.session = tsp.NewSession(l.teller)
	return nil
}

// shower posts what Config.Trace is to see.
func (a *attempt) shower() func(ctx context.Context, sent bool, text []byte) {
	if a.cfg.Trace == nil {
		return func(context.Context, bool, []byte) {}
	}
	return func(ctx context.Context, sent bool, text []byte) {
		if len(text) > 0 {
			a.post(ctx, func() { a.cfg.Trace(sent, text) })
		}
	}
}

// teller is a transport that gives up in time, and shows what it carries.
type teller struct {
	tsp.Transport
	limit    time.Duration // of an exchange; 0 for none
	show     func(ctx context.Context, sent bool, text []byte)
	secret   bool // the authentication is going on
	messages int
}

func (t *teller) Call(ctx context.Context, text []byte) (m tsp.Message, err error) {
	err = t.exchange(ctx, text, func(ctx context.Context) (err error) {
		m, err = t.Transport.Call(ctx, text)
		return err
	})
	if err == nil {
		t.show(ctx, false, t.masked(m.Bytes(), maskReceived))
	}
	return m, err
}

func (t *teller) Tell(ctx context.Context, text []byte) error {
	return t.exchange(ctx, text, func(ctx context.Context) error { return t.Transport.Tell(ctx, text) })
}

func (t *teller) exchange(ctx context.Context, text []byte, do func(context.Context) error) error {
	t.messages++
	t.show(ctx, true, t.masked(text, maskSent))
	if t.limit > 0 {
		limited, cancel := context.WithTimeoutCause(ctx, t.limit, errSlow)
		defer cancel()
		ctx = limited
	}
	return do(ctx)
}

// masked is what of a text may be shown.
func (t *teller) masked(text []byte, mask func(line string) string) []byte {
	if !t.secret || len(text) == 0 {
		return text
	}
	return []byte(mask(strings.TrimRight(string(text), "\r\n")) + "\r\n")
}

const credentials = "(credentials)"

// maskSent leaves the name of the mechanism.
func maskSent(line string) string {
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "AUTHENTICATE" {
		return credentials
	}
	if len(words) > 2 {
		words = append(words[:2], credentials)
	}
	return strings.Join(words, " ")
}

// maskReceived leaves everything but the proof that a broker gives in SCRAM (RFC 5802,
// Section 7, from memory): with the challenge, which it holds the nonces of, it is as good
// for guessing the password as the client's own.
func maskReceived(line string) string {
	if text, err := base64.StdEncoding.DecodeString(line); err == nil && strings.HasPrefix(string(text), "v=") {
		return credentials
	}
	return line
}
