package engine

import (
	"time"

	"sixin4/encap"
	"sixin4/encap/packet"
)

// The way in
//
//  1. the wire reads a batch, merged packets marked as such     wire.Reader
//  2. the outer header is checked and taken off, in place       encap.Decap
//  3. the peer is looked up, its right to this source checked   Table.inbound
//  4. refused ones are counted
//  5. the batch is written, flows joined                        tun.Writer
//  6. what arrived is counted for its peer, what failed by why  deliver

// inbound is the loop from the wire to the TUN.
func (l *lane) inbound() error {
	b := packet.NewBatch(BatchSize)
	var t *Table
	admit := func(p *packet.Packet) bool {
		d := l.admit(t, p)
		if d != encap.Forward {
			l.drop(d, 1)
		}
		return d == encap.Forward
	}
	for {
		if err := l.In.Read(b); err != nil {
			return err
		}
		t = l.e.table.Load()
		compact(b, admit)
		if b.Len() > 0 {
			l.deliver(t, b)
		}
	}
}

// admit takes a packet out of its outer header and decides whether it may pass.
func (l *lane) admit(t *Table, p *packet.Packet) encap.Drop {
	src, d := encap.Decap(p)
	if d != encap.Forward {
		return d
	}
	inner := encap.IPv6(p.Head())
	i, d := t.inbound(src, inner)
	if d != encap.Forward {
		return d
	}
	if encap.RouterMessage(inner) {
		return encap.DropInnerRouter
	}
	if p.Err != nil { // packet.ErrSegmentUnknown, all that a wire has to say
		return encap.DropMergedUDP
	}
	p.Mark = i
	return encap.Forward
}

// deliver writes a batch to the TUN and counts it.
func (l *lane) deliver(t *Table, b *packet.Batch) {
	now := time.Now().UnixNano()
	write(l.Out, b)
	sum := tally{total: &l.total, t: t, heard: now}
	failed := false
	for i := range b.Packets {
		p := &b.Packets[i]
		if p.Err != nil {
			failed = true
			l.fail(tunDrop(p.Err), p.Err)
			continue
		}
		sum.add(p.Mark, p.Len())
	}
	sum.flush()
	if !failed {
		l.health.fine()
	}
}
