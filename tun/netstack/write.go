package netstack

import (
	"bytes"
	"encoding/binary"
	"os"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"sixin4/encap/packet"
)

// The way in
//
//  1. a batch comes, some of its packets merged already         Writer.Write
//  2. merged datagrams are cut again                            Writer.datagrams
//  3. consecutive segments of a TCP flow become one             flow
//  4. each goes to the stack, in memory of its own, which the
//     stack keeps as long as nobody has read it                 link.deliver

// Writer gives packets to the stack. It belongs to one goroutine; a device may have
// many.
type Writer struct {
	l    *link
	flow flow
}

// NewWriter returns a new writer.
func (d *Device) NewWriter() *Writer { return &Writer{l: d.link} }

// Write gives the packets of b to the stack. One that is no IPv6, or too short for
// what its headers say, gets packet.ErrMalformed as its Err and costs no other; n
// counts those the stack took, and err is the first error. A packet whose TCP checksum
// is wrong counts as taken: that is between the hosts. The bytes of the packets
// stay what they are.
func (w *Writer) Write(b *packet.Batch) (n int, err error) {
	if w.l.isShut() {
		return 0, os.ErrClosed
	}
	w.l.in.Lock()
	defer w.l.in.Unlock()
	n, err = b.Each(w.packet)
	w.end()
	return n, err
}

// packet takes one packet.
func (w *Writer) packet(p *packet.Packet) error {
	h := p.Head()
	if len(h) < ip6Len || h[0]>>4 != 6 {
		return packet.ErrMalformed
	}
	switch {
	case h[ip6Next] == protoUDP && p.Seg > 0:
		w.end()
		return w.datagrams(p)
	case isSegment(p):
		return w.segment(p)
	}
	w.end()
	v := viewOf(p)
	if h[ip6Next] == protoICMPv6 {
		simplify(v.AsSlice())
	}
	w.l.deliver(newBuffer(v), p.Seg > 0 || p.Sum == packet.SumPartial)
	return nil
}

// isSegment reports whether p is TCP with data and nothing out of the ordinary: the
// packets that come in crowds.
func isSegment(p *packet.Packet) bool {
	h := p.Head()
	if h[ip6Next] != protoTCP || len(h) < ip6Len+tcpMinLen {
		return false
	}
	hlen := ip6Len + int(h[ip6Len+tcpDataOff]>>4)*4
	return hlen >= ip6Len+tcpMinLen && hlen <= len(h) && hlen < p.Len() &&
		h[ip6Len+tcpFlags]&^tcpPSH == tcpACK &&
		int(binary.BigEndian.Uint16(h[ip6PayLen:]))+ip6Len == p.Len()
}

// segment joins p to those before it, or begins anew with it.
func (w *Writer) segment(p *packet.Packet) error {
	verified := p.Seg > 0 || p.Sum == packet.SumPartial
	if !verified && !rightSum(p) {
		w.l.badSum.Add(1)
		return nil
	}
	if !w.flow.fits(p) {
		w.end()
		w.flow.begin(p)
	} else {
		w.flow.add(p)
	}
	if p.Head()[ip6Len+tcpFlags]&tcpPSH != 0 {
		w.end() // somebody waits for this
	}
	return nil
}

// rightSum verifies the checksum of a TCP packet without extension headers.
func rightSum(p *packet.Packet) bool {
	h := p.Head()
	sum := packet.PseudoHeader(h[ip6Addrs:], protoTCP, p.Len()-ip6Len)
	return packet.Fold(packet.AddBytes(packet.AddBytes(sum, h[ip6Len:]), p.Payload)) == 0xffff
}

// end hands over what was joined.
func (w *Writer) end() {
	if whole, n := w.flow.end(); whole != nil {
		if n > 1 {
			w.l.joined.Add(uint64(n))
		}
		w.l.deliver(whole, true)
	}
}

// datagrams takes UDP that was merged on its way, and cuts it again.
func (w *Writer) datagrams(p *packet.Packet) error {
	all := viewOf(p)
	defer all.Release()
	b := all.AsSlice()
	if len(b) < ip6Len+udpLen {
		return packet.ErrMalformed
	}
	for payload := b[ip6Len+udpLen:]; len(payload) > 0; {
		n := min(p.Seg, len(payload))
		one := buffer.NewView(ip6Len + udpLen + n)
		_, _ = one.Write(b[:ip6Len+udpLen]) // a view grows and never fails
		_, _ = one.Write(payload[:n])
		h := one.AsSlice()
		binary.BigEndian.PutUint16(h[ip6PayLen:], uint16(udpLen+n))
		binary.BigEndian.PutUint16(h[ip6Len+udpLength:], uint16(udpLen+n))
		w.l.deliver(newBuffer(one), true)
		payload = payload[n:]
	}
	return nil
}

