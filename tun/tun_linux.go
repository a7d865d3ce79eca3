package tun

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
	wgtun "golang.zx2c4.com/wireguard/tun"

	"sixin4/encap/packet/gate"
)

const clonePath = "/dev/net/tun"

// device is what a Device needs on Linux.
type device struct {
	gate *gate.Gate
	fds  []int // one a queue; the first belongs to wg
}

func (d *Device) open(cfg Config) error {
	err := errVnetRefused
	if !cfg.NoOffload {
		err = d.openVnet(cfg)
	}
	if errors.Is(err, errVnetRefused) {
		err = d.openPortable(cfg)
	}
	return err
}

// errVnetRefused says that the kernel has no virtio header for TUN devices, or
// grants one without the offloads it is for, as some containers' kernels do.
var errVnetRefused = errors.New("the kernel refuses IFF_VNET_HDR")

// openVnet makes the device for our own packet path. The descriptors are not in
// the runtime's poller: it would wake up for every packet beside us.
func (d *Device) openVnet(cfg Config) (err error) {
	flags := uint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if d.gate, err = gate.New(); err != nil {
		return err
	}
	if err = d.openQueues(cfg, flags); err == nil {
		if err = d.adopt(cfg.MTU); errors.Is(err, unix.EINVAL) {
			err = errVnetRefused // wireguard's device asks for the offloads first of all
		}
	}
	if err == nil {
		err = d.probeOffloads()
	}
	if err != nil {
		d.gate.Close(d.release)
		d.wg = nil
		return err
	}
	for _, fd := range d.fds {
		d.queues = append(d.queues, newVnetReader(d, fd))
	}
	return nil
}

// openPortable makes the device for wireguard's packet path, which wants its
// descriptor in the runtime's poller.
func (d *Device) openPortable(cfg Config) (err error) {
	if d.gate, err = gate.New(); err != nil {
		return err
	}
	cfg.Queues, d.fds = 1, nil
	flags := uint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err = d.openQueues(cfg, flags); err == nil {
		err = d.adopt(cfg.MTU)
	}
	if err != nil {
		d.gate.Close(d.release)
		d.wg = nil
		return err
	}
	d.queues = []Reader{newPortableReader(d)}
	return nil
}

// openQueues opens cfg.Queues descriptors of one device.
func (d *Device) openQueues(cfg Config, flags uint16) error {
	if cfg.Queues > 1 {
		flags |= unix.IFF_MULTI_QUEUE
	}
	for i := range cfg.Queues {
		fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return openError(err)
		}
		d.fds = append(d.fds, fd)
		ifr, err := unix.NewIfreq(cfg.Name)
		if err != nil {
			return fmt.Errorf("interface name %q: %w", cfg.Name, err)
		}
		ifr.SetUint16(flags)
		if i == 0 { // else we might become a queue of somebody else's device
			ifr.SetUint16(flags | unix.IFF_TUN_EXCL)
		}
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
			return attachError(cfg, flags, err)
		}
		if flags&unix.IFF_VNET_HDR == 0 {
			continue // stays non-blocking, for the poller
		}
		// os.NewFile adds a descriptor to the runtime's poller when it is
		// non-blocking at that moment; probeOffloads switches it back.
		if err := unix.SetNonblock(fd, false); err != nil {
			return err
		}
	}
	return nil
}

// adopt hands the first descriptor to wireguard's device.
func (d *Device) adopt(mtu int) (err error) {
	file := os.NewFile(uintptr(d.fds[0]), clonePath)
	if d.wg, err = wgtun.CreateTUNFromFile(file, mtu); err != nil {
		d.wg, d.fds = nil, d.fds[1:]
		file.Close() // nobody else may: a collected os.File closes its number
		return fmt.Errorf("take over interface: %w", err)
	}
	return nil
}

func openError(err error) error {
	hint := "the tun module is missing: modprobe tun"
	switch {
	case errors.Is(err, unix.ENOENT):
		hint = "the container has no TUN device (run it with --device /dev/net/tun)"
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		hint = "the TUN device may not be opened here (root is needed, or a container with --device /dev/net/tun)"
	}
	return fmt.Errorf("open %s: %w: %s", clonePath, err, hint)
}

func attachError(cfg Config, flags uint16, err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("make interface %s: %w: this needs the capability CAP_NET_ADMIN (run as root, or the container with --cap-add NET_ADMIN)", cfg.Name, err)
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return fmt.Errorf("make interface %s: %w: an interface of this name exists, choose another", cfg.Name, err)
	case errors.Is(err, unix.EINVAL) && flags&unix.IFF_VNET_HDR != 0:
		return errVnetRefused
	}
	return fmt.Errorf("make interface %s: %w", cfg.Name, err)
}

// probeOffloads finds out which offloads the kernel has, each by itself as far as
// it lets us ask, and switches on all of them.
func (d *Device) probeOffloads() error {
	f := &d.features
	f.VnetHdr = true
	granted := 0
	for _, o := range []struct {
		flag int
		have []*bool
	}{
		{unix.TUN_F_CSUM, []*bool{&f.CSUM}},
		{unix.TUN_F_TSO4, []*bool{&f.TSO4}},
		{unix.TUN_F_TSO6, []*bool{&f.TSO6}},
		{unix.TUN_F_USO4 | unix.TUN_F_USO6, []*bool{&f.USO4, &f.USO6}}, // Linux grants both or none
	} {
		if unix.IoctlSetInt(d.fds[0], unix.TUNSETOFFLOAD, granted|o.flag) != nil {
			continue
		}
		granted |= o.flag
		for _, h := range o.have {
			*h = true
		}
	}
	if !f.CSUM || !f.TSO6 {
		d.features = Features{}
		return errVnetRefused
	}
	for _, fd := range d.fds {
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, granted); err != nil {
			return fmt.Errorf("set tun offloads: %w", err)
		}
		if err := unix.SetNonblock(fd, true); err != nil {
			return err
		}
	}
	return nil
}

func (d *Device) newWriter() Writer {
	if !d.features.VnetHdr {
		return newPortableWriter(d.wg)
	}
	if !d.gate.Enter() {
		return newVnetWriter(d, nil) // its Write says os.ErrClosed
	}
	defer d.gate.Leave()
	return newVnetWriter(d, slices.Clone(d.fds))
}

// close needs no wake-up for the portable path: its readers stand outside the
// gate, inside wireguard's device, and closing that frees them.
func (d *Device) close() error { return d.gate.Close(d.release) }

// release closes all descriptors of the device.
func (d *Device) release() error {
	fds := d.fds
	var err error
	if d.wg != nil {
		// Its listener may have ended before it could be told to.
		if err = d.wg.Close(); errors.Is(err, os.ErrClosed) {
			err = nil
		}
		fds = fds[1:]
	}
	for _, fd := range fds {
		err = errors.Join(err, unix.Close(fd))
	}
	d.fds = nil
	return err
}
