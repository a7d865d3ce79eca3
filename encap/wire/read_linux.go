package wire

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"sixin4/encap"
	"sixin4/encap/packet"
)

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// mmsgReader receives many packets a system call.
type mmsgReader struct {
	c       *Conn
	front   [BatchSize][]byte // headroom and the first frontSize bytes
	rest    [BatchSize][]byte // what a merged packet has beyond
	msgs    [BatchSize]mmsghdr
	iovs    [BatchSize][2]unix.Iovec
	control [BatchSize][controlSize]byte
	hints   hints
}

// controlSize holds the control message of IP_RECVFRAGSIZE, or PACKET_AUXDATA.
const controlSize = 64

// frontSize holds every packet of an ordinary link. The fronts lie side by side,
// so that a batch of those stays in the processor's cache; pages of the rest
// cost no memory until a merged packet comes. It is even, for checksums go on
// from one piece to the next.
const frontSize = 2048

func newMmsgReader(c *Conn) *mmsgReader {
	r := &mmsgReader{c: c, hints: hints{suspects: suspects{linkMTU: c.cfg.LinkMTU}, log: c.log}}
	r.hints.open()
	const stride = packet.Headroom + frontSize
	fronts := make([]byte, BatchSize*stride)
	for i := range r.msgs {
		r.front[i] = fronts[i*stride : (i+1)*stride : (i+1)*stride]
		r.rest[i] = make([]byte, maxPacket-frontSize)
		r.iovs[i][0] = unix.Iovec{Base: &r.front[i][packet.Headroom], Len: frontSize}
		r.iovs[i][1] = unix.Iovec{Base: &r.rest[i][0], Len: maxPacket - frontSize}
		h := &r.msgs[i].hdr
		h.Iov, h.Iovlen = &r.iovs[i][0], 2
		h.Control = &r.control[i][0]
	}
	return r
}

func (r *mmsgReader) Close() error { return r.c.Close() }

// Read takes what is there, waiting only for the first packet.
func (r *mmsgReader) Read(b *packet.Batch) error {
	b.Reset()
	if !r.c.gate.Enter() {
		return os.ErrClosed
	}
	defer r.c.gate.Leave()
	n, err := r.receive(min(BatchSize, cap(b.Packets)))
	if err != nil {
		return err
	}
	for i := range n {
		p := b.Next()
		size := int(r.msgs[i].n)
		p.Set(r.front[i][:packet.Headroom+min(size, frontSize)], packet.Headroom, r.rest[i][:max(size-frontSize, 0)])
		r.inspect(p, r.controls(i))
	}
	return nil
}

func (r *mmsgReader) receive(size int) (int, error) {
	for i := range size {
		r.msgs[i].hdr.Controllen = controlSize
	}
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(r.c.fd), uintptr(unsafe.Pointer(&r.msgs[0])), uintptr(size), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EAGAIN:
			r.hints.complete = r.hints.bound
			if err := r.c.gate.Wait(r.c.fd); err != nil {
				return 0, err
			}
		case unix.EINTR:
		default:
			// A pending error of the socket, such as ENETDOWN, is reported once
			// and is about no packet of ours.
			if errno != unix.ENETDOWN && errno != unix.ENOBUFS && errno != unix.ENOMEM {
				return 0, fmt.Errorf("receive on raw socket: %w", errno)
			}
			r.c.log.Warn("receiving failed, going on", "err", errno)
		}
	}
}

// controls reads the control messages of message i. It reports whether the
// packet was reassembled.
func (r *mmsgReader) controls(i int) (reassembled bool) {
	b := r.control[i][:r.msgs[i].hdr.Controllen]
	for len(b) >= unix.SizeofCmsghdr+4 {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		if h.Level == unix.IPPROTO_IP && h.Type == unix.IP_RECVFRAGSIZE {
			reassembled = true
			r.c.counters.reassembled.Add(1)
		}
		b = b[min(unix.CmsgSpace(int(h.Len)-unix.CmsgLen(0)), len(b)):]
	}
	return reassembled
}

// inspect sets what is special about p.
func (r *mmsgReader) inspect(p *packet.Packet, reassembled bool) {
	outer := encap.IPv4(p.Head())
	if outer.CheckIn(p.Len()) != encap.Forward || outer.Protocol() != encap.ProtoIPv6 {
		return // for Decap to refuse
	}
	n := outer.HeaderLen()
	p.Trim(outer.TotalLen())
	p.Pull(n)
	defer p.Push(n)
	if encap.IPv6(p.Head()).CheckIn(p.Len()) != encap.Forward {
		return
	}
	encap.MarkSum(p)
	if p.Len() > r.c.cfg.LinkMTU-n {
		r.c.counters.longer.Add(1)
	}
	if r.hints.inspect(p, n, reassembled) {
		r.c.counters.merged.Add(1)
	}
}
