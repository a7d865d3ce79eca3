package daemon

import (
	"net"

	"golang.org/x/sys/unix"
)

// forceQueue goes beyond the limit of the system (net.core.rmem_max), which takes
// CAP_NET_ADMIN. The kernel doubles the size for what it needs itself.
func forceQueue(c *net.UDPConn, size int) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	forced := false
	err = raw.Control(func(fd uintptr) {
		forced = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size/2) == nil
	})
	return err == nil && forced
}
