package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"sixin4/encap"
	"sixin4/encap/packet"
)

// udpReader receives many datagrams a system call, of which each may be many that the
// kernel has merged.
//
// A merged one is cut by views: each packet in it has its headers copied to a head of
// its own, for outer headers are put in front, and its data stays where it is. A
// datagram that came alone is a packet where it lies. That one may be TCP that was
// never cut, or have its checksum left undone: see inspect.
type udpReader struct {
	u       *UDP
	recv    func(fd int, msgs []mmsghdr) (int, unix.Errno) // recvmmsg, or a test's
	msgs    [BatchSize]mmsghdr
	iovs    [BatchSize][2]unix.Iovec
	names   [BatchSize]unix.RawSockaddrInet4
	control [BatchSize][udpControlSize]byte
	front   [BatchSize][]byte // headroom and the first udpFront bytes
	whole   [BatchSize][]byte // what is beyond, with space for the front before it
	heads   []byte            // udpHeadRoom bytes for each packet of a batch
	hints   hints

	next, end int // messages that were received and not handed out yet
	now       message
}

// message is what the kernel gave in one piece.
type message struct {
	open   bool
	data   []byte // what is left of it
	seg    int    // length of each datagram in it, of which the last may be shorter
	alone  bool   // it is one datagram
	slot   int
	header udpHeader
	from   netip.AddrPort

	reassembled bool
}

const (
	// udpControlSize holds all control messages that are asked for.
	udpControlSize = 128
	udpHeadRoom    = packet.Headroom + udpFront
)

func newUDPReader(u *UDP) *udpReader {
	r := &udpReader{u: u, recv: recvmmsg}
	r.hints.suspects, r.hints.log = suspects{linkMTU: u.cfg.LinkMTU, port: u.local.Port()}, u.log
	r.hints.open()
	fronts := make([]byte, BatchSize*udpHeadRoom)
	for i := range r.msgs {
		r.front[i] = fronts[i*udpHeadRoom : (i+1)*udpHeadRoom : (i+1)*udpHeadRoom]
		r.whole[i] = make([]byte, maxPacket)
		r.iovs[i][0] = unix.Iovec{Base: &r.front[i][packet.Headroom], Len: udpFront}
		r.iovs[i][1] = unix.Iovec{Base: &r.whole[i][udpFront], Len: maxPacket - udpFront}
		h := &r.msgs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Iov, h.Iovlen = &r.iovs[i][0], 2
		h.Control = &r.control[i][0]
	}
	return r
}

func (r *udpReader) Close() error { return r.u.Close() }

// Read takes what is there, waiting only for the first packet. Messages are handed out
// whole where they fit, since what comes in one piece can go on in one.
func (r *udpReader) Read(b *packet.Batch) error {
	b.Reset()
	if !r.u.gate.Enter() {
		return os.ErrClosed
	}
	defer r.u.gate.Leave()
	if need := cap(b.Packets) * udpHeadRoom; len(r.heads) < need {
		r.heads = make([]byte, need)
	}
	for {
		for r.next < r.end && r.handOut(b) {
			r.next++
		}
		if b.Len() > 0 {
			return nil
		}
		if err := r.receive(); err != nil {
			return err
		}
	}
}

// handOut adds the packets of the next message to b. It reports whether that was all
// of them.
func (r *udpReader) handOut(b *packet.Batch) bool {
	m := &r.now
	if !m.open {
		r.open(r.next)
	}
	if left := (len(m.data) + m.seg - 1) / max(m.seg, 1); b.Len() > 0 && b.Len()+left > cap(b.Packets) {
		return false
	}
	for len(m.data) > 0 && !b.Full() {
		d := m.data[:min(m.seg, len(m.data))]
		m.data = m.data[len(d):]
		switch kindOf(d) {
		case udpData:
			r.packet(b, d)
		case udpControl:
			r.u.control.deliver(m.from, d)
		default:
			r.u.count.junk.Add(1)
		}
	}
	m.open = len(m.data) > 0
	return !m.open
}

