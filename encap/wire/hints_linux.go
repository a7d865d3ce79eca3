package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"sixin4/encap"
	"sixin4/encap/packet"
)

// hints asks a packet socket what the kernel knows about packets that the raw
// socket, or a UDP socket, delivers: whether they were merged and at what length. It
// sees only packets that the filter finds suspicious, and keeps their headers only. The
// packets themselves still come through the other socket, so that they have passed
// the host's firewall and routing.
//
// The socket is bound, and so begins to receive, for the first suspicious packet:
// most hosts never have one, and for them the filter would be wasted work. It is
// made with the connection, because it belongs to the network namespace of the
// thread that makes it.
type hints struct {
	suspects
	log    *slog.Logger
	fd     int   // -1: there is none
	err    error // why there is none
	bound  bool
	failed bool
	// complete: what the raw socket delivers now arrived after the binding, so
	// that a hint must be there. Known when its queue was empty since, or when a
	// hint for a packet was found.
	complete bool
	ring     [256]ringEntry // the youngest hints, not yet asked for
	next     int
	buf      [hintBatch][hintSize]byte
	ctl      [hintBatch][controlSize]byte
	iovs     [hintBatch]unix.Iovec
	msgs     [hintBatch]mmsghdr
}

const (
	hintBatch = 32
	vnetLen   = 10 // struct virtio_net_hdr, before each packet
	linkRoom  = 64 // link headers are shorter
	hintSize  = vnetLen + linkRoom + snapLen
)

// hintKey is what two copies of a packet have in common and two packets do not:
// the outer length and source, the identification or, in UDP, where that is not told,
// the source port; and the inner headers.
type hintKey struct {
	outer [8]byte
	inner [56]byte
}

func (k *hintKey) set(ip []byte, headers int) bool {
	if len(ip) < headers+48 { // IPv6 and UDP headers: an empty datagram
		return false
	}
	*k = hintKey{}
	copy(k.outer[:], ip[2:6])
	if headers == UDPHeaderLen {
		copy(k.outer[2:], ip[20:22])
	}
	copy(k.outer[4:], ip[12:16])
	copy(k.inner[:], ip[headers:])
	return true
}

type ringEntry struct {
	used bool
	key  hintKey
	hint hint
}

// inspect sets what is special about the inner packet p, which MarkSum has seen. Its
// outer headers are the n bytes before it. It reports whether p was merged.
func (h *hints) inspect(p *packet.Packet, n int, reassembled bool) (merged bool) {
	longest := h.linkMTU - n
	if p.Len() <= longest && (p.Sum != packet.SumPartial || encap.VerifySum(p)) {
		// One full checksum in 65536 looks like a partial one; Decap may mark it
		// again, which does no harm.
		p.Sum = packet.SumFull
		return false
	}
	f := facts{longest: longest, reassembled: reassembled}
	if n == h.headers() && !reassembled { // the kernel merges no others, and has no hint for them
		f.hint = h.find(p.Buf[p.Off-n:])
		// In UDP nothing but TCP is merged (docs/6in4.md), and where the host translates
		// our port the hint is missed: what is short is one packet then.
		f.asked = h.complete && h.port == 0
	}
	return settle(p, f)
}

// find returns the hint for the IPv4 packet ip, or nil.
func (h *hints) find(ip []byte) *hint {
	var k hintKey
	if ip[0] != 0x45 || !k.set(ip, h.headers()) {
		return nil
	}
	if !h.bound && !h.bind() {
		return nil
	}
	// Hints stand in their queue in about the order of the packets in theirs, so
	// that no more is taken from it than is needed: the ring is shorter.
	for {
		if e := h.lookup(&k); e != nil || !h.fetch() {
			return e
		}
	}
}

func (h *hints) lookup(k *hintKey) *hint {
	for i := range h.ring {
		e := &h.ring[(h.next+i)%len(h.ring)]
		if e.used && e.key.outer == k.outer && bytes.Equal(e.key.inner[:], k.inner[:]) {
			e.used = false
			h.complete = true
			return &e.hint
		}
	}
	return nil
}

// open makes the socket. It is made without a protocol, so that nothing arrives
// before bind has put the filter in place.
func (h *hints) open() {
	h.fd, h.err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if h.err != nil {
		h.fd, h.err = -1, fmt.Errorf("open packet socket: %w", h.err)
	}
}

