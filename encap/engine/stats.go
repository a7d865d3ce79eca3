package engine

import (
	"iter"
	"net/netip"
	"slices"
	"time"

	"sixin4/encap"
	"sixin4/encap/pathmtu"
)

// Count is packets and their bytes, outer headers not included.
type Count struct{ Packets, Bytes uint64 }

// Stats is what an engine has counted since it was made.
type Stats struct {
	Tx, Rx     Count                  // given to the wire, given to the TUN
	Drops      [encap.NumDrops]uint64 // refused, by reason; element 0 is unused
	ICMPErrors uint64                 // errors that were written back to senders
	Fragments  uint64                 // outer packets written on a link or path that needs fragments
	Clamped    uint64                 // TCP packets whose maximum segment size was lowered
	ICMP       ICMPStats
	Peers      []PeerStats // in the order of the table
}

// ICMPStats is what came of ICMPv4 messages about the tunnel.
type ICMPStats struct {
	Relayed [encap.NumICMP4Kinds]uint64 // told to inner senders by ICMPv6, by what they said
	Doubted [encap.NumDoubts]uint64     // not believed; element 0 is unused
	Paths   [pathmtu.NumVerdicts]uint64 // fragmentation needed that was believed, by what it changed
}

// PeerStats is what was counted for one peer, since it is in the table.
type PeerStats struct {
	Remote    netip.Addr
	Port      uint16 // Peer.Port
	Socket    uint16 // Peer.Socket
	Prefixes  []netip.Prefix
	LastHeard time.Time // when a packet of it was last accepted; zero: never
	Tx, Rx    Count
	// PathMTU is the longest IPv4 packet in bytes that goes on to it, as was learnt by
	// ICMPv4; 0: nothing was.
	PathMTU encap.WireMTU
	// Refused is when it last said that it does not speak protocol 41; zero: not since
	// it was heard.
	Refused time.Time
}

// Stats returns all counters. They are read one after the other while packets
// flow, so that sums are exact only when none do.
func (e *Engine) Stats() Stats {
	s := e.Totals()
	s.Peers = slices.Collect(e.Peers())
	return s
}

// Totals is Stats without the peers, of which there may be many.
func (e *Engine) Totals() Stats {
	var s Stats
	for i, l := range e.lanes {
		if e.isInbound(i) {
			s.Rx = s.Rx.plus(l.total.load())
		} else {
			s.Tx = s.Tx.plus(l.total.load())
		}
		for d := range l.drops {
			s.Drops[d] += l.drops[d].Load()
		}
		s.ICMPErrors += l.created.Load()
		s.Fragments += l.frags.Load()
		s.Clamped += l.clamped.Load()
	}
	e.relay.addTo(&s)
	return s
}

// Peers yields what Stats has of the peers, in the order of the table.
func (e *Engine) Peers() iter.Seq[PeerStats] {
	return func(yield func(PeerStats) bool) {
		for p := range e.table.Load().all() {
			if !yield(e.statsOf(p)) {
				return
			}
		}
	}
}

// Peer returns what Stats has of the peer at an address; false when there is none.
func (e *Engine) Peer(remote netip.Addr) (PeerStats, bool) {
	t := e.table.Load()
	i, ok := t.find(remote)
	if !ok {
		return PeerStats{}, false
	}
	return e.statsOf(t.at(i)), true
}

func (c Count) plus(d Count) Count { return Count{c.Packets + d.Packets, c.Bytes + d.Bytes} }

func (p *peer) stats() PeerStats {
	s := PeerStats{Remote: p.Remote, Port: p.Port, Socket: p.Socket, Prefixes: p.Prefixes, Tx: p.count.tx.load(), Rx: p.count.rx.load()}
	if ns := p.count.lastHeard.Load(); ns != 0 {
		s.LastHeard = time.Unix(0, ns)
	}
	if ns := p.count.refused.Load(); ns > p.count.lastHeard.Load() {
		s.Refused = time.Unix(0, ns)
	}
	return s
}

// statsOf are the counters of a peer and what is known about the path to it.
func (e *Engine) statsOf(p *peer) PeerStats {
	s := p.stats()
	s.PathMTU, _ = p.count.path.Learnt(e.monotonic())
	return s
}

func (c *counter) load() Count { return Count{c.packets.Load(), c.bytes.Load()} }

// tally adds up the packets of a batch, so that the counters of a peer are touched once
// for each run of its packets, and those of the lane once.
type tally struct {
	total *counter
	t     *Table
	heard int64 // inbound: the time now, Unix nanoseconds; 0: outbound

	peer           int32
	packets, bytes int // of peer

	allPackets, allBytes int // of those before
}

func (s *tally) add(peer int32, bytes int) {
	if peer != s.peer {
		s.turn()
		s.peer = peer
	}
	s.packets++
	s.bytes += bytes
}

// turn counts the run of one peer.
func (s *tally) turn() {
	if s.packets == 0 {
		return
	}
	c := s.t.at(s.peer).count
	if s.heard != 0 {
		c.rx.add(s.packets, s.bytes)
		c.lastHeard.Store(s.heard)
	} else {
		c.tx.add(s.packets, s.bytes)
	}
	s.allPackets, s.allBytes = s.allPackets+s.packets, s.allBytes+s.bytes
	s.packets, s.bytes = 0, 0
}

// flush counts all that was added.
func (s *tally) flush() {
	s.turn()
	if s.allPackets > 0 {
		s.total.add(s.allPackets, s.allBytes)
	}
}
