package packettest

import (
	"bytes"
	"math/rand/v2"
	"time"

	"sixin4/encap/packet"
)

// CableConfig says how a cable treats packets. Shares are between 0 and 1; the
// zero value treats them well.
type CableConfig struct {
	Loss      float64       // share of packets that never arrive
	Duplicate float64       // share that arrive twice
	Reorder   float64       // share that are spared the delay, and so overtake others
	Delay     time.Duration // how long a packet takes
	Seed      uint64        // cables of one seed treat the same packets the same way
}

// CableStats counts what a cable did to packets.
type CableStats struct{ Lost, Duplicated, Reordered int }

// Cable is a [Queue] that loses, delays, duplicates and reorders what is written
// to it. It goes one way.
type Cable struct {
	*Queue
	cfg   CableConfig
	rnd   *rand.Rand
	stats CableStats
}

// NewCable returns a cable with nothing in it.
func NewCable(cfg CableConfig) *Cable {
	return &Cable{Queue: NewQueue(), cfg: cfg, rnd: rand.New(rand.NewPCG(cfg.Seed, 791))}
}

// Write sends the packets of b. A lost one counts as written.
func (c *Cable) Write(b *packet.Batch) (n int, err error) { return c.write(b, c.send) }

func (c *Cable) send(e Entry) {
	if c.chance(c.cfg.Loss) {
		c.stats.Lost++
		return
	}
	e.due = time.Now().Add(c.cfg.Delay)
	if c.chance(c.cfg.Reorder) {
		c.stats.Reordered++
		e.due = time.Now()
	}
	c.insert(e)
	if c.chance(c.cfg.Duplicate) {
		c.stats.Duplicated++
		e.Bytes = bytes.Clone(e.Bytes)
		c.insert(e)
	}
}

// chance always draws, so that one setting does not change what another does.
func (c *Cable) chance(share float64) bool { return c.rnd.Float64() < share }

// Stats returns the counters.
func (c *Cable) Stats() CableStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}
