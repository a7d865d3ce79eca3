package tun

import (
	"encoding/binary"

	"sixin4/encap/packet"
)

// headRoom is the space for the headers of one segment: the headroom that
// every packet has, then more header bytes than the kernel ever lets a
// segmented packet have in practice (the fixed header, TCP with all options,
// and 400 bytes of extension headers).
const headRoom = packet.Headroom + 512

// splitter cuts one TCP or UDP super-packet into packets that fit the link, a
// batch at a time. Each gets a copy of the headers and a view of the payload.
type splitter struct {
	super  []byte // the whole super-packet; its headers are the template
	t      transport
	seg    int    // payload bytes of each packet but the last
	at     int    // where in super the next packet's payload starts
	pseudo uint64 // of the pseudo-header, without its length
}

// begin prepares to cut pkt into segments of seg payload bytes. partial says
// that its checksum field holds the pseudo-header sum for the whole length; it
// is then used, because with a routing header the addresses in the IPv6 header
// are not those of the pseudo-header. It reports whether pkt can be cut.
func (s *splitter) begin(pkt []byte, seg int, partial bool) bool {
	t, ok := findTransport(pkt)
	if !ok || seg <= 0 || packet.Headroom+t.hlen > headRoom || t.hlen >= len(pkt) || !(t.plain || partial) {
		return false
	}
	*s = splitter{super: pkt, t: t, seg: seg, at: t.hlen}
	length := len(pkt) - t.off
	if partial {
		field := binary.BigEndian.Uint16(pkt[t.checkOff():])
		s.pseudo = packet.AddWord(uint64(field), uint32(^uint16(packet.Fold(uint64(length))))) // field - length
		return true
	}
	s.pseudo = pseudoSum(pkt, t, 0)
	return true
}

// more reports whether packets are left to emit.
func (s *splitter) more() bool { return s.at < len(s.super) }

// emit adds packets to b until b is full or the super-packet is used up.
// heads has headRoom bytes for every packet that b can hold. It returns how
// many packets it added.
func (s *splitter) emit(b *packet.Batch, heads []byte) (n int) {
	for s.more() {
		i := b.Len()
		p := b.Next()
		if p == nil {
			return n
		}
		s.one(p, heads[i*headRoom:(i+1)*headRoom])
		n++
	}
	return n
}

// one makes the next packet in room.
func (s *splitter) one(p *packet.Packet, room []byte) {
	t := s.t
	first := s.at == t.hlen
	end := min(s.at+s.seg, len(s.super))
	payload := s.super[s.at:end]
	p.Set(room[:packet.Headroom+t.hlen], packet.Headroom, payload)
	h := p.Head()
	copy(h, s.super[:t.hlen])

	length := t.hlen - t.off + len(payload)
	binary.BigEndian.PutUint16(h[ip6PayLen:], uint16(t.hlen-ip6Len+len(payload)))
	if t.udp {
		binary.BigEndian.PutUint16(h[t.off+udpLength:], uint16(length))
	} else {
		s.tcp(h[t.off:], first, end == len(s.super))
	}
	field := h[t.checkOff():]
	field[0], field[1] = 0, 0
	sum := packet.AddWord(packet.AddBytes(s.pseudo, h[t.off:]), uint32(length))
	putCheck(field, packet.AddBytes(sum, payload), t.udp)
	s.at = end
}

// tcp sets the sequence number and the flags of one segment: PSH and FIN go
// with the last byte, CWR is answered once (RFC 3168, Section 6.1.2).
func (s *splitter) tcp(h []byte, first, last bool) {
	seq := binary.BigEndian.Uint32(h[tcpSeq:])
	binary.BigEndian.PutUint32(h[tcpSeq:], seq+uint32(s.at-s.t.hlen))
	if !last {
		h[tcpFlags] &^= tcpPSH | tcpFIN
	}
	if !first {
		h[tcpFlags] &^= tcpCWR
	}
}

// splitBuffer cuts merged packets for writers whose device takes none.
type splitBuffer struct {
	s     splitter
	batch *packet.Batch
	heads []byte
	whole []byte // a packet that came in two pieces, in one
}

// each calls write with every packet that p was merged from. It goes on after an
// error and returns the first one.
func (sb *splitBuffer) each(p *packet.Packet, write func(*packet.Packet) error) (err error) {
	if sb.batch == nil {
		sb.batch = packet.NewBatch(maxJoined)
		sb.heads = make([]byte, maxJoined*headRoom)
	}
	super := p.Head()
	if len(p.Payload) > 0 {
		sb.whole = p.AppendTo(sb.whole[:0])
		super = sb.whole
	}
	if !sb.s.begin(super, p.Seg, true) {
		return packet.ErrMalformed
	}
	for sb.s.more() {
		sb.batch.Reset()
		sb.s.emit(sb.batch, sb.heads)
		for i := range sb.batch.Packets {
			if e := write(&sb.batch.Packets[i]); e != nil && err == nil {
				err = e
			}
		}
	}
	return err
}

// complete finishes the partial checksum of p.
func complete(p *packet.Packet) {
	h := p.Head()
	if t, ok := findTransport(h); ok {
		completeCheck(h, p.Payload, t.off, t.checkOff(), t.udp)
	}
	p.Sum = packet.SumFull
}
