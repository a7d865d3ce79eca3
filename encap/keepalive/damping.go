package keepalive

import (
	"fmt"
	"math"
	"time"
)

// State is what a [Monitor] says about the far end.
type State uint8

const (
	// Asking: there was neither an answer yet nor enough losses.
	Asking State = iota
	// Up: it answers.
	Up
	// Down: it does not.
	Down
	// Damped: it answers, but has come and gone so often that it does not count as up
	// until it has been quiet.
	Damped
)

// String returns the state in lower case, for logs and status.
func (s State) String() string {
	switch s {
	case Asking:
		return "asking"
	case Up:
		return "up"
	case Down:
		return "down"
	case Damped:
		return "damped"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// The damping is that of routes in RFC 2439, Section 4.2, with shorter times: each fall
// costs a penalty, which decays by half in every half-life. From dampSuppress on the
// far end is damped, and it is up again when the penalty has decayed to dampReuse. So
// three falls within a minute, or one every 45 seconds for a while, are
// too many, and it takes two or three quiet minutes to be forgiven.
const (
	fallPenalty   = 1000.0
	dampSuppress  = 2500.0
	dampReuse     = 1000.0
	dampHalfLife  = 2 * time.Minute
	dampLongest   = 5 * time.Minute // from the last fall on, however many there were
	dampMostShift = float64(dampLongest) / float64(dampHalfLife)
)

// damper is the penalty of one far end.
type damper struct {
	penalty float64
	at      time.Time // when penalty was right
	held    bool
}

// decay brings the penalty up to now.
func (d *damper) decay(now time.Time) {
	if age := now.Sub(d.at); age > 0 {
		d.penalty *= math.Exp2(-float64(age) / float64(dampHalfLife))
		d.at = now
	}
	if d.penalty <= dampReuse {
		d.held = false
	}
}

// fall counts a fall.
func (d *damper) fall(now time.Time) {
	d.decay(now)
	d.penalty = min(d.penalty+fallPenalty, dampReuse*math.Exp2(dampMostShift))
	d.held = d.held || d.penalty >= dampSuppress
}

// link is the state machine of a Monitor.
//
//	Asking ── answer ──> Up ── dead ──> Down ── answer ──> Up, or Damped when held
//	   └────── dead ─────────────────────^  ^                        │
//	                                         └───────── dead ────────┤
//	                                      Up <── answer, not held ───┘
type link struct {
	state State
	damp  damper
}

// answered takes in an answer.
func (l *link) answered(now time.Time) State {
	l.damp.decay(now)
	l.state = Up
	if l.damp.held {
		l.state = Damped
	}
	return l.state
}

// dead takes in that too many requests in a row were lost. One that never was up does not
// fall.
func (l *link) dead(now time.Time) State {
	if l.state == Up || l.state == Damped {
		l.damp.fall(now)
	}
	l.state = Down
	return l.state
}
