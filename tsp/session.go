package tsp

import (
	"context"
	"errors"
	"fmt"
)

// Transport carries the messages of one session to a broker: [Stream] or [Datagrams].
type Transport interface {
	// Call sends text and returns the answer. Empty text fetches an answer that the
	// broker owes without a question.
	Call(ctx context.Context, text []byte) (Message, error)
	// Tell sends what has no answer on a stream; in datagrams it has one, which Tell
	// waits for, and which may be the broker's refusal.
	Tell(ctx context.Context, text []byte) error
}

// Mechanism is the client's side of an authentication, as package tsp/sasl makes it.
// Next is called with nil first, then with each message of the broker. It returns
// what to send, nil for nothing, and done when only the broker's verdict is to come.
type Mechanism interface {
	Name() string
	Next(in []byte) (out []byte, done bool, err error)
}

// Session is the client's side of a dialogue. Its methods are called in the order
//
//	Hello -> Authenticate -> Create -> Accept
//
// where each may fail with an [Error], the broker's status, after which the session is
// over. It is for one goroutine.
type Session struct {
	t Transport
	v Version
}

// NewSession starts nothing: Hello is the first message.
func NewSession(t Transport) *Session { return &Session{t: t} }

// Hello says our version and returns what the broker offers. After an [Error] with
// [BadVersion] try [Version.Older] on a new connection.
func (s *Session) Hello(ctx context.Context, v Version) (Capability, error) {
	s.v = v
	m, err := s.t.Call(ctx, v.Line())
	if err == nil {
		err = m.Err()
	}
	if err != nil {
		return Capability{}, fmt.Errorf("version %s: %w", v, err)
	}
	return ParseCapability(m.Line)
}

// errNoProof: a broker that lets us in before the mechanism is done has not shown
// that it knows the password; it may be anybody.
var errNoProof = errors.New("the broker did not finish the authentication")

// Authenticate runs a mechanism to its end. The error is an [Error] when the broker
// refuses, and the mechanism's own when it does not trust the broker.
func (s *Session) Authenticate(ctx context.Context, mech Mechanism) error {
	if err := s.authenticate(ctx, mech); err != nil {
		return fmt.Errorf("authenticate %s: %w", mech.Name(), err)
	}
	return nil
}

func (s *Session) authenticate(ctx context.Context, mech Mechanism) error {
	out, done, err := mech.Next(nil)
	if err != nil {
		return err
	}
	text, err := s.firstLine(ctx, mech.Name(), out)
	if err != nil {
		return err
	}
	for !done {
		m, err := s.t.Call(ctx, text)
		if err != nil {
			return err
		}
		if m.Code() == Success {
			return errNoProof
		}
		if err := m.Err(); err != nil {
			return err
		}
		in, err := ParseAuthLine(mech.Name(), m.Line)
		if err != nil {
			return err
		}
		if out, done, err = mech.Next(in); err != nil {
			return err
		}
		text = nil
		if out != nil {
			text = AuthLine(mech.Name(), out)
		}
	}
	return s.verdict(ctx, text)
}

// firstLine is what to send with the first Call; for PLAIN the AUTHENTICATE line has
// gone before it.
func (s *Session) firstLine(ctx context.Context, name string, initial []byte) ([]byte, error) {
	if name != plain {
		return AuthenticateLine(name, initial), nil
	}
	return AuthLine(name, initial), s.t.Tell(ctx, AuthenticateLine(name, nil))
}

// verdict sends the last message, if there is one, and takes success only.
func (s *Session) verdict(ctx context.Context, text []byte) error {
	m, err := s.t.Call(ctx, text)
	if err != nil {
		return err
	}
	if m.Code() == 0 {
		return fmt.Errorf("%w: %q in place of a status", ErrMalformed, clip(string(m.Line)))
	}
	return m.Err()
}

// Create asks for a tunnel and returns the broker's offer, which has passed
// [Tunnel.Check] and answers what was asked for.
func (s *Session) Create(ctx context.Context, r *Request) (*Tunnel, error) {
	t, err := s.create(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	return t, nil
}

func (s *Session) create(ctx context.Context, r *Request) (*Tunnel, error) {
	q, err := r.Message()
	if err != nil {
		return nil, err
	}
	m, err := s.t.Call(ctx, q.Bytes())
	if err != nil {
		return nil, err
	}
	if m.Code() == 0 || m.Code() == Success && m.XML == nil {
		return nil, fmt.Errorf("%w: %q in place of a tunnel", ErrMalformed, clip(string(m.Line)))
	}
	if err := m.Err(); err != nil {
		return nil, err
	}
	t, err := ParseTunnel(m.XML)
	if err != nil {
		return nil, err
	}
	if !r.Type.Allows(t.Type) {
		return nil, fmt.Errorf("%w: asked for %s, got %s", ErrBadTunnel, r.Type, t.Type)
	}
	return t, nil
}

// Accept takes the offer: the broker sets its end up now. In version 1.0.1 there is
// nothing to say. Over a stream the broker gives no answer, so that a refusal shows
// in datagrams only.
func (s *Session) Accept(ctx context.Context) error {
	if !s.v.Accepts() {
		return nil
	}
	if err := s.t.Tell(ctx, AcceptMessage().Bytes()); err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	return nil
}
