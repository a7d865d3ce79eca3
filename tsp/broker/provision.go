package broker

import (
	"context"
	"net"
	"net/netip"

	"sixin4/tsp"
	"sixin4/tsp/broker/account"
)

// The accounts, as package account needs them.
type (
	User     = account.User
	Accounts = account.Accounts
)

// ErrNoUser is what Accounts.Lookup wraps for a name that has no account.
var ErrNoUser = account.ErrNoUser

// Provisioner has the addresses and makes the tunnels. Any number of goroutines use
// it. The contexts have a deadline.
type Provisioner interface {
	// Offer reserves what a client asks for. An error that is a *tsp.Error is answered
	// with its code, a redirection with its brokers; any other is status 310.
	Offer(ctx context.Context, ask Ask) (*Grant, error)

	// Accept makes the tunnel of a grant carry packets, now. The error is as that of
	// Offer; then Close follows with keep false.
	Accept(ctx context.Context, g *Grant) error

	// Close is called at most once for a grant. When keep is false nobody wants it: it
	// was not accepted, or the client deleted it. When keep is true the tunnel is up,
	// and the client has closed its TCP connection, which is the only goodbye there is:
	// it may have ended, or lost the connection only, so the tunnel lives on for a grace
	// time. There is no Close for a tunnel that is up when the session was over UDP, or
	// the broker closed the connection or ends: its keepalive tells how it does.
	Close(g *Grant, keep bool)
}

// Ask is what a client asks for.
type Ask struct {
	User    *User        // nil: anonymous
	Request *tsp.Request // as it came; see Type and Outer for what it comes to
	Version tsp.Version

	Type  tsp.Type   // tsp.V6V4 or tsp.V6UDPV4
	Outer netip.Addr // the client's end of the tunnel: From, or with proxy what it announced

	From netip.AddrPort // of the session; with tsp.V6UDPV4 of the packets too
	Conn net.PacketConn // that the session came by; nil over TCP
	// Hears: the client has shown that it hears what is sent to From, so that this is its
	// own address: over TCP always, over UDP by a login that answers a challenge.
	Hears bool

	Merged bool // the client takes merged TCP, as tsp.Request.Merged has it
}

// PrefixLen is the length of the prefix that the asker should be given, 0 for none.
// What may not be had is a *tsp.Error: any prefix for an anonymous user, one shorter
// than the account's, one longer than 64. Who names no length gets the account's.
func (a Ask) PrefixLen() (int, error) {
	if a.Request.Router == nil {
		return 0, nil
	}
	n := a.Request.Router.PrefixLen
	switch {
	case a.User == nil:
		return 0, &tsp.Error{Code: tsp.PrefixAnonymous}
	case a.User.PrefixLen == 0:
		return 0, &tsp.Error{Code: tsp.PrefixUnavailable}
	case n == 0:
		return a.User.PrefixLen, nil
	case n < a.User.PrefixLen:
		return 0, &tsp.Error{Code: tsp.PrefixUnavailable}
	case n > 64:
		return 0, &tsp.Error{Code: tsp.BadPrefixLength}
	}
	return n, nil
}

// Grant is a tunnel that was reserved. It is not changed any more.
type Grant struct {
	ID     string      // the Provisioner's own; for the log
	Tunnel *tsp.Tunnel // as offered: of the type and with the outer address that were asked for, and with a resolver
}