// bind starts asking. It reports whether that worked, and tries only once.
func (h *hints) bind() bool {
	if h.failed {
		return false
	}
	err := h.err
	if err == nil {
		err = bindHintSocket(h.fd, h.suspects)
	}
	if err != nil {
		h.failed = true
		h.tellFailure(err)
		return false
	}
	h.log.Debug("packets arrive merged or with partial checksums; asking the kernel about them")
	h.bound = true
	for i := range h.msgs {
		h.iovs[i] = unix.Iovec{Base: &h.buf[i][0], Len: hintSize}
		m := &h.msgs[i].hdr
		m.Iov, m.Iovlen, m.Control = &h.iovs[i], 1, &h.ctl[i][0]
	}
	return true
}

// tellFailure logs that nobody can be asked. In UDP nothing is lost by that.
func (h *hints) tellFailure(err error) {
	level, cost := slog.LevelWarn, "merged UDP will be lost (ethtool -K INTERFACE rx-udp-gro-forwarding off)"
	if h.port != 0 {
		level, cost = slog.LevelDebug, "merged TCP is taken as cut for links of 1280 bytes"
	}
	h.log.Log(context.Background(), level, "cannot ask the kernel about merged packets; "+cost, "err", err)
}

func (h *hints) close() {
	if h.fd >= 0 {
		unix.Close(h.fd)
		h.fd = -1
	}
}

// bindHintSocket makes fd receive what the filter accepts on all interfaces. It is
// bound to all protocols, for these sockets get a packet before the IPv4 stack
// does, and thus before our other socket: a hint is there when its packet is. Those
// bound to IPv4 alone get it after the stack (seen on Linux 6.18).
func bindHintSocket(fd int, s suspects) error {
	filter, err := s.filter()
	if err != nil {
		return fmt.Errorf("hint filter: %w", err)
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return fmt.Errorf("PACKET_VNET_HDR: %w", err)
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		return fmt.Errorf("PACKET_AUXDATA: %w", err)
	}
	// A kept header is charged with the memory of its whole packet.
	growBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, 16<<20)
	if err = attachFilter(fd, filter); err != nil {
		return fmt.Errorf("attach filter: %w", err)
	}
	// Linux before 4.20 knows no such option, and shows us our own packets as well.
	_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	if err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL)}); err != nil {
		return fmt.Errorf("bind packet socket: %w", err)
	}
	return nil
}

// fetch puts waiting hints into the ring, over the oldest ones. It reports whether
// there were any.
func (h *hints) fetch() bool {
	for i := range h.msgs {
		h.msgs[i].hdr.Controllen = controlSize
	}
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(h.fd), uintptr(unsafe.Pointer(&h.msgs[0])), hintBatch, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			for i := range int(n) {
				h.remember(i)
			}
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		case unix.EINVAL: // one packet that virtio headers cannot describe; it is gone
		default:
			h.log.Debug("hint socket", "err", errno)
			return false
		}
	}
}

// remember stores the hint of message i.
func (h *hints) remember(i int) {
	m := &h.msgs[i]
	b := h.buf[i][:min(int(m.n), hintSize)]
	off := netOffset(h.ctl[i][:m.hdr.Controllen])
	if len(b) < vnetLen || off < 0 || vnetLen+off > len(b) {
		return
	}
	e := &h.ring[h.next]
	if !e.key.set(b[vnetLen+off:], h.headers()) {
		return
	}
	e.used = true
	e.hint = hint{kind: gsoKind(b[1]), size: int(binary.NativeEndian.Uint16(b[4:]))}
	h.next = (h.next + 1) % len(h.ring)
}

// netOffset returns where the IP header starts in a packet, or -1.
func netOffset(ctl []byte) int {
	const size = int(unsafe.Sizeof(unix.TpacketAuxdata{}))
	if len(ctl) < unix.CmsgLen(size) {
		return -1
	}
	c := (*unix.Cmsghdr)(unsafe.Pointer(&ctl[0]))
	if c.Level != unix.SOL_PACKET || c.Type != unix.PACKET_AUXDATA {
		return -1
	}
	return int((*unix.TpacketAuxdata)(unsafe.Pointer(&ctl[unix.CmsgLen(0)])).Net)
}

// attachFilter lets a socket receive only what the program accepts.
func attachFilter(fd int, filter []bpf.RawInstruction) error {
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: (*unix.SockFilter)(unsafe.Pointer(&filter[0]))}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog)
}
