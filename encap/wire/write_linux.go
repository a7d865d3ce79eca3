package wire

import (
	"encoding/binary"
	"os"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"sixin4/encap"
	"sixin4/encap/packet"
)

// mmsgWriter sends many packets a system call, head and payload of each gathered
// by the kernel.
type mmsgWriter struct {
	c      *Conn
	raw    int  // the socket that routes
	direct int  // the packet socket, for peers whose next hop is known
	stuck  bool // the last wait for room was in vain, and nothing was sent since
	msgs   [BatchSize]mmsghdr
	iovs   [BatchSize][2]unix.Iovec
	addrs  [BatchSize]unix.RawSockaddrInet4
	links  [BatchSize]unix.RawSockaddrLinklayer
}

// newWriter opens the sockets for sending. IPPROTO_RAW is told of no ICMP error
// about protocol 41, so that IP_RECVERR does what it is set for: a full device
// queue is reported (ENOBUFS) instead of hidden. It would receive packets of
// protocol 255, which a filter keeps out. The packet socket has no protocol, so
// it receives nothing.
func (c *Conn) newWriter() (Writer, error) {
	if c.portable != nil {
		return c.portable.writer(), nil
	}
	if !c.gate.Enter() {
		return nil, os.ErrClosed
	}
	defer c.gate.Leave()
	fd, err := c.openSocket(unix.IPPROTO_RAW, 0)
	if err != nil {
		return nil, err
	}
	if err := attachFilter(fd, []bpf.RawInstruction{{Op: unix.BPF_RET | unix.BPF_K}}); err != nil {
		c.log.Debug("packets of protocol 255 will queue up for nobody", "err", err)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1); err != nil {
		c.log.Debug("a full device queue will not be seen", "err", err)
	}
	w := &mmsgWriter{c: c, raw: fd, direct: -1}
	c.keep(fd)
	if c.cfg.Direct {
		if w.direct, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return nil, openError(err)
		}
		c.keep(w.direct)
	}
	for i := range w.msgs {
		w.addrs[i].Family = unix.AF_INET
		w.links[i].Family = unix.AF_PACKET
		w.links[i].Protocol = networkOrder(unix.ETH_P_IP)
		w.msgs[i].hdr.Iov = &w.iovs[i][0]
	}
	return w, nil
}

// keep notes a descriptor of a writer, to be closed with the connection.
func (c *Conn) keep(fd int) {
	growBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, 1<<20)
	c.mu.Lock()
	c.writers = append(c.writers, fd)
	c.mu.Unlock()
}

func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16([]byte{byte(v >> 8), byte(v)})
}

func (w *mmsgWriter) Write(b *packet.Batch) (n int, err error) {
	if !w.c.gate.Enter() {
		b.Fail(os.ErrClosed)
		return 0, os.ErrClosed
	}
	defer w.c.gate.Leave()
	// A tunnel that has just been one over UDP may leave a batch of that behind. There is
	// one kind in a batch, unless Both has parted them.
	if len(b.Packets) > 0 && encap.OverUDP(&b.Packets[0]) {
		b.Fail(errOtherPeer)
		return 0, errOtherPeer
	}
	hops := w.c.hops.Load()
	for rest := b.Packets; len(rest) > 0; {
		size, fd := w.prepare(rest, hops)
		sent, e := w.send(fd, rest[:size])
		n += sent
		if err == nil {
			err = e
		}
		rest = rest[size:]
	}
	return n, err
}

// prepare makes messages of the first packets that go through one socket, and
// returns how many they are.
func (w *mmsgWriter) prepare(rest []packet.Packet, hops *map[[4]byte]Hop) (size, fd int) {
	for size < min(len(rest), BatchSize) {
		next := w.address(size, encap.IPv4(rest[size].Head()).Dst4(), hops)
		if size > 0 && next != fd {
			break
		}
		fd = next
		w.gather(size, &rest[size])
		size++
	}
	return size, fd
}

// address makes message i go to dst, and returns the socket for it.
func (w *mmsgWriter) address(i int, dst [4]byte, hops *map[[4]byte]Hop) (fd int) {
	h := &w.msgs[i].hdr
	if hops != nil && w.direct >= 0 {
		if hop, ok := (*hops)[dst]; ok {
			l := &w.links[i]
			l.Ifindex, l.Halen = int32(hop.Link), uint8(copy(l.Addr[:], hop.MAC))
			h.Name, h.Namelen = (*byte)(unsafe.Pointer(l)), unix.SizeofSockaddrLinklayer
			return w.direct
		}
	}
	w.addrs[i].Addr = dst
	h.Name, h.Namelen = (*byte)(unsafe.Pointer(&w.addrs[i])), unix.SizeofSockaddrInet4
	return w.raw
}

// gather makes message i carry p.
func (w *mmsgWriter) gather(i int, p *packet.Packet) {
	head := p.Head()
	iov := &w.iovs[i]
	iov[0] = unix.Iovec{Base: &head[0], Len: uint64(len(head))}
	w.msgs[i].hdr.Iovlen = 1
	if len(p.Payload) > 0 {
		iov[1] = unix.Iovec{Base: &p.Payload[0], Len: uint64(len(p.Payload))}
		w.msgs[i].hdr.Iovlen = 2
	}
}

// send sends the messages of part. One that fails is marked and left out.
func (w *mmsgWriter) send(fd int, part []packet.Packet) (sent int, err error) {
	for at := 0; at < len(part); {
		// Never blocks, so the scheduler need not be told: it would hand our
		// processor to another thread after 20 us and take it back again.
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&w.msgs[at])), uintptr(len(part)-at), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			at += int(n)
			sent += int(n)
			w.stuck = false
			continue
		case unix.EINTR:
			continue
		case unix.EAGAIN: // the socket's share of the device queues is used up
			ready, e := w.awaitRoom(fd)
			if e != nil {
				rest := packet.Batch{Packets: part[at:]}
				rest.Fail(e)
				return sent, e
			}
			if ready {
				continue
			}
			errno = unix.ENOBUFS
		}
		part[at].Err = errno
		if err == nil {
			err = errno
		}
		at++
	}
	return sent, err
}

// patience is how long a writer waits for a full socket. Mostly the device queue
// is draining, and to wait is better than to lose. But what fills the socket may
// be packets that go nowhere, held for neighbours that do not answer, and the
// peers behind other neighbours must not wait for those.
const patience = 10 * time.Millisecond

// awaitRoom waits until fd takes packets again. Once it has waited in vain it
// does not wait any more until something was sent.
func (w *mmsgWriter) awaitRoom(fd int) (ready bool, err error) {
	if w.stuck {
		return false, nil
	}
	drainErrors(fd)
	ready, err = w.c.gate.WaitWritable(fd, patience)
	w.stuck = !ready
	return ready, err
}

// drainErrors empties the error queue. IP_RECVERR leaves a note there for each
// packet over the MTU, and while there is one poll(2) returns at once.
func drainErrors(fd int) {
	for {
		if _, _, _, _, err := unix.Recvmsg(fd, nil, nil, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT); err != nil {
			return
		}
	}
}
