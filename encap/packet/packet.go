// Package packet is the leaf that the host side (tun) and the wire side (encap)
// share: an IP packet as a head and a payload, a batch of them, and the Internet
// checksum. It imports nothing of the project.
package packet

import "errors"

// Headroom is how many free bytes stand before the head of every packet that a
// reader hands out: room for an outer IPv4 header (20, with no options), a UDP
// header (8) and a little more, so that every header is added in place.
const Headroom = 40

// Sum says how far the transport checksum of a packet has been computed.
type Sum uint8

const (
	// SumFull is a packet as it goes over a wire: its transport checksum, if it
	// has one, covers header and payload. It may still be wrong.
	SumFull Sum = iota
	// SumPartial is a TCP or UDP packet whose checksum field holds only the sum
	// of its pseudo-header. Whoever lets it leave the machine completes it.
	SumPartial
)

// Packet is one IP packet in two pieces. The head is Buf[Off:] and holds all
// headers; Payload is the rest, often a view into a larger read, and nil when
// the head holds everything. A Packet is valid until the batch it came in is
// read into again, and never leaves the goroutine that read it.
type Packet struct {
	Buf     []byte // at least Headroom bytes, then the head
	Off     int    // where the head starts in Buf
	Payload []byte

	// Seg is nonzero when several packets of one flow were merged into this one
	// by the kernel or by a writer: the transport payload bytes of each of them,
	// the last excepted, which may be shorter. SumPartial is then implied.
	Seg int
	Sum Sum

	// Mark belongs to whoever carries the batch; the engine keeps the index of
	// the peer there. Readers and writers leave it alone.
	Mark int32
	// Err is set by a writer for a packet that it could not write.
	Err error
}

// Set makes p the packet whose head is buf[off:] and whose remainder is payload,
// with a full checksum, not merged and not marked.
func (p *Packet) Set(buf []byte, off int, payload []byte) {
	*p = Packet{Buf: buf, Off: off, Payload: payload}
}

// Head returns the contiguous first piece of the packet, with all its headers.
func (p *Packet) Head() []byte { return p.Buf[p.Off:] }

// Len returns the length of the whole packet in bytes.
func (p *Packet) Len() int { return len(p.Buf) - p.Off + len(p.Payload) }

// Push puts n bytes of headroom in front of the head and returns them, with
// whatever they held. It panics when there is no room, which is a defect of the
// caller: n is a constant no larger than Headroom.
func (p *Packet) Push(n int) []byte {
	p.Off -= n
	return p.Buf[p.Off : p.Off+n]
}

// Pull takes n bytes off the front of the head. n is at most len(p.Head()).
func (p *Packet) Pull(n int) { p.Off += n }

// Trim cuts the packet to its first n bytes; n is at most p.Len().
func (p *Packet) Trim(n int) {
	head := len(p.Buf) - p.Off
	if n <= head {
		p.Buf = p.Buf[:p.Off+n]
		p.Payload = nil
		return
	}
	p.Payload = p.Payload[:n-head]
}

// AppendTo appends the bytes of the whole packet to dst.
func (p *Packet) AppendTo(dst []byte) []byte {
	return append(append(dst, p.Head()...), p.Payload...)
}

// Errors that a reader leaves in Packet.Err: the packet stands in the batch only
// to be counted.
var (
	// ErrMalformed is a packet whose headers contradict what came with it.
	ErrMalformed = errors.New("malformed packet")
	// ErrSegmentUnknown is UDP that the kernel merged without saying at which
	// length to cut it again.
	ErrSegmentUnknown = errors.New("merged packet of unknown segment size")
)
