package engine

import (
	"errors"
	"time"

	"sixin4/encap"
	"sixin4/encap/packet"
)

// The way in
//
//  1. the wire reads a batch, merged packets marked as such     wire.Reader
//  2. the outer header is checked and taken off, in place       encap.Decap
//  3. the peer is looked up, its right to this source checked   Table.inbound
//  4. refused ones are counted and perhaps answered             refuse
//  5. the batch is written, flows joined                        tun.Writer
//  6. what arrived is counted for its peer, what failed by why  deliver

// inbound is the loop from the wire to the TUN.
func (l *lane) inbound() error {
	var (
		b    = packet.NewBatch(BatchSize)
		errs = newErrorWriter(l)
		t    *Table
		m    moment
		now  time.Time
		last owner
	)
	admit := func(p *packet.Packet) bool {
		d := l.admit(t, now, &last, p)
		if d == encap.Forward {
			if encap.MayOfferMSS(p.Head()) {
				l.clamp(&m, t.at(p.Mark), p)
			}
			return true
		}
		l.drop(d, 1)
		switch d {
		case encap.DropBlockedPort:
			errs.refuse(t, p)
		case encap.DropECN:
			l.health.failed(d, errCongestion)
		}
		return false
	}
	for {
		if err := l.In.Read(b); err != nil {
			return err
		}
		t, now = l.e.table.Load(), time.Now()
		m, last = l.e.moment(t), owner{}
		l.touched += t.warm(b)
		compact(b, admit)
		errs.flush()
		if b.Len() > 0 {
			l.deliver(t, now, b)
		}
	}
}

// errCongestion is what RFC 6040, Section 4.2 asks to be logged.
var errCongestion = errors.New("the outer header says congestion experienced and the inner packet cannot say so (ECN): " +
	"a router marks what it should drop, or the far end encapsulates wrongly")

// admit takes a packet out of its outer header and decides whether it may pass. last
// belongs to the batch.
func (l *lane) admit(t *Table, now time.Time, last *owner, p *packet.Packet) encap.Drop {
	src, d := l.decap(p)
	if d != encap.Forward {
		return d
	}
	inner := encap.IPv6(p.Head())
	i, d := t.inboundAfter(last, src, inner)
	if d != encap.Forward {
		if src.overUDP() && (d == encap.DropNotPeer || d == encap.DropInnerSourceNotPeers) {
			l.stranger(t, src, p)
		}
		return d
	}
	if encap.RouterMessage(inner) {
		return encap.DropInnerRouter
	}
	if p.Err != nil { // packet.ErrSegmentUnknown, all that a wire has to say
		return encap.DropMergedUDP
	}
	p.Mark = i
	if t.blocked.blocks(inner) {
		return encap.DropBlockedPort
	}
	if t.metered && !t.at(i).maySend(t, int64(now.Sub(l.e.made)), inner, p.Len()) {
		return encap.DropPeerRate
	}
	if l.e.cfg.Replies != nil && encap.EchoReply(inner) {
		l.e.cfg.Replies(inner, p.Len())
	}
	return encap.Forward
}

// decap takes a packet out of its outer headers and says who sent it.
func (l *lane) decap(p *packet.Packet) (remoteKey, encap.Drop) {
	if l.UDP && encap.OverUDP(p) {
		src, port, d := encap.DecapUDP(p)
		return keyAt(src, port).by(l.Socket), d
	}
	src, d := encap.Decap(p)
	return keyOf(src), d
}

// deliver writes a batch to the TUN and counts it.
func (l *lane) deliver(t *Table, now time.Time, b *packet.Batch) {
	write(l.Out, b)
	sum := tally{total: &l.total, t: t, heard: now.UnixNano()}
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
