package wire

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"sixin4/encap/packet/gate"
)

// memInfoDrops is SK_MEMINFO_DROPS of linux/sock_diag.h.
const memInfoDrops = 8

// drops is the kernel's counter of what it dropped in front of the socket fd; ok is
// false before Linux 4.12.
func drops(fd int) (n uint32, ok bool) {
	var info [memInfoDrops + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	return info[memInfoDrops], errno == 0
}

// askDrops brings the counter of overflows up to date. The kernel is asked, and not told
// to say it with each packet (SO_RXQ_OVFL): where a TCP packet of another namespace of
// this host comes in as it left its socket, as one does whose tunnel the kernel carries,
// such a kernel with hardened user copies kills the thread that receives it (seen on
// Linux 6.18: the copy is from the half of a cloned buffer that may not be copied from).
func (c *counters) askDrops(fd int) {
	c.asking.Lock()
	defer c.asking.Unlock()
	if now, ok := drops(fd); ok {
		old := c.overflow.Load()
		c.overflow.Store(old + uint64(now-uint32(old))) // the kernel counts in 32 bits
	}
}

// askDropsInside is askDrops while the gate is open: after it, fd may be another's.
func (c *counters) askDropsInside(g *gate.Gate, fd int) {
	if g.Enter() {
		c.askDrops(fd)
		g.Leave()
	}
}
