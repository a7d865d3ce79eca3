package daemon

import (
	"net/netip"
	"time"

	"sixin4/encap/engine"
	"sixin4/encap/kernelpath"
)

// round is one of asking again those that the kernel carries packets for.
type round struct {
	at    time.Time             // when the last one was
	sent  map[engine.End]uint64 // packets to each until then
	stats func(engine.End) (engine.PeerStats, bool)
}

// due are those to be asked in this round. Of a hub's clients these are they that were
// heard and sent to since the last one: who is silent may just be away.
func (r *round) due(t *tunnel) (list []trial) {
	now := t.now.Load()
	here := now.here()
	if len(here) == 0 {
		return nil
	}
	if !t.set.hub {
		carried := func(f *kernelpath.Flow) bool { return f.DstPort != 0 && !f.Trial }
		if sent := t.short.stats().Tx.Packets; len(now.peers) == 1 && t.short.gives(carried) && r.inUse(engine.End{}, sent) {
			one := t.onlyTrial(now, here[0])
			one.waits, one.passed, one.failed = roundWaits, func() {}, func() { t.lost(now.session) }
			list = append(list, one)
		}
		return list
	}
	since, before := r.at, r.sent
	r.at, r.sent = time.Now(), make(map[engine.End]uint64)
	for _, at := range t.short.carried() {
		p, _ := r.stats(at)
		r.sent[at] = before[at]
		if !r.inUse(at, p.Tx.Packets) || p.LastHeard.Before(since) {
			continue
		}
		if one, ok := t.short.trialOf(at, here[0]); ok {
			one.waits, one.passed, one.failed = roundWaits, func() {}, func() { t.short.lost(at) }
			list = append(list, one)
		}
	}
	return list
}

// inUse reports whether something was sent to an end since the last round, beside the request
// of that one.
func (r *round) inUse(at engine.End, sent uint64) bool {
	if r.sent == nil {
		r.sent = make(map[engine.End]uint64)
	}
	if sent <= r.sent[at] {
		return false
	}
	r.sent[at] = sent + 1
	return true
}

// carried are the clients of a hub that the kernel sends all packets to.
func (s *shortcut) carried() (list []engine.End) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.given == nil {
		return nil
	}
	for at, told := range s.clients.told {
		if !told.Trial {
			list = append(list, at)
		}
	}
	return list
}

// trialOf is aTrial for those that the kernel carries packets for.
func (s *shortcut) trialOf(at engine.End, from netip.Addr) (one trial, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if told, ok := s.clients.told[at]; !ok || told.Trial {
		return one, false
	}
	return s.aTrial(at, from), true
}
