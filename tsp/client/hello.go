package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"sixin4/tsp"
)

// headStart is how long UDP is given before TCP is tried beside it.
const headStart = 500 * time.Millisecond

// greeting is the answer to a VERSION line. With an error the connection of its link is
// closed.
type greeting struct {
	*link
	err error // an Error
}

// decides reports whether it was a broker that answered, be it to refuse.
func (g greeting) decides() bool {
	var e *Error
	return g.err == nil || errors.As(g.err, &e) && e.status() != nil
}

// drop gives up a greeting that came second.
func (g greeting) drop() {
	if g.link != nil && g.err == nil {
		g.conn.Close()
	}
}

// hello goes down the ladder of versions until the broker takes one. Each is tried on a
// connection, and so a port, of its own, over the transport that the broker answered on.
func (a *attempt) hello(ctx context.Context, where place) (*link, error) {
	v, over := tsp.V202, a.cfg.Transport
	if a.cfg.Request.Type == tsp.V6UDPV4 {
		over = UDP
	}
	g := a.greet(ctx, where, v, over)
	for refusesVersion(g.err) {
		over = g.over
		older, ok := v.Older()
		if older == tsp.V101 {
			over, ok = TCP, a.speaksV101()
		}
		if !ok {
			break
		}
		next := a.greet(ctx, where, older, over)
		if !next.decides() && over != g.over { // there is no TCP, so the refusal stands
			break
		}
		v, g = older, next
	}
	return g.link, g.err
}

// speaksV101 reports whether what is wanted can be had in version 1.0.1: it makes v6v4
// only, and knows no datagrams.
func (a *attempt) speaksV101() bool {
	return a.cfg.Request.Type.Allows(tsp.V6V4) && a.cfg.Transport != UDP
}

func refusesVersion(err error) bool {
	var status *tsp.Error
	return errors.As(err, &status) && status.Code == tsp.BadVersion
}

// greet says a version over one transport, or over both.
func (a *attempt) greet(ctx context.Context, where place, v tsp.Version, over Transport) greeting {
	if over != Auto {
		return a.knock(ctx, where, v, over)
	}
	return a.race(ctx, where, v)
}

// race says a version over UDP, and over TCP as soon as UDP has failed or had its head
// start. Whoever is answered first wins, and the other connection is closed.
func (a *attempt) race(ctx context.Context, where place, v tsp.Version) greeting {
	ctx, cancel := context.WithCancel(ctx)
	answers, running := make(chan greeting), 0
	knock := func(over Transport) {
		running++
		go func() { answers <- a.knock(ctx, where, v, over) }()
	}
	defer func() {
		for cancel(); running > 0; running-- {
			(<-answers).drop()
		}
	}()
	late := time.NewTimer(headStart)
	defer late.Stop()
	knock(UDP)
	var lost []greeting
	for alone := true; running > 0; alone = false {
		select {
		case <-late.C:
		case g := <-answers:
			running--
			if g.decides() {
				return g
			}
			lost = append(lost, g)
		}
		if alone {
			knock(TCP)
		}
	}
	return neither(where, lost)
}

// neither is the greeting when both transports have failed. It was a broker when one of
// them got as far as that.
func neither(where place, lost []greeting) greeting {
	stage, text := Connect, make([]string, len(lost))
	causes := make([]error, len(lost))
	for i, g := range lost {
		e := asError(g.err, where.server)
		if e.Stage != Connect {
			stage = e.Stage
		}
		causes[i], text[i] = e.Err, fmt.Sprintf("over %s: %v", g.over, e.Err)
	}
	return greeting{lost[0].link, fail(stage, where.server, &bothError{strings.Join(text, "; "), causes})}
}

// bothError is a text for several errors.
type bothError struct {
	text   string
	causes []error
}

func (e *bothError) Error() string   { return e.text }
func (e *bothError) Unwrap() []error { return e.causes }
