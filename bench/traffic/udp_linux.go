package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	sinkBatch   = 64
	sinkMessage = 2048     // bytes kept of a datagram; more are cut off
	sinkBuffer  = 16 << 20 // bytes of socket buffer: the sink must not be what loses
	quiet       = 100 * time.Millisecond
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// messages are the headers for n buffers of size bytes each.
type messages struct {
	hdrs []mmsghdr
	iovs []unix.Iovec
	data []byte
	size int
}

func newMessages(n, size int) *messages {
	m := &messages{
		hdrs: make([]mmsghdr, n),
		iovs: make([]unix.Iovec, n),
		data: make([]byte, n*size),
		size: size,
	}
	for i := range m.hdrs {
		m.iovs[i].Base = &m.data[i*size]
		m.iovs[i].SetLen(size)
		m.hdrs[i].hdr.Iov = &m.iovs[i]
		m.hdrs[i].hdr.SetIovlen(1)
	}
	return m
}

func (m *messages) buffer(i int) []byte { return m.data[i*m.size : (i+1)*m.size] }

// blocking returns a descriptor of conn for calls that wait in the kernel: on a
// thread of their own they wake faster than the runtime's poller. The file keeps
// it open.
func blocking(conn *net.UDPConn) (*os.File, int, error) {
	file, err := conn.File()
	if err != nil {
		return nil, -1, err
	}
	fd := int(file.Fd()) // this makes the socket blocking
	return file, fd, nil
}

func sinkUDP(ctx context.Context, conn *net.UDPConn, stop <-chan struct{}) (UDPReceived, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	file, fd, err := blocking(conn)
	if err != nil {
		return UDPReceived{}, err
	}
	defer func() { _ = file.Close() }() // the caller closes the socket itself
	if err := setUpSink(fd); err != nil {
		return UDPReceived{}, err
	}
	var seq sequence
	in := newMessages(sinkBatch, sinkMessage)
	for {
		n, err := in.receive(fd)
		switch {
		case err == nil:
			for i := range n {
				seq.add(binary.BigEndian.Uint64(in.buffer(i)))
			}
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			return seq.UDPReceived, err
		}
		if ctx.Err() != nil {
			return seq.UDPReceived, context.Cause(ctx)
		}
		if errors.Is(err, unix.EAGAIN) && closed(stop) {
			seq.SinkDrops, err = socketDrops(fd)
			return seq.UDPReceived, err
		}
	}
}

func setUpSink(fd int) error {
	timeout := unix.NsecToTimeval(int64(quiet))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return fmt.Errorf("set receive timeout: %w", err)
	}
	// Beyond net.core.rmem_max only with CAP_NET_ADMIN; loopback tests have less.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, sinkBuffer) == nil {
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, sinkBuffer); err != nil {
		return fmt.Errorf("set receive buffer: %w", err)
	}
	return nil
}

// receive waits for one datagram and takes what else is there.
func (m *messages) receive(fd int) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.hdrs[0])),
		uintptr(len(m.hdrs)), unix.MSG_WAITFORONE, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// memInfoDrops is SK_MEMINFO_DROPS of linux/sock_diag.h.
const memInfoDrops = 8

func socketDrops(fd int) (int, error) {
	var info [memInfoDrops + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("read SO_MEMINFO: %w", errno)
	}
	return int(info[memInfoDrops]), nil
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// late is how far beyond its time a source goes to send all its packets; one that
// needs more cannot reach the rate.
const late = 20 * time.Millisecond

func sourceUDP(ctx context.Context, conn *net.UDPConn, cfg UDP) (UDPSent, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	file, fd, err := blocking(conn)
	if err != nil {
		return UDPSent{}, err
	}
	defer func() { _ = file.Close() }() // the caller closes the socket itself
	// Linux sleeps 50 us longer than asked unless told how exact to be.
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1000, 0, 0, 0); err != nil {
		return UDPSent{}, fmt.Errorf("set timer slack: %w", err)
	}
	out := newMessages(cfg.burst(), cfg.Size)
	clock := newPacer(cfg.Rate)
	total := cfg.Packets()
	sent := 0
	for sent < total && clock.elapsed() < cfg.Duration+late && ctx.Err() == nil {
		clock.wait(sent)
		n, err := out.send(fd, uint64(sent), min(len(out.hdrs), total-sent))
		if err != nil {
			return UDPSent{}, err
		}
		sent += n
	}
	if ctx.Err() != nil {
		return UDPSent{}, context.Cause(ctx)
	}
	return UDPSent{Packets: sent, Seconds: clock.elapsed().Seconds()}, nil
}

// send numbers and sends n packets and returns how many are done with. One that
// finds no buffer is done with: it is lost, and the next may pass.
func (m *messages) send(fd int, number uint64, n int) (int, error) {
	for i := range n {
		binary.BigEndian.PutUint64(m.buffer(i), number+uint64(i))
	}
	sent, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.hdrs[0])),
		uintptr(n), 0, 0, 0)
	switch errno {
	case 0:
		return int(sent), nil
	case unix.EINTR:
		return 0, nil
	case unix.ENOBUFS, unix.EAGAIN, unix.EPERM:
		return 1, nil
	}
	return 0, errno
}

// pacer says when a packet is due. A source that is late catches up, so the rate
// over the whole run is the one asked for, if it can be reached at all.
type pacer struct {
	start    time.Time
	interval float64 // nanoseconds from packet to packet
}

func newPacer(rate float64) *pacer {
	return &pacer{start: time.Now(), interval: 1e9 / rate}
}

func (p *pacer) elapsed() time.Duration { return time.Since(p.start) }

// spin is the time under which waiting in the kernel would take longer.
const spin = 5 * time.Microsecond

// wait returns when packet number n is due.
func (p *pacer) wait(n int) {
	due := time.Duration(float64(n) * p.interval)
	for left := due - p.elapsed(); left > 0; left = due - p.elapsed() {
		if left > spin {
			wait := unix.NsecToTimespec(int64(left))
			_ = unix.Nanosleep(&wait, nil) // a signal cut it short: the loop goes on
		}
	}
}
