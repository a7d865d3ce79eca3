package client

import (
	"context"
	"errors"
	"slices"
	"syscall"

	"sixin4/tsp"
	"sixin4/tsp/sasl"
)

// Stage is how far an attempt came.
type Stage string

// The stages, in their order.
const (
	Resolve      Stage = "resolve"      // the server has no address
	Connect      Stage = "connect"      // nobody answers
	Hello        Stage = "hello"        // no common version, or busy, or no broker at all
	Redirect     Stage = "redirect"     // to nowhere, or in a circle
	Authenticate Stage = "authenticate" // refused, no common mechanism, or not to be trusted
	Offer        Stage = "offer"        // the broker does not make tunnels of this type
	Create       Stage = "create"       // refused, or not a tunnel that may be set up
	Accept       Stage = "accept"       // the broker took its offer back
	Setup        Stage = "setup"        // this host cannot do it
	Keepalive    Stage = "keepalive"    // the far end of the tunnel is silent
	Expired      Stage = "expired"      // the lifetime is over, and nobody knows what that means
)

// Error is why there is no tunnel.
type Error struct {
	Stage  Stage
	Server string // as Server.String has it
	Err    error

	repeated bool // the broker may have taken a message for two
}

func (e *Error) Error() string {
	if e.Stage == Setup { // not the server's doing
		return "set up the tunnel of " + e.Server + ": " + e.Err.Error()
	}
	return e.Server + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// final are the statuses that a broker will answer the same request with next time.
var final = []tsp.Code{
	tsp.AuthFailed, tsp.BadVersion, tsp.BadType, tsp.BadRequest, tsp.BadIPv4, tsp.BadIPv6,
	tsp.PrefixUnavailable, tsp.BadDelegation, tsp.BadPrefixLength, tsp.NoPrefixLength, tsp.PrefixAnonymous,
}

// Permanent reports whether trying again will not mend it: user or password are wrong,
// this broker cannot give what is asked for, or this host cannot take it.
//
// A status that came after a datagram had to be repeated is never taken for permanent:
// there are brokers that answer a repeated VERSION as if it were the next message, which is
// a failed authentication.
func (e *Error) Permanent() bool {
	if e.repeated {
		return false
	}
	if status := e.status(); status != nil {
		return slices.Contains(final, status.Code)
	}
	return e.Stage == Offer || e.Stage == Setup && !e.passing() || errors.Is(e.Err, sasl.ErrNoMechanism) || errors.Is(e.Err, sasl.ErrAuth) ||
		errors.Is(e.Err, errCredentials)
}

// passing reports whether it may be that only the network of this host is on its way up
// or down.
func (e *Error) passing() bool {
	return slices.ContainsFunc([]error{
		context.DeadlineExceeded, syscall.EADDRNOTAVAIL, syscall.ENETDOWN, syscall.ENETUNREACH, syscall.EHOSTUNREACH,
	}, func(cause error) bool { return errors.Is(e.Err, cause) })
}

// errCredentials marks what a mechanism does not take.
var errCredentials = errors.New("credentials")

// status is the broker's answer, nil when it is none.
func (e *Error) status() *tsp.Error {
	var status *tsp.Error
	errors.As(e.Err, &status)
	return status
}

// unreached reports whether there was no broker to speak with, so that another one may
// be in its place.
func (e *Error) unreached() bool {
	return e.Stage == Resolve || e.Stage == Connect || e.Stage == Hello && e.status() == nil
}

// fail makes the Error of a stage.
func fail(stage Stage, server Server, err error) *Error {
	return &Error{Stage: stage, Server: server.String(), Err: err}
}

// asError is err as the Error that it is; anything else kept us from a broker.
func asError(err error, server Server) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Stage: Connect, Server: server.String(), Err: err}
}