// open makes message i the one that packets are cut from.
func (r *udpReader) open(i int) {
	size, from := int(r.msgs[i].n), &r.names[i]
	c := r.controls(i)
	m := &r.now
	m.open, m.slot, m.seg, m.alone, m.reassembled = true, i, size, true, c.reassembled
	m.data = r.front[i][packet.Headroom : packet.Headroom+min(size, udpFront)]
	if size > udpFront {
		copy(r.whole[i], m.data)
		m.data = r.whole[i][:size]
	}
	src := endpoint{from.Addr, networkOrder(from.Port)}
	m.from = netip.AddrPortFrom(netip.AddrFrom4(src.addr), src.port)
	m.header = newUDPHeader(src, endpoint{c.to, r.u.local.Port()}, c.tos)
	if size == 0 {
		r.u.count.junk.Add(1)
	}
	if c.seg > 0 && c.seg < size {
		m.seg, m.alone = c.seg, false
		r.u.count.merged.Add(1)
	}
	if size > r.u.cfg.LinkMTU-UDPHeaderLen {
		r.u.count.longer.Add(1)
	}
}

// packet adds the datagram d, of the present message, to b.
func (r *udpReader) packet(b *packet.Batch, d []byte) {
	const off = packet.Headroom - UDPHeaderLen
	m, i := &r.now, b.Len()
	p := b.Next()
	if m.alone {
		buf, n := r.front[m.slot], min(len(d), udpFront)
		p.Set(buf[:packet.Headroom+n], off, d[n:])
		m.header.put(buf[off:packet.Headroom], len(d))
		r.inspect(p, m.reassembled)
		return
	}
	buf := r.heads[i*udpHeadRoom : (i+1)*udpHeadRoom]
	n := copy(buf[packet.Headroom:], d[:headLen(d)])
	p.Set(buf[:packet.Headroom+n], off, d[n:])
	m.header.put(buf[off:packet.Headroom], len(d))
}

// inspect finds out whether p, a datagram that came alone, has a checksum left undone,
// as what the kernel of a peer on this machine carries, and whether it is merged. No
// other packet is: nobody on the way merges what is inside UDP, and the kernel cuts and
// merges only datagrams with a UDP checksum, which those have not.
func (r *udpReader) inspect(p *packet.Packet, reassembled bool) {
	p.Pull(UDPHeaderLen)
	inner := encap.IPv6(p.Head())
	if len(inner) >= encap.IPv6HeaderLen && encap.IPv6HeaderLen+inner.PayloadLen() == p.Len() {
		encap.MarkSum(p)
		if p.Sum == packet.SumPartial && r.hints.inspect(p, UDPHeaderLen, reassembled) {
			r.u.count.merged.Add(1)
		}
	}
	p.Push(UDPHeaderLen)
}

// receive fills messages.
func (r *udpReader) receive() error {
	for i := range r.msgs {
		h := &r.msgs[i].hdr
		h.Controllen, h.Namelen = udpControlSize, unix.SizeofSockaddrInet4
	}
	for {
		n, errno := r.recv(r.u.fd, r.msgs[:])
		switch {
		case errno == 0:
			r.next, r.end = 0, n
			return nil
		case errno == unix.EAGAIN:
			if err := r.u.gate.Wait(r.u.fd); err != nil {
				return err
			}
		case errno == unix.EINTR:
		case r.u.passing(errno):
			r.u.noteRefused(errno)
		// As on a raw socket, these are told once and are about no datagram of ours.
		case errno == unix.ENETDOWN, errno == unix.ENOBUFS, errno == unix.ENOMEM:
			r.u.log.Warn("receiving failed, going on", "err", errno)
		default:
			return fmt.Errorf("receive on UDP socket: %w", errno)
		}
	}
}

// udpNotes is what the control messages of a message say.
type udpNotes struct {
	seg         int
	tos         uint8
	to          [4]byte
	reassembled bool
}

// controls reads the control messages of message i.
func (r *udpReader) controls(i int) udpNotes {
	notes := udpNotes{to: r.u.local.Addr().As4()}
	b := r.control[i][:r.msgs[i].hdr.Controllen]
	for len(b) >= unix.CmsgLen(1) {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		data := b[unix.CmsgLen(0):min(max(int(h.Len), unix.CmsgLen(0)), len(b))]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TOS && len(data) >= 1:
			notes.tos = data[0]
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			notes.seg = int(int32(binary.NativeEndian.Uint32(data)))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			notes.to = [4]byte(data[8:]) // ipi_addr
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_RECVFRAGSIZE:
			notes.reassembled = true
			r.u.count.reassembled.Add(1)
		}
		b = b[min(unix.CmsgSpace(len(data)), len(b)):]
	}
	return notes
}

func recvmmsg(fd int, msgs []mmsghdr) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}
