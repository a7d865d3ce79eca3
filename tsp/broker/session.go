package broker

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"sixin4/tsp"
	"sixin4/tsp/broker/account"
)

// state is how far a session is.
type state uint8

const (
	greeting state = iota // waits for VERSION
	login                 // waits for AUTHENTICATE
	proving               // waits for a message of the mechanism
	command               // waits for create
	offered               // waits for accept
	up                    // the tunnel carries packets
	over
)

// framed reports whether what is refused in a state is refused with a Content-length.
func (s state) framed() bool { return s >= command }

// lines are the moves that a line makes.
var lines = map[state]func(s *session, ctx context.Context, line []byte) []reply{
	greeting: (*session).greet,
	login:    (*session).authenticate,
	proving:  (*session).prove,
}

// commands are the moves that a command makes.
var commands = map[state]map[tsp.Action]func(s *session, ctx context.Context, r *tsp.Request) []reply{
	command: {tsp.ActionCreate: (*session).create},
	offered: {
		tsp.ActionAccept: (*session).accept,
		tsp.ActionReject: (*session).forget,
		tsp.ActionDelete: (*session).forget,
		tsp.ActionInfo:   (*session).info,
	},
	up: {tsp.ActionInfo: (*session).info, tsp.ActionDelete: (*session).forget},
}

// reply is one thing to say: nothing on a stream and a bare header in datagrams when
// it is nil.
type reply []byte

// silence is the answer to what has none on a stream.
var silence = []reply{nil}

// session is one dialogue without its transport. It is for one goroutine at a time.
type session struct {
	*Server
	from   netip.AddrPort
	socket net.PacketConn // nil over TCP
	room   int            // for an answer in bytes; 0: any

	state    state
	messages int
	errors   int
	begun    time.Time
	version  tsp.Version
	login    *account.Login
	proven   bool // the client has shown that it hears us
	user     *User
	grant    *Grant
}

func (s *Server) newSession(from netip.AddrPort, socket net.PacketConn) *session {
	n := &session{Server: s, from: from, socket: socket, begun: time.Now()}
	s.counters.count(func(c *Stats) { c.Sessions[n.transport()]++ })
	return n
}

func (s *session) transport() string {
	if s.socket != nil {
		return "udp"
	}
	return "tcp"
}

// source is what the client is counted by.
func (s *session) source() account.Source {
	return account.Source{Addr: account.SourceOf(s.from.Addr()), Datagram: s.socket != nil}
}

// say lists the answers to a message. Each is to be sent by itself.
func (s *session) say(ctx context.Context, m tsp.Message) []reply {
	ctx, cancel := context.WithTimeout(ctx, s.config.Limits.Message)
	defer cancel()
	if s.messages++; s.messages > s.config.Limits.Messages {
		s.errors = s.config.Limits.Errors
		return s.refuse(tsp.Busy)
	}
	if m.Framed && m.Line == nil {
		return s.obey(ctx, m.XML)
	}
	move := lines[s.state]
	if m.Framed || move == nil {
		return s.refuse(tsp.BadRequest)
	}
	return move(s, ctx, m.Line)
}

// obey runs a command.
func (s *session) obey(ctx context.Context, doc []byte) []reply {
	r, err := tsp.ParseRequest(doc)
	if err != nil {
		return s.refuseFor(err)
	}
	move := commands[s.state][r.Action]
	switch {
	case move != nil:
		return move(s, ctx, r)
	case s.state.framed():
		return s.refuse(tsp.ServerError) // not now: there is nothing to do it to
	}
	return s.refuse(tsp.BadRequest)
}

// refuse answers with a status.
func (s *session) refuse(code tsp.Code) []reply {
	framed := s.state.framed()
	if s.errors++; s.errors >= s.config.Limits.Errors {
		s.end()
	}
	s.counters.count(func(c *Stats) { c.Codes[code]++ })
	s.config.Logger.Debug("refused", keyFrom, s.from, keyCode, int(code))
	return []reply{code.Message(framed).Bytes()}
}