// viewOf returns a copy of p that the stack may keep.
func viewOf(p *packet.Packet) *buffer.View {
	v := buffer.NewView(p.Len())
	_, _ = v.Write(p.Head())
	if len(p.Payload) > 0 {
		_, _ = v.Write(p.Payload)
	}
	return v
}

func newBuffer(v *buffer.View) *stack.PacketBuffer {
	return stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
}

// flow is consecutive segments of one TCP connection that become one packet: their
// payloads behind the headers of the first, as generic receive offload joins them.
// The payloads are views of the batch until the packet is complete; then they are
// copied, once, into one piece.
type flow struct {
	parts  [][]byte                 // payloads
	header [ip6Len + maxTCPLen]byte // of the first
	hlen   int
	count  int    // of packets
	length int    // of the whole packet so far
	size   int    // payload bytes of the first
	seq    uint32 // expected next
	full   bool   // the last one was shorter than the first: a flow ends so
}

// fits reports whether p goes on where the flow ends.
func (f *flow) fits(p *packet.Packet) bool {
	h := p.Head()
	if f.count == 0 || f.full || len(h) < f.hlen {
		return false
	}
	payload := p.Len() - f.hlen
	t, u := h[ip6Len:f.hlen], f.header[ip6Len:f.hlen]
	return f.length+payload <= ip6Len+0xffff && payload <= f.size &&
		bytes.Equal(h[:ip6PayLen], f.header[:ip6PayLen]) && // with ECN, which must not be lost
		bytes.Equal(h[ip6Next:ip6Len], f.header[ip6Next:ip6Len]) &&
		bytes.Equal(t[:tcpSeq], u[:tcpSeq]) &&
		binary.BigEndian.Uint32(t[tcpSeq:]) == f.seq &&
		bytes.Equal(t[tcpAck:tcpFlags], u[tcpAck:tcpFlags]) &&
		bytes.Equal(t[tcpWindow:tcpCheck], u[tcpWindow:tcpCheck]) &&
		bytes.Equal(t[tcpMinLen:], u[tcpMinLen:])
}

// begin makes p the first.
func (f *flow) begin(p *packet.Packet) {
	h := p.Head()
	f.hlen = ip6Len + int(h[ip6Len+tcpDataOff]>>4)*4
	copy(f.header[:], h[:f.hlen])
	*f = flow{
		parts: f.parts[:0], header: f.header, hlen: f.hlen,
		length: f.hlen, size: p.Len() - f.hlen,
		seq: binary.BigEndian.Uint32(h[ip6Len+tcpSeq:]),
	}
	f.add(p)
}

// add puts the payload of p behind the others.
func (f *flow) add(p *packet.Packet) {
	h := p.Head()
	if len(h) > f.hlen {
		f.parts = append(f.parts, h[f.hlen:])
	}
	if len(p.Payload) > 0 {
		f.parts = append(f.parts, p.Payload)
	}
	n := p.Len() - f.hlen
	f.header[ip6Len+tcpFlags] |= h[ip6Len+tcpFlags]
	f.count++
	f.length += n
	f.seq += uint32(n)
	f.full = n < f.size
}

// end returns the packet and of how many it is made, nil when there is none.
func (f *flow) end() (whole *stack.PacketBuffer, count int) {
	if f.count == 0 {
		return nil, 0
	}
	binary.BigEndian.PutUint16(f.header[ip6PayLen:], uint16(f.length-ip6Len))
	// Two pieces: the stack shares the memory of a packet when it looks through its
	// headers, and copies a piece that is shared when it takes a header out of it.
	whole = newBuffer(buffer.NewViewWithData(f.header[:f.hlen]))
	v := buffer.NewView(f.length - f.hlen)
	for _, part := range f.parts {
		_, _ = v.Write(part) // a view grows and never fails
	}
	whole.Data().AppendView(v)
	count, f.count = f.count, 0
	return whole, count
}
