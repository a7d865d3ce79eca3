package broker

import (
	"maps"
	"sync"

	"sixin4/tsp"
)

// Drop is why something of a client was not answered.
type Drop string

// The reasons.
const (
	DropRate     Drop = "rate"     // too much of one source
	DropConns    Drop = "conns"    // too many TCP connections, of one source or in all
	DropSlow     Drop = "slow"     // a message or a session took too long
	DropSessions Drop = "sessions" // too many sessions over UDP, of one source or in all
	DropBusy     Drop = "busy"     // too many messages at a time
	DropSize     Drop = "size"     // the answer would be more than five times as long
	DropJunk     Drop = "junk"     // no control datagram
	DropData     Drop = "data"     // an IPv6 packet: those of tunnels do not come here
	DropRepeated Drop = "repeated" // a datagram whose answer is on its way or was taken
)

// Stats is what a server has counted since it was made.
type Stats struct {
	Sessions     map[string]uint64   // that began, by tcp and udp
	Tunnels      uint64              // accepted
	Codes        map[tsp.Code]uint64 // statuses that refused something
	AuthFailures map[string]uint64   // by mechanism
	Drops        map[Drop]uint64
	Echoes       uint64 // echo requests answered

	Conns int // TCP connections without a tunnel, now
	Idle  int // and with one
}

// counters are the counts of a Stats.
type counters struct {
	mu sync.Mutex
	Stats
}

// count changes one.
func (c *counters) count(f func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Sessions == nil {
		c.Sessions, c.Codes = make(map[string]uint64), make(map[tsp.Code]uint64)
		c.AuthFailures, c.Drops = make(map[string]uint64), make(map[Drop]uint64)
	}
	f(&c.Stats)
}

func (s *Server) drop(d Drop) { s.counters.count(func(c *Stats) { c.Drops[d]++ }) }

// Stats returns the counts.
func (s *Server) Stats() (all Stats) {
	s.counters.count(func(c *Stats) {
		all = *c
		all.Sessions, all.Codes = maps.Clone(c.Sessions), maps.Clone(c.Codes)
		all.AuthFailures, all.Drops = maps.Clone(c.AuthFailures), maps.Clone(c.Drops)
	})
	all.Conns, all.Idle = s.gate.lens()
	return all
}
