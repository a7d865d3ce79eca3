package pathmtu

import (
	"fmt"
	"time"

	"sixin4/encap"
)

// Phase is a state of the search (RFC 8899, Section 5.2).
type Phase uint8

const (
	// Base: is there an answer to a packet of 1280 bytes at all?
	Base Phase = iota
	// Searching: are there answers to longer ones?
	Searching
	// Complete: the MTU is found, and is confirmed every now and then.
	Complete
	// Silent is RFC 8899's error state: not even 1280 bytes are answered. The far end
	// is away, or does not answer echo requests.
	Silent
)

// String returns the phase in lower case.
func (p Phase) String() string {
	switch p {
	case Base:
		return "base"
	case Searching:
		return "searching"
	case Complete:
		return "complete"
	case Silent:
		return "silent"
	}
	return fmt.Sprintf("Phase(%d)", uint8(p))
}

// search is the state machine. It has no clock and sends nothing: next says what to
// send when, and result takes what came of it.
//
//	        answered              nothing more to try
//	Base ──────────> Searching ──────────────────────> Complete ──┐ confirmed
//	 │ ^                ^                               │ │ ^ ^   │
//	 │ │                └── confirmed, time to raise ───┘ │ │ └───┘
//	 │ └──────────────────── not confirmed ───────────────┘ │
//	 │ not answered                                         │
//	 v                       answered                       │
//	Silent ─────────────────────────────────────────────────┘
//
// Base asks whether it is the size or the path when an MTU is not confirmed any more:
// with an answer the MTU falls back to 1280 and is searched for anew, below what it
// was; without one nothing passes, and a change of MTU would help nobody.
type search struct {
	cfg     *Config
	phase   Phase
	current encap.TunMTU // confirmed last; what is in use
	failed  encap.TunMTU // the least that was not answered in this search; 0: none
	size    encap.TunMTU // being probed
	tries   int          // of size that were not answered
	lost    bool         // current is not confirmed any more
	due     time.Time    // of the next probe
	raise   time.Time    // when to search upwards again
	pause   time.Duration
}

func newSearch(cfg *Config, now time.Time) search {
	return search{cfg: cfg, current: encap.MinTunMTU, size: encap.MinTunMTU, due: now}
}

// ceiling is the longest packet that may be tried at present.
func (s *search) ceiling() encap.TunMTU {
	return min(max(s.cfg.Ceiling(), encap.MinTunMTU), encap.MaxTunMTU)
}

// next returns the size of the next probe and when to send it.
func (s *search) next(now time.Time) (encap.TunMTU, time.Time) {
	top := s.ceiling()
	s.current = min(s.current, top)
	if s.phase == Searching && (s.tries == 0 || s.size > top) {
		s.tries = 0
		s.choose(top, now)
	}
	if s.phase == Complete {
		s.size = s.current
	}
	return s.size, s.due
}

// begin starts to search above current. below is a size that is known not to pass, or 0.
func (s *search) begin(below encap.TunMTU, now time.Time) {
	s.phase, s.failed, s.tries, s.due = Searching, below, 0, now
}

// choose picks the next size: first the longest of all, as most paths have no
// narrow place, and then the middle of what is left (RFC 8899, Section 5.3.2).
func (s *search) choose(top encap.TunMTU, now time.Time) {
	switch {
	case s.current >= top || s.failed != 0 && s.failed <= s.current+1:
		s.phase = Complete
		s.raise, s.due = now.Add(s.cfg.RaiseInterval), now.Add(s.cfg.ConfirmInterval)
	case s.failed == 0 || s.failed > top:
		s.size = top
	default:
		s.size = (s.current + s.failed) / 2
	}
}

// result takes in whether the probe of next was answered in time.
func (s *search) result(answered bool, now time.Time) {
	s.due = now
	if answered {
		s.tries = 0
		s.passed(now)
		return
	}
	if s.tries++; s.tries < s.cfg.MaxProbes && s.phase != Silent {
		return // a single loss says nothing (RFC 8899, Section 3)
	}
	s.tries = 0
	s.blocked(now)
}

// passed goes on after an answer.
func (s *search) passed(now time.Time) {
	switch s.phase {
	case Base:
		below := encap.TunMTU(0)
		if s.lost {
			below = s.current
		}
		s.current, s.lost = encap.MinTunMTU, false
		s.begin(below, now)
	case Searching:
		s.current = s.size
	case Complete:
		s.due = now.Add(s.cfg.ConfirmInterval)
		if !now.Before(s.raise) {
			s.begin(0, now)
		}
	case Silent: // is current still right? And then: is more?
		s.phase, s.lost, s.raise = Complete, false, now
	}
}

// blocked goes on after as many losses in a row as count.
func (s *search) blocked(now time.Time) {
	switch s.phase {
	case Base:
		s.phase, s.pause = Silent, s.cfg.ProbeTimeout
		s.due = now.Add(s.pause)
	case Searching:
		s.failed = s.size
	case Complete:
		s.phase, s.size, s.lost = Base, encap.MinTunMTU, s.current > encap.MinTunMTU
	case Silent:
		s.size = encap.MinTunMTU
		s.pause = min(2*s.pause, s.cfg.ConfirmInterval)
		s.due = now.Add(s.pause)
	}
}
