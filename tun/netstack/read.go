package netstack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"sixin4/encap/packet"
)

// The way out
//
//  1. the stack's packets wait in the queue of the link        link.WritePackets
//  2. all of them are taken, and held until the next but one   Reader.next
//  3. a packet with its payload in one piece goes on as it is  Reader.whole
//  4. a large TCP segment is cut into packets whose payload is
//     a view of it, each with its own copy of the headers      cutter.cut

// Reader reads what the stack sends. It belongs to one goroutine, and a device has
// one reader at a time.
type Reader struct {
	l    *link
	held []*stack.PacketBuffer // packets of the last Read and those to come
	at   int                   // of held: the first that is not used up
	cut  cutter                // of held[at], when it is being cut
	room []slot
}

// slot is memory for one packet of a batch.
type slot struct {
	head [headRoom]byte
	flat []byte // a payload that lay in pieces
}

// headRoom is the space for the headers of one segment of TCP: the stack sends no
// extension headers with it.
const headRoom = packet.Headroom + ip6Len + maxTCPLen

// Reader returns a reader.
func (d *Device) Reader() *Reader { return &Reader{l: d.link} }

// Read waits for packets and replaces the contents of b by them; they are valid
// until the next Read. After Close it returns os.ErrClosed, and nothing else.
func (r *Reader) Read(b *packet.Batch) error {
	b.Reset()
	if len(r.room) < cap(b.Packets) {
		r.room = make([]slot, cap(b.Packets))
	}
	if r.at == len(r.held) {
		if err := r.refill(); err != nil {
			return err
		}
	}
	for !b.Full() && r.at < len(r.held) {
		r.fill(b)
	}
	return nil
}

// Close ends a Read that waits. It closes the link for good: the stack can send
// nothing any more. It is idempotent.
func (r *Reader) Close() error {
	r.l.shut()
	return nil
}

// refill releases the packets that the reader is done with and waits for others.
func (r *Reader) refill() (err error) {
	for i, p := range r.held {
		p.DecRef()
		r.held[i] = nil
	}
	r.held, err = r.l.take(r.held[:0])
	r.at = 0
	return err
}

// fill adds the next packet to b, or as many as fit of those it is cut into.
func (r *Reader) fill(b *packet.Batch) {
	p := r.held[r.at]
	if !r.cut.more() {
		if !r.cut.begin(p) {
			r.whole(b, p)
			r.at++
			return
		}
		r.l.split.Add(1)
	}
	n := b.Len()
	for r.cut.more() && !b.Full() {
		slot := &r.room[b.Len()]
		r.cut.next(b.Next(), slot)
	}
	r.l.splitInto.Add(uint64(b.Len() - n))
	if !r.cut.more() {
		r.at++
	}
}

// whole adds p as it is: its headers are in one piece, with the headroom in front
// that the link asked for, and its payload mostly is.
func (r *Reader) whole(b *packet.Batch, p *stack.PacketBuffer) {
	slot := &r.room[b.Len()]
	views, skip := p.AsViewList()
	first := views.Front()
	buf := first.AsSlice()
	if skip < packet.Headroom || skip+ip6Len > len(buf) {
		slot.flat = flatten(append(slot.flat[:0], make([]byte, packet.Headroom)...), p)
		b.Next().Set(slot.flat, packet.Headroom, nil)
		return
	}
	payload := []byte(nil)
	if second := first.Next(); second != nil {
		payload = second.AsSlice()
		if second.Next() != nil {
			slot.flat = slot.flat[:0]
			for v := second; v != nil; v = v.Next() {
				slot.flat = append(slot.flat, v.AsSlice()...)
			}
			payload = slot.flat
		}
	}
	out := b.Next()
	out.Set(buf, skip, payload)
	if p.GSOOptions.Type != stack.GSONone && p.GSOOptions.NeedsCsum {
		complete(out)
	}
}

// flatten appends all of p to dst.
func flatten(dst []byte, p *stack.PacketBuffer) []byte {
	views, skip := p.AsViewList()
	for v := views.Front(); v != nil; v = v.Next() {
		b := v.AsSlice()
		n := min(skip, len(b))
		dst = append(dst, b[n:]...)
		skip -= n
	}
	return dst
}

// complete finishes the checksum of a TCP packet without extension headers, whose
// field holds the sum of the pseudo-header, as the stack leaves it for a link that
// cuts segments.
func complete(p *packet.Packet) {
	h := p.Head()
	if len(h) < ip6Len+tcpMinLen || h[ip6Next] != protoTCP {
		return
	}
	sum := packet.AddBytes(packet.AddBytes(0, h[ip6Len:]), p.Payload)
	binary.BigEndian.PutUint16(h[ip6Len+tcpCheck:], ^packet.Fold(sum))
}

// cutter cuts one large TCP segment into packets that fit the link.
type cutter struct {
	headers []byte // of the segment: IPv6 and TCP
	pieces  pieces // its payload
	seg     int    // payload bytes of each packet but the last
	left    int    // payload bytes to come
	seq     uint32 // of the next packet
	pseudo  uint64 // of the pseudo-header, without its length
	first   bool
}

// begin prepares to cut p, and reports whether it has to be.
func (c *cutter) begin(p *stack.PacketBuffer) bool {
	gso := &p.GSOOptions
	payload := p.Data().Size()
	if gso.Type != stack.GSOTCPv6 || gso.MSS == 0 || payload <= int(gso.MSS) {
		return false
	}
	views, skip := p.AsViewList()
	first := views.Front()
	h := first.AsSlice()[skip:]
	if len(h) < ip6Len+tcpMinLen || len(h) > ip6Len+maxTCPLen {
		return false
	}
	*c = cutter{
		headers: h, pieces: piecesOf(first.Next()), seg: int(gso.MSS), left: payload,
		seq:    binary.BigEndian.Uint32(h[ip6Len+tcpSeq:]),
		pseudo: packet.PseudoHeader(h[ip6Addrs:], protoTCP, 0),
		first:  true,
	}
	return true
}

// more reports whether packets are left.
func (c *cutter) more() bool { return c.left > 0 }

// next makes p the next packet, in room.
func (c *cutter) next(p *packet.Packet, room *slot) {
	n := min(c.seg, c.left)
	c.left -= n
	payload := c.pieces.take(n, room)
	p.Set(room.head[:packet.Headroom+len(c.headers)], packet.Headroom, payload)
	h := p.Head()
	copy(h, c.headers)
	length := len(h) - ip6Len + n
	binary.BigEndian.PutUint16(h[ip6PayLen:], uint16(length))
	c.tcp(h[ip6Len:])
	sum := packet.AddWord(packet.AddBytes(c.pseudo, h[ip6Len:]), uint32(length))
	binary.BigEndian.PutUint16(h[ip6Len+tcpCheck:], ^packet.Fold(packet.AddBytes(sum, payload)))
	c.seq += uint32(n)
	c.first = false
}

// tcp sets the sequence number and the flags: PSH and FIN go with the last byte, CWR
// with the first (RFC 3168, Section 6.1.2).
func (c *cutter) tcp(h []byte) {
	binary.BigEndian.PutUint32(h[tcpSeq:], c.seq)
	if c.more() {
		h[tcpFlags] &^= tcpPSH | tcpFIN
	}
	if !c.first {
		h[tcpFlags] &^= tcpCWR
	}
	h[tcpCheck], h[tcpCheck+1] = 0, 0
}
