package traffic

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

func sendPing(ctx context.Context, to netip.Addr, cfg Ping) ([]time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := newPinger(to, cfg.Timeout)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(p.fd) }() // nothing that could still fail
	times := make([]time.Duration, 0, cfg.Count)
	for seq := range cfg.Count {
		rtt, err := p.one(uint16(seq))
		switch {
		case err == nil:
			times = append(times, rtt)
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return nil, err
		}
		if err := pause(ctx, cfg.Interval); err != nil {
			return nil, err
		}
	}
	return times, nil
}

type pinger struct {
	echo
	fd      int
	id      uint16
	to      unix.Sockaddr
	timeout time.Duration
}

func newPinger(to netip.Addr, timeout time.Duration) (*pinger, error) {
	p := &pinger{echo: echo6, id: uint16(os.Getpid()), timeout: timeout, to: &unix.SockaddrInet6{Addr: to.As16()}}
	family, proto := unix.AF_INET6, unix.IPPROTO_ICMPV6
	if to.Is4() {
		p.echo, p.to = echo4, &unix.SockaddrInet4{Addr: to.As4()}
		family, proto = unix.AF_INET, unix.IPPROTO_ICMP
	}
	var err error
	p.fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return nil, fmt.Errorf("open raw ICMP socket: %w", err)
	}
	limit := unix.NsecToTimeval(int64(timeout))
	if err := unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		_ = unix.Close(p.fd)
		return nil, fmt.Errorf("set receive timeout: %w", err)
	}
	return p, nil
}

// one sends a request and returns the time to its answer.
func (p *pinger) one(seq uint16) (time.Duration, error) {
	var out [pingSize]byte
	var in [256]byte
	p.message(out[:], p.id, seq)
	start := time.Now()
	if err := unix.Sendto(p.fd, out[:], 0, p.to); err != nil {
		return 0, fmt.Errorf("send: %w", err)
	}
	for time.Since(start) < p.timeout {
		n, _, err := unix.Recvfrom(p.fd, in[:], 0)
		if err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return 0, fmt.Errorf("receive: %w", err)
		}
		if err == nil && p.answers(in[:n], p.id, seq) {
			return time.Since(start), nil
		}
	}
	return 0, os.ErrDeadlineExceeded
}
