package engine

import (
	"encoding/binary"
	"errors"
	"os"

	"sixin4/encap"
	"sixin4/encap/packet"
)

// The way out
//
//  1. the TUN reads a batch, super-packets already cut         tun.Reader
//  2. each packet is checked and its peer is looked up          route
//  3. refused ones are counted and perhaps answered             refuse
//  4. the others get their outer header in place                encap.Header
//  5. too long for the link: cut into fragments                 fragment
//  6. the batch is sent                                         wire.Writer
//  7. what was sent is counted for its peer, what failed by why account

// outbound is the loop from the TUN to the wire.
func (l *lane) outbound() error {
	var (
		b      = packet.NewBatch(BatchSize)
		cutter = fragmenter{lane: l, batch: packet.NewBatch(2 * BatchSize)}
		errs   = newErrorWriter(l)
		t      *Table
		size   *sizes
	)
	route := func(p *packet.Packet) bool {
		d := l.route(t, size, p)
		if d == encap.Forward {
			return true
		}
		l.drop(d, 1)
		errs.answer(d, size, p)
		return false
	}
	for {
		if err := l.In.Read(b); err != nil {
			return err
		}
		t, size = l.e.table.Load(), l.e.sizes.Load()
		compact(b, route)
		errs.flush()
		switch {
		case b.Len() == 0:
		case size.fragments():
			cutter.write(t, size.wire, b)
		default:
			write(l.Out, b)
			l.account(t, b)
		}
	}
}

// route checks a packet from the TUN, finds its peer and puts it into its outer
// header.
func (l *lane) route(t *Table, size *sizes, p *packet.Packet) encap.Drop {
	if p.Err != nil {
		return encap.DropTunMalformed
	}
	if d := encap.CheckInner(p); d != encap.Forward {
		return d
	}
	i, d := t.outbound(encap.IPv6(p.Head()))
	if d != encap.Forward {
		return d
	}
	if p.Len() > int(size.tun) {
		return encap.DropTooBig
	}
	peer := &t.peers[i]
	p.Mark = i
	peer.header.Encap(p, peer.count.ids.Reserve(1))
	return encap.Forward
}

// account counts the packets of a batch that was written. The fragments of one
// packet follow each other and count as one; it is lost when one of them is.
func (l *lane) account(t *Table, b *packet.Batch) {
	sum := tally{total: &l.total, t: t}
	failed := false
	for i := 0; i < b.Len(); {
		first := &b.Packets[i]
		size, err := 0, error(nil)
		for ok := true; ok; ok = i < b.Len() && continues(&b.Packets[i]) {
			p := &b.Packets[i]
			size += p.Len() - encap.HeaderLen
			if p.Err != nil {
				err = p.Err
			}
			i++
		}
		if err != nil {
			failed = true
			l.fail(sendDrop(err), err)
			continue
		}
		sum.add(first.Mark, size)
	}
	sum.flush()
	if !failed {
		l.health.fine()
	}
}

// continues reports whether an outer packet is a fragment other than the first.
func continues(p *packet.Packet) bool {
	return binary.BigEndian.Uint16(p.Head()[6:])&0x1fff != 0
}

// fail counts a packet that could not be written. That the writer was closed is
// no news: it is how an engine ends.
func (l *lane) fail(d encap.Drop, err error) {
	l.drop(d, 1)
	if !errors.Is(err, os.ErrClosed) {
		l.health.failed(d, err)
	}
}

// fragmenter sends packets over a link that is too small for some of them.
type fragmenter struct {
	lane  *lane
	batch *packet.Batch
	room  []byte
}

func (f *fragmenter) write(t *Table, mtu encap.WireMTU, b *packet.Batch) {
	if f.room == nil {
		f.room = make([]byte, 64<<10)
	}
	room := f.room
	send := func() {
		f.lane.frags.Add(uint64(write(f.lane.Out, f.batch)))
		f.lane.account(t, f.batch)
		f.batch.Reset()
		room = f.room
	}
	f.batch.Reset()
	for i := range b.Packets {
		p := &b.Packets[i]
		rest, ok := encap.Fragment(p, mtu, f.batch, room)
		if !ok {
			send()
			if rest, ok = encap.Fragment(p, mtu, f.batch, room); !ok {
				f.lane.drop(encap.DropSendMsgSize, 1)
				continue
			}
		}
		room = rest
	}
	send()
}

// errorWriter answers packets that cannot be carried with ICMPv6 errors, at most
// as many as RFC 4443, Section 2.4(f) advises.
type errorWriter struct {
	l     *lane
	limit encap.TokenBucket
	batch *packet.Batch
	bufs  [errorBatch][]byte
}

// errorBatch bounds the errors that one batch can cause.
const errorBatch = 8

func newErrorWriter(l *lane) *errorWriter {
	w := &errorWriter{l: l, batch: packet.NewBatch(errorBatch)}
	for i := range w.bufs {
		w.bufs[i] = make([]byte, packet.Headroom, packet.Headroom+int(encap.MinTunMTU))
	}
	return w
}

// answer prepares the error for p, if d is a reason that its sender is told.
func (w *errorWriter) answer(d encap.Drop, size *sizes, p *packet.Packet) {
	if d != encap.DropNoPeer && d != encap.DropTooBig || w.batch.Full() || w.l.Back == nil {
		return
	}
	now := w.l.e.monotonic()
	if w.limit.Empty(now) {
		return // a flood costs a look-up each, not an answer
	}
	buf := w.bufs[w.batch.Len()]
	var full []byte
	from := *w.l.e.source.Load()
	if d == encap.DropTooBig {
		full = encap.AppendPacketTooBig(buf, size.tun, from, p)
	} else {
		full = encap.AppendUnreachable(buf, encap.UnreachableNoRoute, from, p)
	}
	if len(full) == len(buf) || !w.limit.Allow(now) {
		return
	}
	w.batch.Next().Set(full, packet.Headroom, nil)
}

// flush writes the prepared errors to where the packets came from.
func (w *errorWriter) flush() {
	if w.batch.Len() == 0 {
		return
	}
	n, err := w.l.Back.Write(w.batch)
	w.l.created.Add(uint64(n))
	if err != nil {
		w.l.e.log.Debug("an ICMPv6 error could not be delivered", "err", err)
	}
	w.batch.Reset()
}
