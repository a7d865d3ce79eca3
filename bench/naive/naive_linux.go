package naive

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

func run(ctx context.Context, cfg Config) error {
	tun, err := openTUN(cfg.Name)
	if err != nil {
		return err
	}
	sock, err := openRaw(cfg.Local)
	if err != nil {
		_ = unix.Close(tun)
		return err
	}
	// The threads never reach a safe point, so a collection would wait for them
	// for ever; and each holds one scheduler slot, so two more are needed.
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(4)

	failed := make(chan error, 2)
	go func() { failed <- outbound(tun, sock, cfg.Remote) }()
	go func() { failed <- inbound(sock, tun) }()
	if cfg.Ready != nil {
		cfg.Ready()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

func openTUN(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("naive: open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("naive: make interface %q: %w", name, err)
	}
	return fd, nil
}

func openRaw(local netip.Addr) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_IPV6)
	if err != nil {
		return -1, fmt.Errorf("naive: open protocol 41 socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: local.As4()}); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("naive: bind %v: %w", local, err)
	}
	return fd, nil
}

// outbound is the thread from the TUN to the wire. As in the C program, a
// packet that cannot be sent is lost and the loop goes on.
func outbound(tun, sock int, remote netip.Addr) error {
	runtime.LockOSThread()
	to := &unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: remote.As4()}
	buf := new([BufferSize]byte)
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(tun), uintptr(unsafe.Pointer(buf)), BufferSize)
		if errno != 0 {
			if errno == unix.EINTR { // a signal of the runtime
				continue
			}
			return fmt.Errorf("naive: read TUN: %w", errno)
		}
		unix.RawSyscall6(unix.SYS_SENDTO, uintptr(sock), uintptr(unsafe.Pointer(buf)), n,
			0, uintptr(unsafe.Pointer(to)), unsafe.Sizeof(*to))
	}
}

// inbound is the thread from the wire to the TUN. A raw IPv4 socket delivers
// the outer header too; it is skipped and not looked at.
func inbound(sock, tun int) error {
	runtime.LockOSThread()
	buf := new([BufferSize]byte)
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(sock), uintptr(unsafe.Pointer(buf)), BufferSize, 0, 0, 0)
		if errno != 0 {
			if errno == unix.EINTR { // a signal of the runtime
				continue
			}
			return fmt.Errorf("naive: receive: %w", errno)
		}
		skip := uintptr(buf[0]&15) * 4
		if n <= skip {
			continue
		}
		unix.RawSyscall(unix.SYS_WRITE, uintptr(tun), uintptr(unsafe.Pointer(&buf[skip])), n-skip)
	}
}
