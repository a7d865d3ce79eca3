package engine

import (
	"net/netip"
	"time"

	"sixin4/encap"
)

// Count is packets and their bytes, outer headers not included.
type Count struct{ Packets, Bytes uint64 }

// Stats is what an engine has counted since it was made.
type Stats struct {
	Tx, Rx     Count                  // given to the wire, given to the TUN
	Drops      [encap.NumDrops]uint64 // refused, by reason; element 0 is unused
	ICMPErrors uint64                 // errors that were written back to senders
	Fragments  uint64                 // outer packets written on a link that needs fragments
	Peers      []PeerStats            // in the order of the table
}

// PeerStats is what was counted for one peer, since it is in the table.
type PeerStats struct {
	Remote    netip.Addr
	Prefixes  []netip.Prefix
	LastHeard time.Time // when a packet of it was last accepted; zero: never
	Tx, Rx    Count
}

// Stats returns the counters. They are read one after the other while packets
// flow, so that sums are exact only when none do.
func (e *Engine) Stats() Stats {
	var s Stats
	for i, l := range e.lanes {
		if i == 0 {
			s.Rx = l.total.load()
		} else {
			s.Tx = s.Tx.plus(l.total.load())
		}
		for d := range l.drops {
			s.Drops[d] += l.drops[d].Load()
		}
		s.ICMPErrors += l.created.Load()
		s.Fragments += l.frags.Load()
	}
	t := e.table.Load()
	for i := range t.peers {
		s.Peers = append(s.Peers, t.peers[i].stats())
	}
	return s
}

func (c Count) plus(d Count) Count { return Count{c.Packets + d.Packets, c.Bytes + d.Bytes} }

func (p *peer) stats() PeerStats {
	s := PeerStats{Remote: p.Remote, Prefixes: p.Prefixes, Tx: p.count.tx.load(), Rx: p.count.rx.load()}
	if ns := p.count.lastHeard.Load(); ns != 0 {
		s.LastHeard = time.Unix(0, ns)
	}
	return s
}

func (c *counter) load() Count { return Count{c.packets.Load(), c.bytes.Load()} }

// tally adds up the packets of a batch, so that the shared counters are touched
// once for each run of packets of one peer.
type tally struct {
	total *counter
	t     *Table
	heard int64 // inbound: the time now, Unix nanoseconds; 0: outbound

	peer           int32
	packets, bytes int
}

func (s *tally) add(peer int32, bytes int) {
	if peer != s.peer {
		s.flush()
		s.peer = peer
	}
	s.packets++
	s.bytes += bytes
}

func (s *tally) flush() {
	if s.packets == 0 {
		return
	}
	s.total.add(s.packets, s.bytes)
	c := s.t.peers[s.peer].count
	if s.heard != 0 {
		c.rx.add(s.packets, s.bytes)
		c.lastHeard.Store(s.heard)
	} else {
		c.tx.add(s.packets, s.bytes)
	}
	s.packets, s.bytes = 0, 0
}
