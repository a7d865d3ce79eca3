package engine

import (
	"sync/atomic"

	"sixin4/encap"
)

// rate is how many bytes of a peer may pass in one direction: so many nanoseconds for
// each byte. The zero rate is no limit.
type rate struct {
	perByte int64 // nanoseconds, in 1/65536
	burst   int64 // nanoseconds of what may pass at once
}

const (
	// burstNanos is how long a peer that was quiet may send as fast as it can.
	burstNanos = int64(250e6)
	// burstBytes pass at once however slow the rate is: two packets of any size, merged
	// ones too.
	burstBytes = 128 << 10
)

// rateOf is the rate of so many bits a second, at least 1000; 0 is no limit.
func rateOf(bitsPerSecond int64) rate {
	if bitsPerSecond == 0 {
		return rate{}
	}
	r := rate{perByte: max(8e9<<16/bitsPerSecond, 1)}
	r.burst = max(burstNanos, r.cost(burstBytes))
	return r
}

// cost is the time that so many bytes take.
func (r rate) cost(bytes int) int64 { return int64(bytes) * r.perByte >> 16 }

// meter is a token bucket (the generic cell rate algorithm of ITU-T I.371): all it
// holds is the moment at which the bucket would be full again. Any number of
// goroutines may use it, without a lock.
type meter struct{ full atomic.Int64 }

// take takes tokens for so many bytes and reports whether there were enough. now is
// in nanoseconds, not before 0.
func (m *meter) take(now int64, r rate, bytes int) bool {
	for {
		full := m.full.Load()
		next := max(full, now) + r.cost(bytes)
		if next-now > r.burst {
			return false
		}
		if m.full.CompareAndSwap(full, next) {
			return true
		}
	}
}

// mayGet takes from what may go to a peer. That we ask whether it is there passes in
// any case.
func (p *peer) mayGet(t *Table, now int64, inner encap.IPv6, bytes int) bool {
	return p.rate == rate{} || p.count.out.take(now, p.rate, bytes) ||
		inner.Src() == t.self && encap.EchoRequest(inner)
}

// maySend takes from what may come from a peer. Its reply passes in any case: a client
// that sends too much is there.
func (p *peer) maySend(t *Table, now int64, inner encap.IPv6, bytes int) bool {
	return p.rate == rate{} || p.count.in.take(now, p.rate, bytes) ||
		inner.Dst() == t.self && encap.EchoReply(inner)
}
