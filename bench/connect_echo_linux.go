package bench

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

func (e *echoSocket) open() (err error) {
	e.fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMPV6)
	if err != nil {
		return fmt.Errorf("open raw ICMPv6 socket: %w", err)
	}
	return nil
}

func (e *echoSocket) close() { _ = unix.Close(e.fd) } // nothing that could still fail

// send sends a message if that is possible yet: until the tunnel has its addresses
// and routes there is no way to the far end.
func (e *echoSocket) send(m []byte) error {
	err := unix.Sendto(e.fd, m, 0, &unix.SockaddrInet6{Addr: e.to.As16()})
	for _, early := range []error{
		unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EADDRNOTAVAIL, unix.ENETDOWN, unix.ENOBUFS, unix.EAGAIN,
	} {
		if errors.Is(err, early) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("send echo request: %w", err)
	}
	return nil
}

// receive returns the next message, or nothing when none comes in time. It gives up
// early when a signal comes.
func (e *echoSocket) receive(limit time.Duration) ([]byte, error) {
	wait := unix.NsecToTimespec(int64(limit))
	fds := []unix.PollFd{{Fd: int32(e.fd), Events: unix.POLLIN}}
	if n, err := unix.Ppoll(fds, &wait, nil); n == 0 || errors.Is(err, unix.EINTR) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("wait for echo reply: %w", err)
	}
	var buf [256]byte
	n, _, err := unix.Recvfrom(e.fd, buf[:], 0)
	switch {
	case err == nil:
		return buf[:n], nil
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return nil, nil
	}
	return nil, fmt.Errorf("receive echo reply: %w", err)
}
