package wire

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"sixin4/encap"
	"sixin4/encap/packet/gate"
)

// conn is what a Conn needs on Linux. The descriptors are not in the runtime's
// poller: it would wake up for every packet beside us.
type conn struct {
	gate     *gate.Gate
	fd       int // receives
	portable *portable
	mu       sync.Mutex
	writers  []int // descriptors of writers, closed with the connection
}

func (c *Conn) listen() (err error) {
	if c.cfg.Portable {
		if c.cfg.Interface != "" {
			return errPortableInterface
		}
		c.portable, err = listenPortable(c.cfg.Local, c.cfg.ReceiveBuffer)
		c.reader = c.portable
		return err
	}
	c.gate, err = gate.New()
	if err != nil {
		return err
	}
	if c.fd, err = c.openSocket(encap.ProtoIPv6, unix.SOCK_NONBLOCK); err != nil {
		c.gate.Close(func() error { return nil })
		return err
	}
	c.setReceiveOptions()
	c.reader = newMmsgReader(c)
	return nil
}

// openSocket opens a raw socket bound to the local address.
func (c *Conn) openSocket(proto, flags int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|flags, proto)
	if err != nil {
		return -1, openError(err)
	}
	if c.cfg.Interface != "" {
		if err := unix.BindToDevice(fd, c.cfg.Interface); err != nil {
			unix.Close(fd)
			return -1, deviceError(c.cfg.Interface, err)
		}
	}
	// The kernel believes any fragmentation needed that names the two addresses, and would
	// hold our packets to it. What is learnt of a path is the engine's, which looks closer.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_INTERFACE); err != nil {
		c.log.Debug("the kernel's idea of the path MTU stays in force", "err", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: c.cfg.Local.As4()}); err != nil {
		unix.Close(fd)
		return -1, bindError(c.cfg.Local, err)
	}
	return fd, nil
}

// setReceiveOptions asks for what makes receiving better; a system that refuses
// one of them still works.
func (c *Conn) setReceiveOptions() {
	growBuffer(c.fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, c.cfg.ReceiveBuffer)
	if err := unix.SetsockoptInt(c.fd, unix.IPPROTO_IP, unix.IP_RECVFRAGSIZE, 1); err != nil {
		c.log.Debug("reassembled packets will not be told apart", "err", err)
	}
}

// growBuffer sets a socket buffer size past the system's limit if allowed, else
// up to the limit.
func growBuffer(fd, force, plain, size int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, size)
	}
}

func openError(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("open raw socket: %w: this needs the capability CAP_NET_RAW (run as root, or the container with --cap-add NET_RAW)", err)
	}
	return fmt.Errorf("open raw socket: %w", err)
}

func deviceError(name string, err error) error {
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("bind raw socket to interface %s: %w: this host has no interface of that name", name, err)
	}
	return fmt.Errorf("bind raw socket to interface %s: %w", name, err)
}

func bindError(local netip.Addr, err error) error {
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("bind raw socket to %v: %w: no interface of this host has that address", local, err)
	}
	return fmt.Errorf("bind raw socket to %v: %w", local, err)
}

func (c *Conn) countDrops() {
	if c.portable == nil {
		c.counters.askDropsInside(c.gate, c.fd)
	}
}

func (c *Conn) close() error {
	if c.portable != nil {
		return c.portable.Close()
	}
	return c.gate.Close(func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.counters.askDrops(c.fd)
		err := unix.Close(c.fd)
		for _, fd := range c.writers {
			err = errors.Join(err, unix.Close(fd))
		}
		c.reader.(*mmsgReader).hints.close()
		return err
	})
}
