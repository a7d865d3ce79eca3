package keepalive

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// openPadded opens a socket whose packets leave whole or not at all: the system neither
// fragments them (RFC 3542, Section 11.2) nor holds them back for what it believes to be
// the MTU of the path, which the probes are to find out.
func openPadded(cfg Config, id int) (conn, error) {
	c, err := openSocket(cfg, id)
	if err != nil {
		return nil, err
	}
	raw, err := c.(*socket).pc.SyscallConn()
	if err == nil {
		if e := raw.Control(func(fd uintptr) { err = unfragmented(int(fd)) }); err == nil {
			err = e
		}
	}
	if err != nil {
		_ = c.close() // the first error says it
		return nil, fmt.Errorf("open ICMPv6 socket: %w", err)
	}
	return c, nil
}

func unfragmented(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1); err != nil {
		return fmt.Errorf("IPV6_DONTFRAG: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE); err != nil {
		return fmt.Errorf("IPV6_MTU_DISCOVER: %w", err)
	}
	return nil
}
