package daemon

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"

	"sixin4/encap/engine"
	"sixin4/encap/kernelpath"
)

// trials are what is known of them.
type trials struct {
	id   uint16 // identifier of the echo requests
	told sync.Once

	// Of the tunnel that has only one far end.
	mu     sync.Mutex
	passed *sessionConn // whose trial has
	begun  *sessionConn // whose trial is under way, or is to be begun again later
}

func (t *trials) hasPassed(s *sessionConn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.passed == s
}

// tellDeaf logs, once, why there are no trials.
func (t *trials) tellDeaf(log *slog.Logger, asked bool, err error) {
	level := slog.LevelInfo
	if asked {
		level = slog.LevelWarn
	}
	t.told.Do(func() {
		log.Log(context.Background(), level, "the kernel carries nothing in UDP, since answers to its first requests cannot be heard", "err", err)
	})
}

// begin reports whether a session needs a trial and has none yet, and notes that it has one
// now.
func (t *trials) begin(s *sessionConn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.begun == s || t.passed == s {
		return false
	}
	t.begun = s
	return true
}

// end notes that a session has no trial any more, if it has one.
func (t *trials) end(s *sessionConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.begun == s {
		t.begun = nil
	}
}

// dueTrials are those to be begun now.
func (t *tunnel) dueTrials() []trial {
	now := t.now.Load()
	here := now.here()
	if len(here) == 0 {
		return nil
	}
	if t.set.hub {
		return t.short.untried(here[0])
	}
	if len(now.peers) != 1 || !t.short.gives(func(f *kernelpath.Flow) bool { return f.Trial }) || !t.trials.begin(now.session) {
		return nil
	}
	one := t.onlyTrial(now, here[0])
	one.waits, one.failed, one.passed = trialWaits, func() {}, func() { t.tried(now.session) }
	one.again = func() {
		t.trials.end(now.session)
		t.short.trying.ring()
	}
	return []trial{one}
}

// onlyTrial is that of a tunnel with one far end, without what comes of it.
func (t *tunnel) onlyTrial(now *shape, from netip.Addr) trial {
	peer := now.peers[0]
	return trial{
		from: from, to: peer.inner, outer: peer.at().AddrPort,
		sent: func() uint64 { return t.short.stats().Tx.Packets },
	}
}

// tried notes that the trial of a session has passed, if that is the one that is.
func (t *tunnel) tried(s *sessionConn) {
	t.trials.mu.Lock()
	defer t.trials.mu.Unlock()
	if t.now.Load().session == s {
		t.trials.passed, t.trials.begun = s, nil
		t.hopper.again.ring()
	}
}

// lost takes back that the trial of a session has passed, so that it has another.
func (t *tunnel) lost(s *sessionConn) {
	t.trials.mu.Lock()
	defer t.trials.mu.Unlock()
	if t.trials.passed == s {
		t.trials.passed = nil
		t.hopper.again.ring()
	}
}

// gives reports whether the kernel carries something now, such as is asked for.
func (s *shortcut) gives(such func(*kernelpath.Flow) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.given != nil && such(s.given)
}

// turn is the trial of a hub's client, from when it is due until it has passed.
type turn struct{ _ byte } // with a size: each has an address of its own

// untried are the trials of a hub's clients that are due, once the kernel has the hub.
func (s *shortcut) untried(from netip.Addr) (due []trial) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.given == nil {
		return nil
	}
	for at, its := range s.clients.due {
		one := s.aTrial(at, from)
		one.waits, one.passed, one.failed = trialWaits, func() { s.passed(at, its) }, func() {}
		one.again = func() { s.try(at, its) }
		due = append(due, one)
	}
	clear(s.clients.due)
	return due
}

// aTrial is that of a hub's client, without what comes of it. s.mu is held.
func (s *shortcut) aTrial(at engine.End, from netip.Addr) trial {
	return trial{
		from: from, to: s.clients.planned[at].inner, outer: at.AddrPort,
		sent: func() uint64 { return s.sentTo(at) },
	}
}

// sentTo is how many packets the kernel has sent to a hub's client.
func (s *shortcut) sentTo(at engine.End) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clients.carried(s, at).Tx.Packets
}

// passed has the packets of a hub's client follow its trial, if that is its trial still.
func (s *shortcut) passed(at engine.End, its *turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients.turns[at] == its {
		delete(s.clients.turns, at)
		s.clients.setTrial(s, at, false)
	}
}

// try makes the trial of a client due again, if that is its trial still.
func (s *shortcut) try(at engine.End, its *turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients.turns[at] == its {
		s.clients.due[at] = its
		s.trying.ring()
	}
}

// lost leaves nothing but a trial to a client whose packets the kernel carries.
func (s *shortcut) lost(at engine.End) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if told, ok := s.clients.told[at]; !ok || told.Trial {
		return
	}
	s.log.Info("packets of a client are not carried by the kernel any more", "outer", at, "reason", "they do not arrive")
	s.clients.onTrial(s, at)
	s.clients.setTrial(s, at, true)
}

// onTrial makes a trial of a client due, in place of any before.
func (c *clients) onTrial(s *shortcut, at engine.End) {
	its := new(turn)
	c.turns[at], c.due[at] = its, its
	s.trying.ring()
}

// setTrial tells the kernel whether a client is on trial.
func (c *clients) setTrial(s *shortcut, at engine.End, on bool) {
	told, ok := c.told[at]
	if !ok {
		return
	}
	told.Trial = on
	c.told[at] = told
	c.tell(s, at, told)
}
