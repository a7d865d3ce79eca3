package broker

import (
	"context"
	"errors"
	"slices"

	"sixin4/tsp"
	"sixin4/tsp/broker/account"
	"sixin4/tsp/sasl"
)

// authenticate starts a mechanism.
func (s *session) authenticate(ctx context.Context, line []byte) []reply {
	name, initial, err := tsp.ParseAuthenticate(line)
	if err != nil {
		return s.refuseFor(err)
	}
	if name == sasl.Anonymous && s.config.Anonymous && initial == nil {
		s.state = command
		return []reply{tsp.Success.Message(false).Bytes()}
	}
	if !slices.Contains(s.config.Mechanisms, name) {
		return s.failed("other", tsp.AuthFailed)
	}
	if s.login, err = s.verifier.Start(name, s.source()); err != nil {
		return s.refuseFor(err)
	}
	s.state = proving
	return s.next(ctx, initial)
}

// prove takes the next message of the mechanism.
func (s *session) prove(ctx context.Context, line []byte) []reply {
	in, err := tsp.ParseAuthLine(s.login.Mechanism(), line)
	if err != nil {
		return s.failed(s.login.Mechanism(), tsp.AuthFailed)
	}
	return s.next(ctx, in)
}

// next lets the mechanism go on. Behind its last message comes the verdict.
func (s *session) next(ctx context.Context, in []byte) []reply {
	out, done, err := s.login.Next(ctx, in)
	if err != nil {
		return s.notIn(err)
	}
	all := silence
	if out != nil {
		all = []reply{tsp.AuthLine(s.login.Mechanism(), out)}
	}
	if !done {
		return all
	}
	s.user, s.state = s.login.User(), command
	s.proven = s.proven || s.login.Mechanism() != sasl.Plain
	verdict := reply(tsp.Success.Message(false).Bytes())
	if out == nil {
		return []reply{verdict}
	}
	return append(all, verdict)
}

// notIn answers a login that went wrong.
func (s *session) notIn(err error) []reply {
	switch {
	case errors.Is(err, account.ErrBusy):
		s.state = login
		return s.refuse(tsp.Busy)
	case errors.Is(err, sasl.ErrAuth), errors.Is(err, sasl.ErrProtocol):
		return s.failed(s.login.Mechanism(), tsp.AuthFailed)
	}
	s.state = login
	return s.refuseFor(err)
}

// failed refuses a login; the client may try another.
func (s *session) failed(mechanism string, code tsp.Code) []reply {
	s.counters.count(func(c *Stats) { c.AuthFailures[mechanism]++ })
	s.state, s.login = login, nil
	return s.refuse(code)
}
