package engine

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"

	"sixin4/encap"
	"sixin4/encap/packet"
)

// The way out
//
//  1. the TUN reads a batch, super-packets already cut         tun.Reader
//  2. each packet's peer is looked up, and both are checked     Table.direct, route
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
		m      moment
	)
	route := func(p *packet.Packet) bool {
		d := l.route(t, &m, p, errs)
		if d == encap.Forward {
			return true
		}
		l.drop(d, 1)
		errs.answer(d, t, &m, p)
		return false
	}
	for {
		if err := l.In.Read(b); err != nil {
			return err
		}
		t = l.e.table.Load()
		m = l.e.moment(t)
		l.touched += t.direct(b)
		compact(b, route)
		errs.flush()
		switch {
		case b.Len() == 0:
		case m.cut || m.fragments():
			cutter.write(t, &m, b)
		default:
			write(l.Out, b)
			l.account(t, b)
		}
	}
}

// route checks a packet from the TUN, finds its peer and puts it into its outer
// header.
func (l *lane) route(t *Table, m *moment, p *packet.Packet, errs *errorWriter) encap.Drop {
	if p.Err != nil {
		return encap.DropTunMalformed
	}
	if d := encap.CheckInner(p); d != encap.Forward {
		return t.noInner(d, p)
	}
	inner, size := encap.IPv6(p.Head()), p.Len()
	if encap.MayNest(inner) {
		if d := encap.CheckNesting(p, encap.DefaultNesting, t); d != encap.Forward {
			return d
		}
	}
	if t.host {
		p.Mark = t.only
	} else if d := t.mayGo(p.Mark, inner); d != encap.Forward { // Table.direct has put it there
		return d
	}
	peer := t.at(p.Mark)
	tun, wire := m.tun, m.wire
	if m.look || peer.trimmed {
		tun, wire = m.limits(peer)
	}
	probe := size > int(tun) && size <= int(m.tun) && l.e.isProbe(p)
	if size > int(tun) && !probe {
		return encap.DropTooBig
	}
	if t.metered && !peer.mayGet(t, m.now, inner, size) {
		return encap.DropPeerRate
	}
	if m.look {
		m.cut = m.cut || !probe && size > int(wire)-encap.HeaderLen
		errs.notice(peer, m.now, p)
	}
	if encap.MayOfferMSS(inner) {
		l.clamp(m, peer, p)
	}
	return peer.encap(p)
}

// noInner is why a packet from the TUN, which is no inner packet, may not pass. One of our
// own outer ones, that was to leave by another interface, would go round for ever.
func (t *Table) noInner(d encap.Drop, p *packet.Packet) encap.Drop {
	if encap.IsOuter(p, t) {
		return encap.DropLoop
	}
	return d
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
			size += p.Len() - encap.OuterLen(p)
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

func (f *fragmenter) write(t *Table, m *moment, b *packet.Batch) {
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
		if encap.OverUDP(p) { // the kernel fragments those
			if f.batch.Full() {
				send()
			}
			*f.batch.Next() = *p
			continue
		}
		_, mtu := m.limits(t.at(p.Mark))
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
func (w *errorWriter) answer(d encap.Drop, t *Table, m *moment, p *packet.Packet) {
	switch d {
	case encap.DropTooBig:
		tun, _ := m.limits(t.at(p.Mark))
		w.add(func(dst []byte, from netip.Addr) []byte { return encap.AppendPacketTooBig(dst, tun, from, p) })
	case encap.DropNoPeer, encap.DropNoRelay:
		w.unreachable(encap.UnreachableNoRoute, p)
	case encap.DropMappedDestination:
		w.unreachable(encap.UnreachableAddress, p)
	case encap.DropNested:
		w.l.health.failed(d, errNested)
		w.add(func(dst []byte, from netip.Addr) []byte { return encap.AppendNested(dst, from, p) })
	case encap.DropLoop:
		w.l.health.failed(d, errLoop)
	}
}

var (
	errNested = errors.New("packets are in as many tunnels already as there may be; see whether one tunnel is routed into another and back, or their sender allows none (encapsulation limit 0)")
	errLoop   = errors.New("the tunnel's own packets to its peer are routed into the tunnel; the peer needs a route by another interface (ip route get PEER)")
)

func (w *errorWriter) unreachable(code uint8, p *packet.Packet) {
	w.add(func(dst []byte, from netip.Addr) []byte { return encap.AppendUnreachable(dst, code, from, p) })
}

// notice tells the sender of p, which goes to peer, what an error with a short quote
// said about one before.
func (w *errorWriter) notice(peer *peer, now int64, p *packet.Packet) {
	if code, ok := peer.count.notice.Take(now); ok {
		w.unreachable(code, p)
	}
}

// refuse prepares the error for p, which came from a peer and may not pass, and puts
// it into the outer header to that peer.
func (w *errorWriter) refuse(t *Table, p *packet.Packet) {
	e := w.add(func(dst []byte, from netip.Addr) []byte {
		return encap.AppendUnreachable(dst, encap.UnreachableProhibited, from, p)
	})
	if e != nil && t.at(p.Mark).encap(e) != encap.Forward {
		w.batch.Packets = w.batch.Packets[:w.batch.Len()-1]
	}
}

// add puts what appendTo appends into the batch, or returns nil: there may be enough
// already, and not everything may be answered.
func (w *errorWriter) add(appendTo func(dst []byte, from netip.Addr) []byte) *packet.Packet {
	if w.batch.Full() || w.l.Back == nil {
		return nil
	}
	now := w.l.e.monotonic()
	if w.limit.Empty(now) {
		return nil // a flood costs a look-up each, not an answer
	}
	buf := w.bufs[w.batch.Len()]
	full := appendTo(buf, *w.l.e.source.Load())
	if len(full) == len(buf) || !w.limit.Allow(now) {
		return nil
	}
	e := w.batch.Next()
	e.Set(full, packet.Headroom, nil)
	return e
}

// flush writes the prepared errors to where the packets came from, and returns how many
// it wrote.
func (w *errorWriter) flush() uint64 {
	if w.batch.Len() == 0 {
		return 0
	}
	n, err := w.l.Back.Write(w.batch)
	w.l.created.Add(uint64(n))
	if err != nil {
		w.l.e.log.Debug("an ICMPv6 error could not be delivered", "err", err)
	}
	w.batch.Reset()
	return uint64(n)
}
