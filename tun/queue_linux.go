package tun

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"sixin4/encap/packet"
)

// readSlots is how many reads one batch is made of at most, each with room for
// the largest super-packet. Pages that were never written cost no memory.
const readSlots = 64

const slotSize = packet.Headroom + maxTotal + vnetLen

// vnetReader reads from one queue of a device that has virtio headers.
type vnetReader struct {
	d     *Device
	fd    int
	slots [][]byte
	heads []byte   // headRoom bytes for every packet of the batch
	super splitter // what is left of a super-packet that did not fit the batch
	held  int      // the slot that it lies in
}

func newVnetReader(d *Device, fd int) *vnetReader {
	r := &vnetReader{d: d, fd: fd}
	for range readSlots {
		r.slots = append(r.slots, make([]byte, slotSize))
	}
	return r
}

func (r *vnetReader) Close() error { return r.d.Close() }

// Read fills b with what the kernel has ready, waiting only for the first packet:
// under load a batch is many packets, when idle one, without any delay.
func (r *vnetReader) Read(b *packet.Batch) error {
	b.Reset()
	if !r.d.gate.Enter() {
		return os.ErrClosed
	}
	defer r.d.gate.Leave()
	if need := cap(b.Packets) * headRoom; len(r.heads) < need {
		r.heads = make([]byte, need)
	}
	for slot := r.resume(b); slot < len(r.slots) && !b.Full(); slot++ {
		n, err := r.fill(slot, b.Len() == 0)
		if n == 0 || err != nil {
			return err
		}
		r.accept(slot, n, b)
	}
	return nil
}

// resume goes on with the super-packet that filled up the batch before, and
// returns the first slot that may be read into.
func (r *vnetReader) resume(b *packet.Batch) int {
	if !r.super.more() {
		return 0
	}
	r.slots[0], r.slots[r.held] = r.slots[r.held], r.slots[0]
	r.held = 0
	r.d.counters.splitInto.Add(uint64(r.super.emit(b, r.heads)))
	return 1
}

// fill reads one packet with its virtio header into a slot such that the packet
// starts behind the headroom. n is 0 when nothing is there and wait is false.
func (r *vnetReader) fill(slot int, wait bool) (n int, err error) {
	buf := r.slots[slot][packet.Headroom-vnetLen:]
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(r.fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EAGAIN:
			if !wait {
				return 0, nil
			}
			if err := r.d.gate.Wait(r.fd); err != nil {
				return 0, err
			}
		case unix.EINTR:
		case unix.EBADFD:
			return 0, fmt.Errorf("interface %s is gone, somebody deleted it: %w", r.d.name, errno)
		default:
			return 0, fmt.Errorf("read from %s: %w", r.d.name, errno)
		}
	}
}

// accept adds the packet of n bytes, virtio header included, that lies in slot.
func (r *vnetReader) accept(slot, n int, b *packet.Batch) {
	buf := r.slots[slot][:packet.Headroom-vnetLen+n]
	var h vnetHdr
	if n < vnetLen {
		r.malformed(b, buf)
		return
	}
	h.decode(buf[packet.Headroom-vnetLen:])
	pkt := buf[packet.Headroom:]
	partial := h.flags&vnetNeedsCsum != 0
	switch h.gsoType &^ gsoECN {
	case gsoNone:
		if partial && !finish(pkt, &h) {
			r.malformed(b, buf)
			return
		}
		b.Next().Set(buf, packet.Headroom, nil)
	case gsoTCPv6, gsoUDP:
		if len(pkt) > 0 && pkt[0]>>4 == 4 {
			b.Next().Set(buf, packet.Headroom, nil) // nobody carries IPv4
			return
		}
		if !r.super.begin(pkt, int(h.gsoSize), partial) {
			r.malformed(b, buf)
			return
		}
		r.held = slot
		r.d.counters.split.Add(1)
		r.d.counters.splitInto.Add(uint64(r.super.emit(b, r.heads)))
	case gsoTCPv4: // nobody carries IPv4, so it need not be cut
		b.Next().Set(buf, packet.Headroom, nil)
	default:
		r.malformed(b, buf)
	}
}

// malformed adds a packet that is there only to be counted.
func (r *vnetReader) malformed(b *packet.Batch, buf []byte) {
	p := b.Next()
	p.Set(buf, min(packet.Headroom, len(buf)), nil)
	p.Err = packet.ErrMalformed
}

// finish completes the checksum that the kernel left undone. It reports false
// when the header points outside of the packet.
func finish(pkt []byte, h *vnetHdr) bool {
	start, field := int(h.csumStart), int(h.csumStart)+int(h.csumOffset)
	if field+2 > len(pkt) {
		return false
	}
	completeCheck(pkt, nil, start, field, h.csumOffset == udpCheck)
	return true
}

