package wire

import (
	"encoding/binary"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"sixin4/encap"
	"sixin4/encap/packet"
)

// udpWriter sends many messages a system call. A message is a run of packets to one
// peer that the kernel cuts again: all of one length, of which the last may be shorter.
type udpWriter struct {
	u       *UDP
	send    func(fd int, msgs []mmsghdr) (int, unix.Errno) // sendmmsg, or a test's
	msgs    [BatchSize + 1]mmsghdr                         // the last is for one packet alone
	names   [BatchSize + 1]unix.RawSockaddrInet4
	control [BatchSize + 1][udpControlSize]byte
	runs    [BatchSize + 1]run
	iovs    [sendIovs + 2]unix.Iovec
	stuck   bool // the last wait for room was in vain, and nothing was sent since

	// After the kernel has refused to cut a run, the next ones go packet by packet: pause
	// of them, doubled each time until one run gets through.
	pause, left int
}

// run is the packets of one message: those of a batch from first on.
type run struct{ first, n int }

const (
	alone    = BatchSize // the message for one packet
	sendIovs = 2 * maxSegments
	minPause = 16
	maxPause = 4096
)

func (u *UDP) newWriter() (Writer, error) {
	if !u.gate.Enter() {
		return nil, os.ErrClosed
	}
	defer u.gate.Leave()
	return &udpWriter{u: u, send: sendmmsg}, nil
}

func (w *udpWriter) Write(b *packet.Batch) (n int, err error) {
	if !w.u.gate.Enter() {
		b.Fail(os.ErrClosed)
		return 0, os.ErrClosed
	}
	defer w.u.gate.Leave()
	for rest := b.Packets; len(rest) > 0; {
		messages, used := w.prepare(rest)
		if err := w.flush(0, messages, rest); err != nil {
			closed := packet.Batch{Packets: rest[used:]}
			closed.Fail(err)
			break
		}
		rest = rest[used:]
	}
	return b.Result()
}

// prepare makes messages of the first packets and returns how many messages they are,
// and how many packets.
func (w *udpWriter) prepare(packets []packet.Packet) (messages, used int) {
	iovs := w.iovs[:sendIovs]
	for used < len(packets) && messages < BatchSize {
		flow, err := w.admit(&packets[used])
		if err != nil {
			packets[used].Err = err
			used++
			continue
		}
		n := w.measure(packets[used:], &flow)
		if 2*n > len(iovs) {
			break
		}
		w.runs[messages] = run{used, n}
		iovs = iovs[w.message(messages, &flow, packets[used:used+n], iovs):]
		used += n
		messages++
	}
	return messages, used
}

// admit reads where a packet is to go.
func (w *udpWriter) admit(p *packet.Packet) (flow udpFlow, err error) {
	flow, ok := flowOf(p)
	if !ok {
		return flow, packet.ErrMalformed
	}
	if r := w.u.remote; r.IsValid() && (flow.dst() != endpoint{r.Addr().As4(), r.Port()}) {
		return flow, errOtherPeer
	}
	return flow, nil
}

// errOtherPeer is boxed once.
var errOtherPeer error = unix.ENETUNREACH

// measure returns how many of the first packets may go in one message.
func (w *udpWriter) measure(packets []packet.Packet, flow *udpFlow) int {
	size := packets[0].Len() - UDPHeaderLen
	limit, total := min(int(w.u.segments.Load()), len(packets)), size
	if size == 0 {
		return 1
	}
	n := 1
	for ; n < limit; n++ {
		next, ok := flowOf(&packets[n])
		length := packets[n].Len() - UDPHeaderLen
		if !ok || next != *flow || length > size || length == 0 || total+length > maxUDPPayload {
			break
		}
		if total += length; length < size {
			n++
			break
		}
	}
	if n > 1 && w.left > 0 {
		w.left--
		return 1
	}
	return n
}

// message makes message i of packets of one flow and returns how many iovecs that took.
func (w *udpWriter) message(i int, flow *udpFlow, packets []packet.Packet, iovs []unix.Iovec) (used int) {
	for k := range packets {
		p := &packets[k]
		for _, piece := range [2][]byte{p.Head()[UDPHeaderLen:], p.Payload} {
			if len(piece) > 0 {
				iovs[used] = unix.Iovec{Base: &piece[0], Len: uint64(len(piece))}
				used++
			}
		}
	}
	h := &w.msgs[i].hdr
	h.Iov, h.Iovlen = &iovs[0], uint64(used)
	if !w.u.remote.IsValid() { // the name of a connected socket would cost a route look-up
		w.names[i] = sockaddr(flow.dst())
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&w.names[i])), unix.SizeofSockaddrInet4
	}
	seg := 0
	if len(packets) > 1 {
		seg = packets[0].Len() - UDPHeaderLen
	}
	h.Control, h.Controllen = nil, 0
	if n := w.notes(&w.control[i], flow, seg); n > 0 {
		h.Control, h.Controllen = &w.control[i][0], uint64(n)
	}
	return used
}

