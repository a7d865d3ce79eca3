package wire

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"sixin4/encap"
	"sixin4/encap/packet/gate"
)

// udpSocket is what a UDP wire needs on Linux. The descriptor is a copy that is not in the
// runtime's poller, which would wake a second thread for every packet.
type udpSocket struct {
	gate     *gate.Gate
	fd       int
	wildcard bool         // datagrams may be to and from any of this host's addresses
	segments atomic.Int32 // the most datagrams that go in one piece; 1: none go so
	told     atomic.Bool  // that pieces are refused
	reader   *udpReader

	asking sync.Mutex // held while asker is used
	asker  int        // a socket that asks for path MTUs; -1 when fd is connected
}

// How many datagrams the kernel cuts one piece into at most: 64 before Linux 6.9. The
// larger number is tried until it is refused.
const (
	maxSegments    = 128
	commonSegments = 64
)

func (u *UDP) open() (err error) {
	if u.fd, err = duplicate(u.cfg.Conn); err != nil {
		return fmt.Errorf("take over the socket: %w", err)
	}
	u.asker = -1
	if !u.remote.IsValid() {
		// Made here, for it belongs to the network namespace of the thread that makes it.
		if u.asker, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			unix.Close(u.fd)
			return fmt.Errorf("open UDP socket: %w", err)
		}
	}
	if u.gate, err = gate.New(); err == nil {
		if err = u.setOptions(); err == nil {
			u.reader = newUDPReader(u)
			_ = u.cfg.Conn.Close() // that is only one of two descriptors
			return nil
		}
		u.gate.Close(func() error { return nil })
	}
	return errors.Join(err, u.release())
}

// duplicate copies the descriptor of conn.
func duplicate(conn *net.UDPConn) (fd int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	var failed error
	err = raw.Control(func(old uintptr) {
		fd, failed = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	})
	return fd, errors.Join(err, failed)
}

func (u *UDP) release() error {
	u.count.askDrops(u.fd)
	err := unix.Close(u.fd)
	if u.asker >= 0 {
		err = errors.Join(err, unix.Close(u.asker))
	}
	if u.reader != nil {
		u.reader.hints.close()
	}
	return err
}

func (u *UDP) close() error { return u.gate.Close(u.release) }

func (u *UDP) countDrops() { u.count.askDropsInside(u.gate, u.fd) }

// setOptions makes the socket what a wire needs. What makes it only faster, or is only
// counted, a system may refuse.
func (u *UDP) setOptions() error {
	if err := u.setDF(!u.cfg.ClearDF); err != nil {
		return err
	}
	u.wildcard = u.local.Addr().IsUnspecified()
	for _, o := range []struct {
		name          string
		option, value int
	}{
		{"IP_TTL", unix.IP_TTL, int(u.cfg.TTL)},
		{"IP_TOS", unix.IP_TOS, 0},
		// Nobody shall be able to fail what we send by forged ICMP errors. A connected
		// socket is told the hard ones all the same. The price is that a full device
		// queue is not told either.
		{"IP_RECVERR", unix.IP_RECVERR, 0},
		{"IP_RECVTOS", unix.IP_RECVTOS, 1},
		{"IP_PKTINFO", unix.IP_PKTINFO, bit(u.wildcard)},
	} {
		if err := unix.SetsockoptInt(u.fd, unix.IPPROTO_IP, o.option, o.value); err != nil {
			return fmt.Errorf("set %s to %d: %w", o.name, o.value, err)
		}
	}
	u.setReceiveOptions()
	u.probeOffload()
	return nil
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (u *UDP) setReceiveOptions() {
	growBuffer(u.fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, u.cfg.ReceiveBuffer)
	growBuffer(u.fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, 1<<20)
	if err := unix.SetsockoptInt(u.fd, unix.IPPROTO_IP, unix.IP_RECVFRAGSIZE, 1); err != nil {
		u.log.Debug("reassembled packets will not be told apart", "err", err)
	}
}

// probeOffload finds out whether the kernel takes and gives many datagrams in one
// piece: to take them is Linux 4.18, to give them 5.0.
func (u *UDP) probeOffload() {
	u.segments.Store(1)
	if u.cfg.Unsegmented {
		return
	}
	if err := unix.SetsockoptInt(u.fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1); err != nil {
		u.log.Debug("datagrams are received one by one", "err", err)
	}
	if _, err := unix.GetsockoptInt(u.fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT); err != nil {
		u.log.Debug("datagrams are sent one by one", "err", err)
		return
	}
	u.segments.Store(maxSegments)
}

func (u *UDP) theReader() Reader { return u.reader }

// setDF chooses among the modes that send as long as the link takes whatever the kernel
// has learnt of the path: anybody who guesses the ports can forge what it learns. With DF
// it still learns, for PathMTU; without, it does not even do that.
func (u *UDP) setDF(on bool) error {
	mode := unix.IP_PMTUDISC_OMIT
	if on {
		mode = unix.IP_PMTUDISC_PROBE
	}
	if !u.gate.Enter() {
		return os.ErrClosed
	}
	defer u.gate.Leave()
	if err := unix.SetsockoptInt(u.fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, mode); err != nil {
		return fmt.Errorf("set DF: %w", err)
	}
	return nil
}

func (u *UDP) pathMTU(to netip.AddrPort) (encap.WireMTU, error) {
	if !u.gate.Enter() {
		return 0, os.ErrClosed
	}
	defer u.gate.Leave()
	return u.askMTU(to)
}

// askMTU is pathMTU inside the gate. An unconnected socket has no path, so another is
// connected to where the path leads; that sends nothing.
func (u *UDP) askMTU(to netip.AddrPort) (encap.WireMTU, error) {
	fd := u.fd
	if u.asker >= 0 {
		u.asking.Lock()
		defer u.asking.Unlock()
		fd = u.asker
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
			return 0, fmt.Errorf("path MTU to %v: %w", to.Addr(), err)
		}
	}
	mtu, err := unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU)
	if err != nil {
		return 0, fmt.Errorf("path MTU to %v: %w", to.Addr(), err)
	}
	return encap.WireMTU(mtu), nil
}

