package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker/account"
)

// ServeTCP serves the connections of l until ctx ends, closes l and all of them, and
// returns nil; or the error of l, when that stays.
func (s *Server) ServeTCP(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var sessions sync.WaitGroup
	defer sessions.Wait()
	defer cancel()
	for failures := 0; ; {
		nc, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				nc.Close()
			}
			return nil
		}
		if err == nil {
			failures = 0
			s.admit(ctx, nc, &sessions)
			continue
		}
		if failures++; errors.Is(err, net.ErrClosed) || failures > maxFailures {
			return fmt.Errorf("accept: %w", err)
		}
		s.config.Logger.Warn("accept", keyError, err)
		_ = pause(ctx, retryAccept)
	}
}

// A listener that fails has most often no descriptors left, and gets them back.
const (
	maxFailures = 60
	retryAccept = time.Second
)

// admit serves a connection, or closes it when its source has enough of them.
func (s *Server) admit(ctx context.Context, nc net.Conn, sessions *sync.WaitGroup) {
	from := addrPort(nc.RemoteAddr())
	c := &conn{Conn: nc, source: account.SourceOf(from.Addr())}
	if !s.starts.Take(time.Now(), start{source: c.source}) {
		s.drop(DropRate)
		nc.Close()
		return
	}
	if !s.gate.admit(c) {
		s.drop(DropConns)
		nc.Close()
		return
	}
	sessions.Go(func() { s.serveConn(ctx, c, from) })
}

// serveConn is the life of a connection.
func (s *Server) serveConn(ctx context.Context, c *conn, from netip.AddrPort) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	t := talk{conn: c, began: time.Now(), server: s, from: from}
	err := t.run(ctx)
	early := s.gate.leave(c)
	if early {
		s.drop(DropConns)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		s.drop(DropSlow)
	}
	if t.session != nil {
		t.session.release(t.session.state == up && gone(err) && !early && ctx.Err() == nil)
	}
}

// gone reports whether the client has closed the connection, or lost it.
func gone(err error) bool {
	return err != nil && !errors.Is(err, tsp.ErrMalformed) &&
		!errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded)
}

// talk is a session over TCP.
type talk struct {
	*conn
	server  *Server
	from    netip.AddrPort
	began   time.Time // to be without a tunnel
	session *session  // nil before the first word
	stream  *tsp.Stream
}

// run answers messages until the session is over, which is no error.
func (t *talk) run(ctx context.Context) error {
	for t.session == nil || t.session.state != over {
		m, err := t.receive(ctx)
		if err != nil {
			return t.excuse(ctx, err)
		}
		was := t.session.state
		if err := t.send(ctx, t.session.say(ctx, m)); err != nil {
			return err
		}
		switch now := t.session.state; {
		case was != up && now == up:
			t.server.gate.settle(t.conn)
		case was == up && now != up:
			t.began = time.Now() // it may ask for another tunnel
		}
	}
	t.linger()
	return nil
}

// receive waits for a message. When the tunnel is up it may come at any time, but must
// then be complete as soon as any other.
func (t *talk) receive(ctx context.Context) (tsp.Message, error) {
	limits := t.server.config.Limits
	idle := t.session != nil && t.session.state == up
	deadline := time.Now().Add(limits.Message)
	if end := t.began.Add(limits.Session); !idle && end.Before(deadline) {
		deadline = end
	}
	first := deadline
	if idle {
		t.stream, first = nil, time.Time{} // most say nothing any more
	}
	if err := t.wait(first); err != nil {
		return tsp.Message{}, err
	}
	if idle {
		deadline = time.Now().Add(limits.Message)
	}
	if t.session == nil {
		t.session = t.server.newSession(t.from, nil)
	}
	if t.stream == nil {
		t.stream = tsp.NewStream(t.conn)
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	return t.stream.Receive(ctx)
}

// excuse tells the client why the session ends, where it is not the client that ended
// it.
func (t *talk) excuse(ctx context.Context, err error) error {
	if t.session == nil || ctx.Err() != nil || t.server.gate.evicted(t.conn) {
		return err
	}
	code := tsp.BadRequest
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		code = tsp.TooSlow
	case !errors.Is(err, tsp.ErrMalformed):
		return err
	}
	if t.send(ctx, t.session.refuse(code)) == nil {
		t.linger()
	}
	return err
}

// send writes answers, each by itself.
func (t *talk) send(ctx context.Context, all []reply) error {
	ctx, cancel := context.WithTimeout(ctx, t.server.config.Limits.Message)
	defer cancel()
	for i, text := range all {
		if len(text) == 0 {
			continue
		}
		if i > 0 {
			if err := pause(ctx, tsp.AnswerPause); err != nil {
				return err
			}
		}
		if err := t.stream.Send(ctx, text); err != nil {
			return err
		}
	}
	return nil
}

// pause waits for as long as ctx allows.
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

// addrPort is the address of a client; of what is none, the zero AddrPort.
func addrPort(a net.Addr) netip.AddrPort {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		p := a.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}
