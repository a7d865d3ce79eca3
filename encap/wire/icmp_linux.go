package wire

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"sixin4/encap/packet/gate"
)

type icmp struct {
	gate *gate.Gate
	fd   int
}

func (c *icmp) listen(cfg ICMPConfig) (err error) {
	if c.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMP); err != nil {
		return openError(err)
	}
	if err = c.set(cfg); err == nil {
		c.gate, err = gate.New()
	}
	if err != nil {
		unix.Close(c.fd)
	}
	return err
}

// set filters before anything else: what comes before that is only read in vain.
func (c *icmp) set(cfg ICMPConfig) error {
	filter, err := icmpFilter()
	if err == nil {
		err = attachFilter(c.fd, filter)
	}
	if err != nil {
		return fmt.Errorf("filter ICMPv4: %w", err)
	}
	if cfg.Interface == "" {
		return nil
	}
	if err := unix.BindToDevice(c.fd, cfg.Interface); err != nil {
		return deviceError(cfg.Interface, err)
	}
	return nil
}

func (c *icmp) read(b []byte) (int, error) {
	if !c.gate.Enter() {
		return 0, os.ErrClosed
	}
	defer c.gate.Leave()
	for {
		n, _, err := unix.Recvfrom(c.fd, b, unix.MSG_DONTWAIT)
		switch err {
		case nil:
			return n, nil
		case unix.EINTR:
		case unix.EAGAIN:
			if err := c.gate.Wait(c.fd); err != nil {
				return 0, err
			}
		default:
			return 0, fmt.Errorf("read ICMPv4: %w", err)
		}
	}
}

func (c *icmp) close() error {
	return c.gate.Close(func() error { return unix.Close(c.fd) })
}
