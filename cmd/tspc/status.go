package main

import (
	"errors"
	"os"
	"syscall"

	"sixin4/cmd/internal/exit"
	"sixin4/encap/keepalive"
	"sixin4/tsp"
	"sixin4/tsp/client"
	"sixin4/tsp/sasl"
)

// The exit statuses of gogoCLIENT, as far as they can occur here.
const (
	statusFine           = 0
	statusConfiguration  = 3
	statusClientAddress  = 5
	statusLog            = 6
	statusLastServer     = 7
	statusResolve        = 8
	statusConnect        = 9
	statusSocket         = 10
	statusVersion        = 11
	statusBusy           = 12
	statusRefused        = 13
	statusRedirect       = 14
	statusMode           = 15
	statusAuthentication = 16
	statusMechanism      = 17
	statusSetup          = 18
	statusTunnelData     = 19
	statusKeepalive      = 20
	statusSilent         = 21
	statusExpired        = 22
	statusTunnel         = 23
)

// failure is an error that knows its exit status.
type failure struct {
	status int
	err    error
}

func (f failure) Error() string { return f.err.Error() }
func (f failure) Unwrap() error { return f.err }

// situation is what else decides about an exit status.
type situation struct {
	anonymous bool // nobody logs in
	up        bool // there was a tunnel at the end
	stopped   bool // by a signal
}

// statusOf is the exit status for err, of which nil is fine.
func statusOf(err error, at situation) int {
	var known failure
	var negotiation *client.Error
	code := exit.Code(err)
	switch {
	case err == nil:
		return statusFine
	case errors.As(err, &known):
		return known.status
	case errors.As(err, &negotiation):
		return negotiationStatus(negotiation, at)
	case code == exit.Config, code == exit.Usage: // a value that only this host shows to be wrong
		return statusConfiguration
	case at.up && !at.stopped:
		return statusTunnel
	}
	return statusSetup // also a missing privilege or device, and an end that did not undo all
}

func negotiationStatus(e *client.Error, at situation) int {
	var refusal *tsp.Error
	errors.As(e, &refusal)
	switch e.Stage {
	case client.Resolve:
		return statusResolve
	case client.Redirect:
		return statusRedirect
	case client.Offer:
		return statusMode
	case client.Setup:
		return statusSetup
	case client.Expired:
		return statusExpired
	case client.Keepalive:
		if errors.Is(e, keepalive.ErrDead) {
			return statusSilent
		}
		return statusKeepalive
	}
	switch {
	case errors.Is(e, tsp.ErrBadTunnel), e.Stage == client.Create && errors.Is(e, tsp.ErrMalformed):
		return statusTunnelData
	case refusal != nil:
		return refusalStatus(e.Stage, refusal.Code, at)
	case errors.Is(e, sasl.ErrNoMechanism):
		return statusMechanism
	case errors.Is(e, tsp.ErrMalformed):
		return statusRefused
	case e.Stage == client.Connect:
		return connectStatus(e)
	case errors.Is(e, sasl.ErrAuth), errors.Is(e, sasl.ErrProtocol):
		return statusAuthentication
	}
	return statusSocket // the broker went silent, or away, half way
}

// refusalStatus is for a status of the broker. Anonymous users have not given a wrong
// password, so for them it is a refusal like others.
func refusalStatus(stage client.Stage, code tsp.Code, at situation) int {
	switch {
	case code.Redirects():
		return statusRedirect
	case stage == client.Hello && code == tsp.BadVersion:
		return statusVersion
	case stage == client.Hello && code == tsp.Busy:
		return statusBusy
	case stage == client.Authenticate && code == tsp.AuthFailed && !at.anonymous:
		return statusAuthentication
	}
	return statusRefused
}

// connectStatus tells what this host refuses from what the network does.
func connectStatus(err error) int {
	var call *os.SyscallError
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return statusClientAddress
	case errors.As(err, &call) && call.Syscall == "socket":
		return statusSocket
	}
	return statusConnect
}
