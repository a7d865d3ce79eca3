package encap

import (
	"encoding/binary"

	"sixin4/encap/packet"
)

// Fragment cuts the encapsulated packet p into IPv4 fragments of at most mtu
// bytes each (RFC 791, Section 3.2) and adds them to dst: for a link under 1300
// bytes, since a tunnel always carries 1280 and a raw socket does not fragment
// what comes with its header. All but the last are as long as mtu and the unit of
// 8 bytes allow, and DF is clear. mtu is taken as MinFragmentMTU at least. A
// packet that fits is added as it is. Transport checksums are complete.
//
// No payload is copied. The first fragment is the front of p itself, whose
// header is changed; each other one has its header in 40 bytes of room
// (packet.Headroom), the upper half of which is the header, and a view of p. Only
// the head's bytes in a fragment that begins in p's head and ends in its payload
// follow the header in room. So p, room and the fragments live equally long.
//
// It returns what is left of room, or false when dst or room cannot take all,
// and dst and p are unchanged then. Room for n fragments and a head of h bytes is
// at most n*packet.Headroom + h.
func Fragment(p *packet.Packet, mtu WireMTU, dst *packet.Batch, room []byte) ([]byte, bool) {
	mtu = max(mtu, MinFragmentMTU)
	size, total := int(mtu-HeaderLen)&^7, p.Len()-HeaderLen
	if p.Len() <= int(mtu) {
		size = total
	}
	if !fits(p, size, dst, room) {
		return room, false
	}
	if size == total {
		*dst.Next() = *p
		return room, true
	}
	template := [HeaderLen]byte(p.Head())
	for at := 0; at < total; at += size {
		n := min(size, total-at)
		f := dst.Next()
		room = cut(f, p, at, n, room)
		f.Mark = p.Mark
		fragmentHeader((*[HeaderLen]byte)(f.Head()), &template, at, n, at+n < total)
	}
	return room, true
}

// fits reports whether dst and room can take the fragments of p.
func fits(p *packet.Packet, size int, dst *packet.Batch, room []byte) bool {
	total := p.Len() - HeaderLen
	n := max((total+size-1)/size, 1)
	need := (n - 1) * packet.Headroom
	if head := len(p.Head()) - HeaderLen; head > size && len(p.Payload) > 0 {
		need += head % size // the bytes that straddle
	}
	return cap(dst.Packets)-dst.Len() >= n && len(room) >= need
}

// cut makes f the n bytes of p from at on, counted behind the outer header, with
// space for a header in front, and returns what is left of room.
func cut(f, p *packet.Packet, at, n int, room []byte) []byte {
	head, data := p.Head()[HeaderLen:], p.Payload
	inHead := head[min(at, len(head)):min(at+n, len(head))]
	inData := data[max(at-len(head), 0):max(at+n-len(head), 0)]
	if at == 0 {
		end := p.Off + HeaderLen + len(inHead)
		f.Set(p.Buf[:end:end], p.Off, inData)
		return room
	}
	slot := packet.Headroom
	if len(inData) == 0 {
		inHead, inData = nil, inHead // a view will do
	}
	slot += copy(room[slot:], inHead)
	f.Set(room[:slot:slot], packet.Headroom-HeaderLen, inData)
	return room[slot:]
}

// fragmentHeader writes the header of a fragment of n bytes that starts at byte
// at of the packet whose header is template.
func fragmentHeader(b, template *[HeaderLen]byte, at, n int, more bool) {
	*b = *template
	flags := uint16(at / 8)
	if more {
		flags |= flagMF
	}
	binary.BigEndian.PutUint16(b[2:], uint16(HeaderLen+n))
	binary.BigEndian.PutUint16(b[6:], flags)
	binary.BigEndian.PutUint16(b[10:], 0)
	binary.BigEndian.PutUint16(b[10:], ^packet.Fold(IPv4(b[:]).headerSum()))
}
