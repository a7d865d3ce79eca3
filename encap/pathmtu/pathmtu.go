// Package pathmtu knows what the IPv4 path to a peer of a tunnel carries: learnt from
// ICMPv4 fragmentation needed (RFC 1191), and found by probing where no such message
// comes (RFC 8899).
//
// [State] is one peer's figure, for the loops that send: a few atomic loads, no clock of
// its own. [Prober] is the search.
//
// RFC 1191, RFC 4213 and RFC 8899 are cited from memory: their texts could not be read
// when this was written.
package pathmtu

import (
	"sync/atomic"

	"sixin4/encap"
)

const (
	// Lifetime is how long a learnt MTU holds, in nanoseconds: 10 minutes (RFC 1191,
	// Section 6.3), after which the path may have become better.
	Lifetime = int64(600e9)
	// MinMTU is the least that is learnt, in bytes. No real link has less, and 1280
	// bytes go in three fragments of that size.
	MinMTU encap.WireMTU = 576
	// MinClaim is the least figure that is believed to be a link's, in bytes: the last
	// plateau but one of RFC 1191, Section 7. From here to MinMTU, MinMTU is
	// learnt; a lower one changes nothing, as only a forged message has it.
	MinClaim encap.WireMTU = 296
)

// Verdict is what came of a message.
type Verdict uint8

const (
	// Lowered: the MTU of the path is less than it was.
	Lowered Verdict = iota
	// Renewed: it is the same, and holds for another Lifetime.
	Renewed
	// NotLower: the figure is above the present MTU.
	NotLower
	// NotSmaller: the packet that is said to be too long is not longer than the figure.
	NotSmaller
	// Implausible: below MinClaim.
	Implausible

	// NumVerdicts is the number of values.
	NumVerdicts = iota
)

var verdictNames = [NumVerdicts]string{"lowered", "renewed", "not-lower", "not-smaller", "implausible"}

// String returns the verdict in kebab case, for logs and metrics.
func (v Verdict) String() string {
	if int(v) >= NumVerdicts {
		return "unknown"
	}
	return verdictNames[v]
}

// Ignored reports whether the message has changed nothing.
func (v Verdict) Ignored() bool { return v > Renewed }

// State is what is known about the path to one peer. The zero value knows nothing. Any
// number of goroutines may use one. Times are nanoseconds from any beginning, not before
// 0, the same for all calls.
type State struct {
	learnt  atomic.Uint64 // when it ends, in units of 2^16 ns, << 16 | MTU; 0: nothing
	ceiling atomic.Int64  // of Limit; 0: none
}

// tick is the unit of the end of a learnt MTU, as a shift of nanoseconds.
const tick = 16

// Get returns the longest IPv4 packet for the peer, in bytes, where link is the MTU of
// the link that it leaves by: the least of link, what is learnt and has not aged, and
// the limit. Its Tun method is what the tunnel carries, 1280 bytes at least; below 1300
// the outer packets go in fragments of its size, DF clear (RFC 4213, Section 3.2).
func (s *State) Get(now int64, link encap.WireMTU) encap.WireMTU {
	if learnt, ok := s.Learnt(now); ok {
		link = min(link, learnt)
	}
	if limit := encap.WireMTU(s.ceiling.Load()); limit != 0 {
		link = min(link, limit)
	}
	return link
}

// Learnt returns the learnt MTU, and false when there is none or it has aged.
func (s *State) Learnt(now int64) (mtu encap.WireMTU, ok bool) {
	v := s.learnt.Load()
	if v == 0 || uint64(now)>>tick >= v>>16 {
		return 0, false
	}
	return encap.WireMTU(v & 0xffff), true
}

// Learn takes in that a router could not pass on a packet of quoted bytes for a link
// of mtu bytes, both as in an [encap.ICMP4Error]; 0 means that it did not say
// (RFC 1191, Section 5). link is as in Get. The MTU is only ever lowered by it
// (Section 3).
func (s *State) Learn(now int64, mtu encap.WireMTU, quoted int, link encap.WireMTU) Verdict {
	if mtu == 0 {
		mtu = encap.Plateau(encap.WireMTU(quoted))
	}
	switch {
	case mtu < MinClaim:
		return Implausible
	case int(mtu) >= quoted:
		return NotSmaller
	}
	mtu = max(mtu, MinMTU)
	next := uint64(now+Lifetime)>>tick<<16 | uint64(mtu)
	for {
		before := s.learnt.Load()
		current := s.Get(now, link)
		if mtu > current {
			return NotLower
		}
		if !s.learnt.CompareAndSwap(before, next) {
			continue // somebody else has learnt something
		}
		if mtu == current {
			return Renewed
		}
		return Lowered
	}
}

// Limit sets what probing has found as the most, in bytes of the IPv4 packet; 0 takes
// it away. It does not age: the prober looks after it.
func (s *State) Limit(mtu encap.WireMTU) { s.ceiling.Store(int64(mtu)) }

// Forget forgets what was learnt, as when the packets take another link.
func (s *State) Forget() { s.learnt.Store(0) }
