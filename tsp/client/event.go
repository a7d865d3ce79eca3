package client

import (
	"net/netip"
	"time"

	"sixin4/tsp"
)

// Event is something that Config.Observe is told: one of the types below.
type Event interface{ event() }

type (
	// Connecting: a server's turn has come.
	Connecting struct{ Server Server }

	// Connected: the broker has answered the VERSION line that it took.
	Connected struct {
		Broker    netip.AddrPort
		Local     netip.Addr
		Transport Transport
		Version   tsp.Version
	}

	// Requesting: the broker is being asked for a tunnel.
	Requesting struct{}

	// Offered: the broker gave a tunnel, which may still be turned down.
	Offered struct{ Tunnel *tsp.Tunnel }

	// Redirected: the broker sent us to others, in the order of its list.
	Redirected struct{ Brokers []tsp.Broker }

	// Up: the tunnel carries packets.
	Up struct{ Lease *Lease }

	// Failed: an attempt has ended without a lease, the next one comes in RetryIn. There
	// is none of it for the failure that Run returns.
	Failed struct {
		Err     error // an Error
		RetryIn time.Duration
	}

	// Lost: the tunnel carries no packets any more.
	Lost struct{ Err error } // an Error of stage Keepalive or Expired

	// Renewing: the lifetime of the lease comes to its end.
	Renewing struct{}

	// AddressChanged: the tunnel ends at an address that this host has no more.
	AddressChanged struct{ Old, New netip.Addr }
)

func (Connecting) event()     {}
func (Connected) event()      {}
func (Requesting) event()     {}
func (Offered) event()        {}
func (Redirected) event()     {}
func (Up) event()             {}
func (Failed) event()         {}
func (Lost) event()           {}
func (Renewing) event()       {}
func (AddressChanged) event() {}