// refuseFor answers with the status of an error. A status that is not one to refuse
// with, and any other error, are our own fault.
func (s *session) refuseFor(err error) []reply {
	var status *tsp.Error
	switch {
	case errors.As(err, &status) && status.Code.Redirects() && len(status.Brokers) > 0:
		return s.refuseWith(status.Brokers)
	case errors.As(err, &status) && status.Code >= tsp.AuthFailed && !status.Code.Redirects():
		return s.refuse(status.Code)
	case errors.Is(err, context.DeadlineExceeded):
		return s.refuse(tsp.Busy)
	}
	s.config.Logger.Error("session", keyFrom, s.from, keyError, err)
	return s.refuse(tsp.ServerError)
}

// refuseWith sends the client to as many brokers as there is room for, or tells it to
// come later.
func (s *session) refuseWith(brokers []tsp.Broker) []reply {
	text := s.redirection(brokers)
	if text == nil {
		return s.refuse(tsp.Busy)
	}
	s.counters.count(func(c *Stats) { c.Codes[tsp.Redirection]++ })
	s.end()
	return []reply{text}
}

// redirection is the longest list of brokers that there is room for, nil for none.
// Clients older than 2.0.1 cannot read it.
func (s *session) redirection(brokers []tsp.Broker) []byte {
	if s.version != tsp.V201 && s.version != tsp.V202 {
		return nil
	}
	for n := len(brokers); n > 0; n-- {
		m, err := tsp.RedirectMessage(brokers[:n], s.state.framed())
		if err != nil {
			s.config.Logger.Error("redirect", keyError, err)
			return nil
		}
		if text := m.Bytes(); s.fits(text) {
			return text
		}
	}
	return nil
}

// fits reports whether there is room for an answer.
func (s *session) fits(text []byte) bool { return s.room == 0 || s.proven || len(text) <= s.room }

// divert sends the client away before it gets a tunnel: to other brokers, or to come
// back later when there are to be no more tunnels here.
func (s *session) divert() ([]reply, bool) {
	draining := s.draining.Load()
	if list := s.config.Redirect.Brokers; len(list) > 0 && (draining || s.redirected()) {
		if s.redirection(list) != nil {
			return s.refuseWith(list), true
		}
	}
	if draining {
		return s.refuse(tsp.Busy), true
	}
	return nil, false
}

// redirected reports whether this client is sent on in a broker that goes on.
func (s *session) redirected() bool {
	when := s.config.Redirect.When
	return when == nil || s.state == command && when(s.user, s.from)
}

// greet takes a version. Where a redirection does not fit, it comes later.
func (s *session) greet(_ context.Context, line []byte) []reply {
	v, err := tsp.ParseVersion(line)
	if err != nil {
		return s.refuseFor(err)
	}
	s.version = v
	if !slices.Contains(s.config.Versions, v) {
		return s.refuse(tsp.BadVersion)
	}
	if other, ok := s.divert(); ok {
		return other
	}
	s.state = login
	for _, hello := range s.hellos {
		if s.fits(hello) {
			return []reply{hello}
		}
	}
	return []reply{s.hellos[len(s.hellos)-1]}
}

// end ends the session; an offer that was not accepted is free again.
func (s *session) end() {
	s.release(false)
	s.state = over
}

// release gives up an offer that was not accepted, and a tunnel that is up when the
// client said goodbye to it.
func (s *session) release(goodbye bool) {
	if s.grant != nil && (s.state == offered || goodbye) {
		s.config.Provisioner.Close(s.grant, s.state == up)
	}
	s.grant = nil
}

// The attributes of log lines.
const (
	keyFrom      = "from"
	keyTransport = "transport"
	keyUser      = "user"
	keyMechanism = "mechanism"
	keyCode      = "code"
	keyError     = "error"
	keyID        = "id"
	keyType      = "type"
	keyOuter     = "outer"
	keyInner     = "inner"
	keyPrefix    = "prefix"
)
