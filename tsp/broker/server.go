package broker

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"sixin4/tsp/broker/account"
	"sixin4/tsp/broker/internal/bucket"
)

// Server is a broker. Any number of goroutines may use it.
type Server struct {
	config   Config
	verifier *account.Verifier
	hellos   [][]byte // the CAPABILITY lines, the first that fits is said

	gate      *gate
	starts    *bucket.Table[start]
	datagrams *bucket.Table[netip.Addr]
	draining  atomic.Bool
	counters  counters
}

// start is what the sessions of a source are counted by.
type start struct {
	source netip.Addr
	udp    bool
}

// New checks the configuration; it starts nothing.
func New(c Config) (*Server, error) {
	c, err := c.checked()
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	v, err := account.New(account.Config{
		Accounts: c.Accounts, Realm: c.Realm, Secret: c.Secret, Nonce: c.Nonce,
		Failures: c.Failures, Limits: c.Logins,
	})
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	return &Server{
		config: c, verifier: v, hellos: c.hellos(),
		gate:      newGate(c.Limits),
		starts:    bucket.New[start](c.Limits.Starts, c.Limits.Sources),
		datagrams: bucket.New[netip.Addr](c.Limits.Datagrams, c.Limits.Sources),
	}, nil
}

// SetDraining makes the server refuse new tunnels, or take them again: clients are
// sent to Config.Redirect, or told to come later. Tunnels that are up go on.
func (s *Server) SetDraining(on bool) { s.draining.Store(on) }

// Draining reports whether new tunnels are refused.
func (s *Server) Draining() bool { return s.draining.Load() }
