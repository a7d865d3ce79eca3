package engine

import (
	"sixin4/encap"
	"sixin4/encap/packet"
)

// What a hub with many peers knows of one is seldom in a cache. Before a batch is worked
// on, all that it needs is touched, packet by packet with nothing in between that would
// make one wait for the other: so the processor waits for many at a time. It changes no
// verdict. With few peers, or few packets, there is nothing to win.
const (
	warmPeers   = 256
	warmPackets = 4
)

// direct puts the peer that each packet from the TUN goes to into its mark, none where
// that is not to be known. A host has only one, and it leaves the marks alone.
func (t *Table) direct(b *packet.Batch) (touched uint64) {
	if t.host {
		return 0
	}
	var last [16]byte // of the packet before: packets that follow each other often go to one place
	mark := none
	for i := range b.Packets {
		p := &b.Packets[i]
		if p.Mark = none; p.Err != nil || len(p.Head()) < encap.IPv6HeaderLen {
			continue
		}
		inner := encap.IPv6(p.Head())
		if dst := inner.Dst16(); dst != last || mark == none {
			last, mark = dst, t.way(inner)
		}
		p.Mark = mark
	}
	if t.Len() < warmPeers || b.Len() < warmPackets {
		return 0
	}
	for i := range b.Packets {
		if m := b.Packets[i].Mark; m != none {
			touched += t.at(m).touch()
		}
	}
	return touched
}

// owner is what a look-up among the sources of a table has found. Packets that follow each
// other often come from one place. It is of use as long as the table is the same.
type owner struct {
	src       [16]byte
	index     int32 // of the peer, or ours
	known, ok bool  // that src was looked up, and that somebody has it
}

// of looks the source of a packet up, unless the last one was the same.
func (o *owner) of(t *Table, inner encap.IPv6) (index int32, ok bool) {
	if src := inner.Src16(); !o.known || src != o.src {
		o.src, o.known = src, true
		o.index, o.ok = t.sources.Lookup(inner.Src())
	}
	return o.index, o.ok
}

// warm touches what packets from the wire are going to need.
func (t *Table) warm(b *packet.Batch) (touched uint64) {
	if t.Len() < warmPeers || b.Len() < warmPackets {
		return 0
	}
	for i := range b.Packets {
		if h := b.Packets[i].Head(); len(h) >= encap.HeaderLen {
			if page := *t.remotes.page(keyOf([4]byte(h[12:]))); len(page) > 0 {
				touched += uint64(page[0].key)
			}
		}
	}
	for i := range b.Packets {
		if h := b.Packets[i].Head(); len(h) >= encap.HeaderLen {
			if m, ok := t.remotes.get(keyOf([4]byte(h[12:]))); ok {
				touched += t.at(m).touch()
			}
		}
	}
	return touched
}

// touch reads from each cache line of a peer that a packet needs.
func (p *peer) touch() uint64 {
	return uint64(p.rate.burst) + p.spans[1].hi + uint64(p.count.lastHeard.Load())
}
