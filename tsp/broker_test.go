package tsp_test

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"regexp"

	"sixin4/tsp"
	"sixin4/tsp/sasl"
)

// broker is the least that can be called one: what it says is built by the library
// from what was understood of a recording, or set by a test.
type broker struct {
	version   tsp.Version // the newest it speaks
	offer     tsp.Capability
	redirect  []tsp.Broker
	atCreate  bool // redirect there and not at VERSION
	realm     string
	nonce     func() string
	tunnel    *tsp.Tunnel
	scramKeys sasl.ScramKeys

	state     brokerState
	mechanism sasl.Server
	created   int
	accepted  int
}

type brokerState uint8

const (
	atHello brokerState = iota
	atAuthenticate
	inMechanism
	atCommand
	atAccept
	over
)

var nonceOf = regexp.MustCompile(`realm="?([^",]*)"?,nonce="?([^",]*)`)

// brokerOf makes the broker that a connection was recorded from.
func brokerOf(c connection) (*broker, error) {
	b := &broker{version: tsp.V202, realm: "Freenet6"}
	for i, text := range c.texts(false) {
		m, err := tsp.ParseAnswer(text)
		if err != nil {
			return nil, err
		}
		var status *tsp.Error
		if errors.As(m.Err(), &status) && status.Code == tsp.BadVersion {
			b.version = tsp.V101
		} else if len(m.XML) > 0 && status != nil {
			b.redirect, b.atCreate = status.Brokers, i > 0
		} else if m.XML != nil {
			if b.tunnel, err = tsp.ParseTunnel(m.XML); err != nil {
				return nil, err
			}
		} else if challenge, err := base64.StdEncoding.DecodeString(string(m.Line)); err == nil {
			if found := nonceOf.FindSubmatch(challenge); found != nil {
				b.realm, b.nonce = string(found[1]), func() string { return string(found[2]) }
			}
		} else if offer, err := tsp.ParseCapability(m.Line); err == nil {
			b.offer = offer
		}
	}
	if b.tunnel != nil && len(b.tunnel.DNS) == 0 {
		b.tunnel.DNS = []netip.Addr{netip.MustParseAddr("2001:db8::53")}
	}
	return b, nil
}

// answers are what the broker says to a message, each to be written by itself.
func (b *broker) answers(m tsp.Message) [][]byte {
	switch b.state {
	case atHello:
		return b.hello(m)
	case atAuthenticate:
		return b.authenticate(m)
	case inMechanism:
		in, err := tsp.ParseAuthLine(b.mechanism.Name(), m.Line)
		if err != nil {
			return b.refuse(tsp.AuthFailed, false)
		}
		return b.step(in)
	case atCommand, atAccept:
		return b.command(m)
	}
	return b.refuse(tsp.ServerError, m.Framed)
}

func (b *broker) refuse(code tsp.Code, framed bool) [][]byte {
	b.state = over
	return [][]byte{code.Message(framed).Bytes()}
}

func (b *broker) hello(m tsp.Message) [][]byte {
	v, err := tsp.ParseVersion(m.Line)
	var status *tsp.Error
	if errors.As(err, &status) {
		return b.refuse(status.Code, false)
	}
	if v > b.version {
		return b.refuse(tsp.BadVersion, false)
	}
	if b.redirect != nil && !b.atCreate {
		return b.sendAway(false)
	}
	b.state = atAuthenticate
	return [][]byte{b.offer.Line()}
}

func (b *broker) sendAway(framed bool) [][]byte {
	m, err := tsp.RedirectMessage(b.redirect, framed)
	if err != nil {
		panic(err)
	}
	b.state = over
	return [][]byte{m.Bytes()}
}

func (b *broker) authenticate(m tsp.Message) [][]byte {
	name, initial, err := tsp.ParseAuthenticate(m.Line)
	if err != nil {
		return b.refuse(tsp.AuthFailed, false)
	}
	switch name {
	case sasl.Anonymous:
		b.mechanism = sasl.NewAnonymousServer()
	case sasl.Plain:
		b.mechanism = sasl.NewPlainServer(func(user, password string) bool {
			return sasl.SamePassword(user, "alice") && sasl.SamePassword(password, "secret")
		})
	case sasl.DigestMD5:
		b.mechanism, err = sasl.NewDigestServer(sasl.DigestConfig{Realm: b.realm, Nonce: b.nonce,
			Lookup: func(user string) (sasl.Digest, bool) {
				return sasl.NewDigest("alice", b.realm, "secret"), user == "alice"
			}})
	case sasl.ScramSHA256:
		b.mechanism, err = sasl.NewScramServer(func(user string) (sasl.ScramKeys, bool) {
			return b.scramKeys, user == "alice"
		})
	default:
		return b.refuse(tsp.AuthFailed, false)
	}
	if err != nil {
		panic(err)
	}
	b.state = inMechanism
	return b.step(initial)
}

func (b *broker) step(in []byte) [][]byte {
	out, done, err := b.mechanism.Next(in)
	if err != nil {
		return b.refuse(tsp.AuthFailed, false)
	}
	var answers [][]byte
	if out != nil {
		answers = append(answers, tsp.AuthLine(b.mechanism.Name(), out))
	}
	if done {
		b.state = atCommand
		answers = append(answers, tsp.Success.Message(false).Bytes())
	}
	return answers
}

func (b *broker) command(m tsp.Message) [][]byte {
	r, err := tsp.ParseRequest(m.XML)
	var status *tsp.Error
	if errors.As(err, &status) {
		return b.refuse(status.Code, true)
	}
	switch {
	case b.state == atCommand && r.Action == tsp.ActionCreate && b.redirect != nil:
		return b.sendAway(true)
	case b.state == atCommand && r.Action == tsp.ActionCreate:
		b.state = atAccept
		b.created++
		offer, err := b.tunnel.Message()
		if err != nil {
			panic(err)
		}
		return [][]byte{offer.Bytes()}
	case b.state == atAccept && r.Action == tsp.ActionAccept:
		b.state = over
		b.accepted++
		return nil
	}
	return b.refuse(tsp.ServerError, true)
}