// notes writes the control messages of a message, as far as it needs any, and returns
// their length.
func (w *udpWriter) notes(b *[udpControlSize]byte, flow *udpFlow, seg int) int {
	n := 0
	add := func(level, kind int32, size int) []byte {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[n]))
		h.Level, h.Type = level, kind
		h.SetLen(unix.CmsgLen(size))
		data := b[n+unix.CmsgLen(0):][:size]
		n += unix.CmsgSpace(size)
		return data
	}
	if flow.tos != 0 {
		binary.NativeEndian.PutUint32(add(unix.IPPROTO_IP, unix.IP_TOS, 4), uint32(flow.tos))
	}
	if flow.ttl != w.u.cfg.TTL && flow.ttl != 0 {
		binary.NativeEndian.PutUint32(add(unix.IPPROTO_IP, unix.IP_TTL, 4), uint32(flow.ttl))
	}
	if src := flow.src4(); w.u.wildcard && src != [4]byte{} {
		data := add(unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
		clear(data)
		copy(data[4:], src[:]) // ipi_spec_dst, which means the source here
	}
	if seg > 0 {
		binary.NativeEndian.PutUint16(add(unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2), uint16(seg))
	}
	return n
}

// flush sends the messages from at to end, which carry packets. Each packet that
// fails is marked; an error means that the wire was closed.
func (w *udpWriter) flush(at, end int, packets []packet.Packet) error {
	for tries := 1; at < end; {
		n, errno := w.send(w.u.fd, w.msgs[at:end])
		switch {
		case errno == 0:
			w.sent(at, n)
			at, tries = at+n, 1
			continue
		case errno == unix.EINTR:
			continue
		case w.u.passing(errno) && tries < icmpTries: // perhaps about another one
			if errno != unix.EMSGSIZE {
				w.u.noteRefused(errno)
			}
			tries++
			continue
		case errno == unix.EAGAIN:
			ready, err := w.awaitRoom()
			if err != nil {
				w.failFrom(at, end, packets, err)
				return err
			}
			if ready {
				continue
			}
			errno = unix.ENOBUFS
		}
		r := w.runs[at]
		if err := w.failed(errno, packets[r.first:r.first+r.n]); err != nil {
			w.failFrom(at+1, end, packets, err)
			return err
		}
		at, tries = at+1, 1
	}
	return nil
}

// sent notes that n messages from at on went out.
func (w *udpWriter) sent(at, n int) {
	w.stuck = false
	for _, r := range w.runs[at : at+n] {
		if r.n > 1 {
			w.pause = 0
		}
	}
}

// failFrom marks the packets of the messages from at to end.
func (w *udpWriter) failFrom(at, end int, packets []packet.Packet, err error) {
	for _, r := range w.runs[at:end] {
		b := packet.Batch{Packets: packets[r.first : r.first+r.n]}
		b.Fail(err)
	}
}

// failed deals with a message that was refused. A run gets another try packet by
// packet when the reason may be that it is one. The error is that of a closed wire.
func (w *udpWriter) failed(errno unix.Errno, packets []packet.Packet) error {
	if len(packets) == 1 || !refusesRuns(errno) {
		for i := range packets {
			packets[i].Err = errno
		}
		return nil
	}
	fine := 0
	for i := range packets {
		flow, _ := flowOf(&packets[i])
		w.runs[alone] = run{0, 1}
		w.message(alone, &flow, packets[i:i+1], w.iovs[sendIovs:])
		if err := w.flush(alone, alone+1, packets[i:i+1]); err != nil {
			rest := packet.Batch{Packets: packets[i:]}
			rest.Fail(err)
			return err
		}
		if packets[i].Err == nil {
			fine++
		}
	}
	if fine == len(packets) {
		w.blame(errno, packets)
	}
	return nil
}

// refusesRuns reports whether errno can mean that the kernel, or the device it sends
// through, cuts nothing, or not so much.
func refusesRuns(errno unix.Errno) bool {
	return errno == unix.EINVAL || errno == unix.EIO || errno == unix.EOPNOTSUPP || errno == unix.EMSGSIZE
}

// blame finds out what a run was refused for, whose packets have passed one by one:
// its number of packets; a path too small for them, which means nothing for other
// peers; or that runs are not taken at all, as by devices that cannot do checksums.
func (w *udpWriter) blame(errno unix.Errno, packets []packet.Packet) {
	if len(packets) > commonSegments && w.u.segments.CompareAndSwap(maxSegments, commonSegments) {
		return
	}
	flow, _ := flowOf(&packets[0])
	to := flow.dst()
	mtu, err := w.u.askMTU(netip.AddrPortFrom(netip.AddrFrom4(to.addr), to.port))
	if err == nil && encap.WireMTU(packets[0].Len()) > mtu {
		return
	}
	w.pause = min(max(2*w.pause, minPause), maxPause)
	w.left = w.pause
	if !w.u.told.Swap(true) {
		w.u.log.Warn("the kernel refuses to cut datagrams here; sending them one by one, and trying again now and then", "err", errno)
	}
}

// awaitRoom waits until the socket takes datagrams again. Once it has waited in vain it
// does not wait any more until something was sent.
func (w *udpWriter) awaitRoom() (ready bool, err error) {
	if w.stuck {
		return false, nil
	}
	ready, err = w.u.gate.WaitWritable(w.u.fd, patience)
	w.stuck = !ready
	return ready, err
}

// sendmmsg never blocks, so the scheduler need not be told: it would hand our
// processor to another thread after 20 us and take it back again.
func sendmmsg(fd int, msgs []mmsghdr) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}