// vnetWriter writes to a device that has virtio headers.
type vnetWriter struct {
	d     *Device
	fds   []int // of all queues
	fd    int   // of the queue that is written to now
	join  joiner
	iovs  []unix.Iovec
	split splitBuffer
	write func(fd int, iovs []unix.Iovec) unix.Errno // writev, or a test's
}

func newVnetWriter(d *Device, fds []int) *vnetWriter {
	return &vnetWriter{
		d: d, fds: fds, write: writev,
		join: joiner{tcp: true, udp: d.features.USO6}, iovs: make([]unix.Iovec, 0, 2*maxJoined),
	}
}

func (w *vnetWriter) Write(b *packet.Batch) (n int, err error) {
	if !w.d.gate.Enter() {
		b.Fail(os.ErrClosed)
		return 0, os.ErrClosed
	}
	defer w.d.gate.Leave()
	w.join.sort(b)
	for i := range w.join.groups {
		g := &w.join.groups[i]
		// The kernel hands out a flow's packets at the queue at which its packets
		// come in: all through one queue would leave the others idle.
		w.fd = w.fds[g.hash>>48%uint64(len(w.fds))]
		w.group(b, g)
	}
	return b.Result()
}

// group writes one group as a super-packet. A kernel that refuses super-packets
// in spite of its offloads gets single packets from then on.
func (w *vnetWriter) group(b *packet.Batch, g *group) {
	first := &b.Packets[g.first]
	if g.count == 1 {
		first.Err = w.single(first)
		return
	}
	s := g.merge(first, &b.Packets[g.last])
	v := g.t.vnet(g.seg)
	w.gather(first, &v)
	for i := w.join.next[g.first]; i >= 0; i = w.join.next[i] {
		w.tail(&b.Packets[i], g.t.hlen)
	}
	errno := w.flush()
	first.Pull(vnetLen)
	switch errno {
	case 0:
		w.d.counters.joined.Add(uint64(g.count))
		w.d.counters.joinedInto.Add(1)
	case unix.EINVAL:
		w.refused(g)
		g.unmerge(first, s)
		for i := g.first; i >= 0; i = w.join.next[i] {
			b.Packets[i].Err = w.single(&b.Packets[i])
		}
	default:
		for i := g.first; i >= 0; i = w.join.next[i] {
			b.Packets[i].Err = errno
		}
	}
}

func (w *vnetWriter) refused(g *group) {
	if g.t.udp {
		w.join.udp = false
	} else {
		w.join.tcp = false
	}
	w.d.log.Warn("the kernel refuses joined packets; going on without", "name", w.d.name, "udp", g.t.udp)
}

// single writes one packet, which may be one that was merged before it came here.
func (w *vnetWriter) single(p *packet.Packet) error {
	var v vnetHdr
	if p.Sum == packet.SumPartial || p.Seg > 0 {
		t, ok := findTransport(p.Head())
		if !ok {
			return packet.ErrMalformed
		}
		seg := p.Seg
		if p.Len()-t.hlen <= seg {
			seg = 0
		}
		if seg > 0 && t.udp && !w.d.features.USO6 {
			return w.split.each(p, w.single)
		}
		v = t.vnet(seg)
	}
	w.gather(p, &v)
	errno := w.flush()
	p.Pull(vnetLen)
	if errno != 0 {
		return errno
	}
	return nil
}

// gather starts a write with a virtio header, put into the headroom, and a packet.
func (w *vnetWriter) gather(p *packet.Packet, v *vnetHdr) {
	v.encode(p.Push(vnetLen))
	w.iovs = w.iovs[:0]
	w.iov(p.Head())
	w.iov(p.Payload)
}

// tail adds the payload of a packet whose headers are hlen bytes.
func (w *vnetWriter) tail(p *packet.Packet, hlen int) {
	w.iov(p.Head()[hlen:])
	w.iov(p.Payload)
}

func (w *vnetWriter) iov(b []byte) {
	if len(b) > 0 {
		w.iovs = append(w.iovs, unix.Iovec{Base: &b[0], Len: uint64(len(b))})
	}
}

func (w *vnetWriter) flush() unix.Errno { return w.write(w.fd, w.iovs) }

func writev(fd int, iovs []unix.Iovec) unix.Errno {
	for {
		_, _, errno := unix.Syscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&iovs[0])), uintptr(len(iovs)))
		if errno != unix.EINTR {
			return errno
		}
	}
}