// passing reports whether errno may be that of an ICMP error about a datagram before:
// it is told once, by whatever is called next on a connected socket.
func (u *UDP) passing(errno unix.Errno) bool {
	switch errno {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENONET,
		unix.ENOPROTOOPT, unix.EPROTO, unix.EMSGSIZE:
		return u.remote.IsValid()
	}
	return false
}

// noteRefused counts an ICMP error and tells it on the control side, as the socket
// itself would: it may be that the far end has forgotten us.
func (u *UDP) noteRefused(errno unix.Errno) {
	u.count.refused.Add(1)
	if errno != unix.EMSGSIZE {
		u.control.fail(os.NewSyscallError("recvmsg", errno))
	}
}

// icmpTries bounds how often one message is tried because of errors that may be about
// others.
const icmpTries = 3

// sendDatagram sends a control datagram; to is invalid for a connected socket.
func (u *UDP) sendDatagram(d []byte, to netip.AddrPort) error {
	if !u.gate.Enter() {
		return os.ErrClosed
	}
	defer u.gate.Leave()
	m := mmsghdr{}
	iov := unix.Iovec{Len: uint64(len(d))}
	if len(d) > 0 {
		iov.Base = &d[0]
	}
	m.hdr.Iov, m.hdr.Iovlen = &iov, 1
	name := unix.RawSockaddrInet4{}
	if to.IsValid() {
		name = sockaddr(endpoint{to.Addr().As4(), to.Port()})
		m.hdr.Name, m.hdr.Namelen = (*byte)(unsafe.Pointer(&name)), unix.SizeofSockaddrInet4
	}
	for tries := 1; ; {
		switch _, errno := sendmmsg(u.fd, []mmsghdr{m}); {
		case errno == 0:
			return nil
		case errno == unix.EINTR:
		case u.passing(errno) && tries < icmpTries:
			u.noteRefused(errno)
			tries++
		case errno == unix.EAGAIN:
			if ready, err := u.gate.WaitWritable(u.fd, patience); !ready || err != nil {
				return errors.Join(os.NewSyscallError("sendmsg", unix.ENOBUFS), err)
			}
		default:
			return os.NewSyscallError("sendmsg", errno)
		}
	}
}

// sockaddr is e for the kernel.
func sockaddr(e endpoint) unix.RawSockaddrInet4 {
	return unix.RawSockaddrInet4{Family: unix.AF_INET, Port: networkOrder(e.port), Addr: e.addr}
}
