// Package tun is the host side of a tunnel: IPv6 packets in and out of the
// kernel through a TUN device, in batches.
//
// On Linux the device is opened with a virtio header before each packet
// (IFF_VNET_HDR), so that the kernel hands over up to 64 KiB of one TCP or UDP
// flow in one read, and takes as much in one write. Read cuts such
// super-packets into packets that fit the link and completes their checksums;
// Write joins the packets of a flow again. Neither copies payload.
//
// The device itself is made by golang.zx2c4.com/wireguard/tun. Its own packet
// path copies every payload, so here it is the portable path only: for other
// systems, and for kernels that refuse the virtio header.
package tun

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	wgtun "golang.zx2c4.com/wireguard/tun"

	"sixin4/encap/packet"
)

// BatchSize is the number of packets that one Read or Write handles best.
const BatchSize = 128

// Config describes a device to be made. Zero fields mean the default.
type Config struct {
	Name      string       // interface name, 1 to 15 bytes; required
	MTU       int          // IPv6 packets of up to so many bytes; default 1480
	Queues    int          // descriptors that the kernel spreads flows over, 1 to 256; default 1
	NoOffload bool         // use the portable path: a packet per system call, no super-packets
	Logger    *slog.Logger // default: discard
}

// Features tells which offloads the kernel granted to a device.
type Features struct {
	VnetHdr                      bool // a virtio header before each packet
	CSUM, TSO4, TSO6, USO4, USO6 bool
}

// Missing names the offloads that the kernel refused, in the order above.
func (f Features) Missing() []string {
	var names []string
	for _, o := range []struct {
		have bool
		name string
	}{
		{f.VnetHdr, "VNET_HDR"}, {f.CSUM, "CSUM"}, {f.TSO4, "TSO4"},
		{f.TSO6, "TSO6"}, {f.USO4, "USO4"}, {f.USO6, "USO6"},
	} {
		if !o.have {
			names = append(names, o.name)
		}
	}
	return names
}

// String says what is missing, or "all offloads".
func (f Features) String() string {
	if m := f.Missing(); len(m) > 0 {
		return "without " + strings.Join(m, ", ")
	}
	return "all offloads"
}

// Reader reads packets from one queue of a device.
type Reader interface {
	// Read waits for packets and replaces the contents of b by them; they are
	// valid until the next Read. A packet that could not be made sense of comes
	// with Err set to packet.ErrMalformed, so that nothing is lost uncounted.
	// After Close it returns os.ErrClosed; any other error means that the device
	// is gone.
	Read(b *packet.Batch) error
	// Close ends a Read that waits, on all queues of the device.
	Close() error
}

// Writer writes packets to a device. A Writer belongs to one goroutine; a device
// may have many.
type Writer interface {
	// Write gives the packets of b to the kernel. A packet that it refuses gets
	// the error as its Err and costs no other; n counts those it took, and err is
	// the first error. The bytes of the packets may be changed.
	Write(b *packet.Batch) (n int, err error)
}

// Stats counts where packets were cut and joined, since the device was opened.
type Stats struct {
	Split      uint64 // super-packets that were cut up
	SplitInto  uint64 // packets that they became
	Joined     uint64 // packets that went to the kernel as part of a super-packet
	JoinedInto uint64 // super-packets that they became
}

type counters struct{ split, splitInto, joined, joinedInto atomic.Uint64 }

// Device is a TUN device. It disappears, with its addresses and routes, when it
// is closed or the process ends.
type Device struct {
	name     string
	features Features
	queues   []Reader
	wg       wgtun.Device
	closed   atomic.Bool
	counters counters
	log      *slog.Logger
	device   // what the system needs
}

// Open makes the device. It must not exist yet. The error names the missing
// privilege or device and says what gives it.
func Open(cfg Config) (*Device, error) {
	if cfg.MTU == 0 {
		cfg.MTU = 1480
	}
	cfg.Queues = max(cfg.Queues, 1)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Device{name: cfg.Name, log: cfg.Logger}
	if cfg.MTU < 1280 || cfg.MTU > maxTotal {
		return nil, fmt.Errorf("make interface %s: MTU %d is not between 1280 and %d", cfg.Name, cfg.MTU, maxTotal)
	}
	if err := d.open(cfg); err != nil {
		return nil, err
	}
	go d.drainEvents()
	return d, nil
}

// drainEvents keeps the device's own watcher from blocking; it ends when the
// device is closed.
func (d *Device) drainEvents() {
	for e := range d.wg.Events() {
		switch {
		case e&wgtun.EventUp != 0:
			d.log.Debug("device is up", "name", d.name)
		case e&wgtun.EventDown != 0:
			d.log.Info("device is down", "name", d.name)
		}
	}
}

// Name returns the name of the interface.
func (d *Device) Name() string { return d.name }

// Features returns the offloads that the kernel granted.
func (d *Device) Features() Features { return d.features }

// Queues returns the number of queues, at least 1.
func (d *Device) Queues() int { return len(d.queues) }

// Reader returns the reader of queue i, 0 <= i < Queues().
func (d *Device) Reader(i int) Reader { return d.queues[i] }

// NewWriter returns a new writer.
func (d *Device) NewWriter() Writer { return d.newWriter() }

// Stats returns the counters.
func (d *Device) Stats() Stats {
	c := &d.counters
	return Stats{
		Split: c.split.Load(), SplitInto: c.splitInto.Load(),
		Joined: c.joined.Load(), JoinedInto: c.joinedInto.Load(),
	}
}

// Close removes the device, ending every Read. It is idempotent.
func (d *Device) Close() error {
	d.closed.Store(true)
	return d.close()
}
