package tsptest

import (
	"errors"
	"net/netip"
	"slices"

	"sixin4/tsp"
	"sixin4/tsp/sasl"
)

// answer is one thing that a broker says; an empty text is a bare header in
// datagrams and nothing on a stream.
type answer struct {
	step Step
	text []byte
}

type state uint8

const (
	atHello state = iota
	atAuthenticate
	inMechanism
	atCommand
	atAccept
	over
)

// dialogue is one session without its transport. It is for one goroutine.
type dialogue struct {
	b         *Broker
	config    Config
	number    int // of the session, from 0
	note      *Session
	state     state
	mechanism sasl.Server
}

// newDialogue begins a session with its first message.
func (b *Broker) newDialogue(network string, from netip.AddrPort) *dialogue {
	d := &dialogue{b: b, config: b.settings(), note: &Session{Network: network, From: from}}
	b.note(func() {
		d.number = len(b.sessions)
		b.sessions = append(b.sessions, d.note)
	})
	return d
}

// faulty reports whether this session is to be spoilt.
func (d *dialogue) faulty() bool { return d.config.Faulty == 0 || d.number < d.config.Faulty }

// fault is what to do to an answer at a step.
func (d *dialogue) fault(s Step) (Fault, bool) {
	if !d.faulty() {
		return Fault{}, false
	}
	f, ok := d.config.Faults[s]
	if !ok || f.Network != "" && f.Network != d.note.Network {
		return Fault{}, false
	}
	return f, true
}

// say lists the answers to a message. Each is to be sent by itself.
func (d *dialogue) say(m tsp.Message) []answer {
	d.config = d.b.settings()
	d.b.note(func() { d.note.Messages++ })
	switch d.state {
	case atHello:
		return d.hello(m)
	case atAuthenticate:
		return d.authenticate(m)
	case inMechanism:
		in, err := tsp.ParseAuthLine(d.mechanism.Name(), m.Line)
		if err != nil {
			return d.refuse(Verdict, tsp.AuthFailed)
		}
		return d.mechanismSays(in)
	case atCommand, atAccept:
		return d.command(m)
	}
	return d.refuse(Accept, tsp.ServerError)
}

// refuse ends a session with a status.
func (d *dialogue) refuse(s Step, code tsp.Code) []answer {
	d.state = over
	d.config.Logger.Info("refused", "from", d.note.From, "step", s, "code", int(code))
	return []answer{{s, code.Message(s >= Create).Bytes()}}
}

// diverted is what the configuration puts in place of an answer.
func (d *dialogue) diverted(s Step) ([]answer, bool) {
	if !d.faulty() {
		return nil, false
	}
	if code, ok := d.config.Refuse[s]; ok {
		return d.refuse(s, code), true
	}
	brokers, ok := d.config.Redirect[s]
	if !ok {
		return nil, false
	}
	m, err := tsp.RedirectMessage(brokers, s >= Create)
	if err != nil {
		panic(err) // the test has a list that cannot be written
	}
	d.state = over
	return []answer{{s, m.Bytes()}}, true
}

// refusal is the code of an error.
func refusal(err error) tsp.Code {
	var status *tsp.Error
	if errors.As(err, &status) {
		return status.Code
	}
	return tsp.ServerError
}

func (d *dialogue) hello(m tsp.Message) []answer {
	v, err := tsp.ParseVersion(m.Line)
	if err != nil {
		return d.refuse(Hello, refusal(err))
	}
	d.b.note(func() { d.note.Version = v })
	if other, ok := d.diverted(Hello); ok {
		return other
	}
	if !slices.Contains(d.config.Versions, v) {
		return d.refuse(Hello, tsp.BadVersion)
	}
	d.state = atAuthenticate
	return []answer{{Hello, d.config.Offers.Line()}}
}

func (d *dialogue) authenticate(m tsp.Message) []answer {
	name, initial, err := tsp.ParseAuthenticate(m.Line)
	if err != nil {
		return d.refuse(Verdict, refusal(err))
	}
	d.b.note(func() { d.note.Mechanism = name })
	if other, ok := d.diverted(Authenticate); ok {
		return other
	}
	if !slices.Contains(d.config.Offers.Auths, name) {
		return d.refuse(Verdict, tsp.AuthFailed)
	}
	if d.mechanism, err = d.newMechanism(name); err != nil {
		return d.refuse(Verdict, tsp.AuthFailed)
	}
	d.state = inMechanism
	return d.mechanismSays(initial)
}

func (d *dialogue) newMechanism(name string) (sasl.Server, error) {
	users, realm := d.config.Users, d.config.Realm
	switch name {
	case sasl.Anonymous:
		return sasl.NewAnonymousServer(), nil
	case sasl.Plain:
		return sasl.NewPlainServer(func(user, password string) bool {
			want, ok := users[user]
			return sasl.SamePassword(password, want) && ok
		}), nil
	case sasl.DigestMD5:
		return sasl.NewDigestServer(sasl.DigestConfig{
			Realm: realm, Nonce: d.config.Nonce,
			Lookup: func(user string) (sasl.Digest, bool) {
				password, ok := users[user]
				return sasl.NewDigest(user, realm, password), ok
			},
		})
	case sasl.ScramSHA256:
		return sasl.NewScramServer(d.b.scramKeys)
	}
	return nil, errors.ErrUnsupported
}

func (d *dialogue) mechanismSays(in []byte) []answer {
	out, done, err := d.mechanism.Next(in)
	if err != nil {
		return d.refuse(Verdict, tsp.AuthFailed)
	}
	var all []answer
	if out != nil {
		all = append(all, answer{Authenticate, tsp.AuthLine(d.mechanism.Name(), out)})
	}
	if !done {
		return all
	}
	if other, ok := d.diverted(Verdict); ok {
		return append(all, other...)
	}
	d.b.note(func() { d.note.User = d.mechanism.User() })
	d.state = atCommand
	return append(all, answer{Verdict, tsp.Success.Message(false).Bytes()})
}

func (d *dialogue) command(m tsp.Message) []answer {
	r, err := tsp.ParseRequest(m.XML)
	switch {
	case err != nil:
		return d.refuse(Create, refusal(err))
	case d.state == atCommand && r.Action == tsp.ActionCreate:
		return d.create(r)
	case d.state == atAccept && r.Action == tsp.ActionAccept:
		d.state = over
		if other, ok := d.diverted(Accept); ok {
			return other
		}
		d.accepted()
		return []answer{{Accept, nil}}
	}
	return d.refuse(Create, tsp.ServerError)
}

func (d *dialogue) create(r *tsp.Request) []answer {
	d.b.note(func() { d.note.Request = r })
	if other, ok := d.diverted(Create); ok {
		return other
	}
	t, err := d.config.Answer(r, d.note.From.Addr())
	if err != nil {
		return d.refuse(Create, refusal(err))
	}
	m, err := t.Message()
	if err != nil {
		d.config.Logger.Error("offer", "error", err)
		return d.refuse(Create, tsp.ServerError)
	}
	d.b.note(func() { d.note.Tunnel = t })
	if d.state = atAccept; !d.note.Version.Accepts() {
		d.state = over
		d.accepted()
	}
	return []answer{{Create, m.Bytes()}}
}

func (d *dialogue) accepted() {
	d.b.note(func() {
		d.note.Accepted = true
		d.b.accepts = append(d.b.accepts, d.note)
	})
	d.config.Logger.Info("accepted", "from", d.note.From, "user", d.note.User, "tunnel", d.note.Tunnel.Type)
}
