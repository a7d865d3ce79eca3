// Package netstack is a host side of a tunnel without a TUN device: an IPv6 stack
// (RFC 8200) with TCP (RFC 9293), UDP (RFC 768) and ICMPv6 (RFC 4443) inside this
// process, whose link is read and written in batches like a device. It needs no
// privilege.
//
// The stack is gVisor's (gvisor.dev/gvisor/pkg/tcpip). golang.zx2c4.com/wireguard
// has a wrapper of it, tun/netstack, which is not used here because it hands over
// one packet at a time through a channel without room, copies each into a buffer
// and again into the caller's, has no segmentation offload, leaves buffers at what
// suits a few megabytes per second, and cannot change addresses while it runs.
//
// RFC texts are cited from memory: they could not be read when this was written.
package netstack

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const (
	// DefaultBuffer is what a TCP connection may have under way: 100 ms at
	// 1 Gbit/s.
	DefaultBuffer = 12_500_000
	// DefaultQueue is what may wait to be read: 32 ms at 1 Gbit/s.
	DefaultQueue = 4 << 20

	minMTU, maxMTU = 1280, 65535 // RFC 8200, Section 5; more would be a jumbogram
)

// Config describes a device. Zero fields mean the default.
type Config struct {
	MTU    int          // IPv6 packets of up to so many bytes, 1280 to 65535; default 1280
	Buffer int          // limit of the send and the receive buffer of a TCP connection in bytes; default DefaultBuffer
	Memory int          // of the buffers of all TCP connections, bytes; default DefaultMemory
	Queue  int          // bytes that wait to be read before packets are dropped; default DefaultQueue
	Logger *slog.Logger // default: discard
}

// Stats counts what the engine does not see.
type Stats struct {
	Overflow  uint64 // packets that the stack sent and that found the queue full
	Split     uint64 // large TCP segments that were cut up
	SplitInto uint64 // packets that they became
	Joined    uint64 // packets that reached the stack as part of a large one
	BadSum    uint64 // packets whose checksum was wrong, which the stack does not see
}

// Device is an IPv6 host with one link, which is read with Reader and written with
// writers. Its methods may be used by several goroutines.
type Device struct {
	cfg   Config
	log   *slog.Logger
	stack *stack.Stack
	link  *link

	change    sync.Mutex // held while the addresses are replaced
	addresses map[netip.Addr]bool
	close     sync.Once

	sharing sync.Mutex // of what follows
	most    int        // bytes that a buffer may grow to
}

// nic is the number of the one interface.
const nic tcpip.NICID = 1

// New makes a device without an address. Its stack waits for work in goroutines of
// its own until Close.
func New(cfg Config) (*Device, error) {
	if cfg.MTU == 0 {
		cfg.MTU = minMTU
	}
	if cfg.Buffer == 0 {
		cfg.Buffer = DefaultBuffer
	}
	if cfg.Memory == 0 {
		cfg.Memory = DefaultMemory
	}
	if cfg.Queue == 0 {
		cfg.Queue = DefaultQueue
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := checkMTU(cfg.MTU); err != nil {
		return nil, err
	}
	if cfg.Buffer < 0 || cfg.Memory < 0 || cfg.Queue < 0 {
		return nil, fmt.Errorf("netstack: buffer %d, memory %d or queue %d is negative", cfg.Buffer, cfg.Memory, cfg.Queue)
	}
	d := &Device{cfg: cfg, log: cfg.Logger, link: newLink(cfg), addresses: make(map[netip.Addr]bool)}
	d.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocolCUBIC, udp.NewProtocol},
		HandleLocal:        true,
	})
	if err := d.setUp(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func checkMTU(mtu int) error {
	if mtu < minMTU || mtu > maxMTU {
		return fmt.Errorf("netstack: MTU %d is not between %d and %d", mtu, minMTU, maxMTU)
	}
	return nil
}

// setUp sets what the stack's own defaults have otherwise or may have one day.
func (d *Device) setUp() error {
	var (
		sack     = tcpip.TCPSACKEnabled(true)                    // RFC 2018
		rack     = tcpip.TCPRecovery(tcpip.TCPRACKLossDetection) // RFC 8985
		moderate = tcpip.TCPModerateReceiveBufferOption(true)
		cubic    = tcpip.CongestionControlOption("cubic") // RFC 9438
	)
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &rack, &moderate, &cubic} {
		if err := d.stack.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("netstack: set %T: %s", o, err)
		}
	}
	for _, o := range []any{
		tcpip.ReceiveBufferSizeOption{Min: 4096, Default: 1 << 20, Max: 4 << 20}, // of UDP
		tcpip.SendBufferSizeOption{Min: 4096, Default: 1 << 20, Max: 4 << 20},
	} {
		if err := d.stack.SetOption(o); err != nil {
			return fmt.Errorf("netstack: set %T: %s", o, err)
		}
	}
	if err := d.share(1); err != nil {
		return err
	}
	if err := d.stack.CreateNIC(nic, d.link); err != nil {
		return fmt.Errorf("netstack: make the interface: %s", err)
	}
	d.stack.AddRoute(tcpip.Route{Destination: header.IPv6EmptySubnet, NIC: nic})
	return nil
}

// SetAddresses replaces the addresses of this host. Those that stay, and
// connections from them, are left alone; connections from one that goes are ended,
// since nothing sent to it would come back. It fails for what is no IPv6 unicast
// address, and then changes nothing.
func (d *Device) SetAddresses(all []netip.Addr) error {
	next := make(map[netip.Addr]bool)
	for _, a := range all {
		if !a.Is6() || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Zone() != "" {
			return fmt.Errorf("netstack: %v is not an IPv6 unicast address", a)
		}
		next[a] = true
	}
	d.change.Lock()
	defer d.change.Unlock()
	for a := range next {
		if err := d.add(a); err != nil {
			return err
		}
	}
	for a := range d.addresses {
		if next[a] {
			continue
		}
		if err := d.stack.RemoveAddress(nic, toAddress(a)); err != nil {
			return fmt.Errorf("netstack: remove %v: %s", a, err)
		}
		delete(d.addresses, a)
		d.abort(a)
	}
	return nil
}

// add gives the host an address that it may have already.
func (d *Device) add(a netip.Addr) error {
	if d.addresses[a] {
		return nil
	}
	err := d.stack.AddProtocolAddress(nic, tcpip.ProtocolAddress{
		Protocol:          ipv6.ProtocolNumber,
		AddressWithPrefix: toAddress(a).WithPrefix(),
	}, stack.AddressProperties{})
	if err != nil {
		return fmt.Errorf("netstack: add %v: %s", a, err)
	}
	d.addresses[a] = true
	return nil
}

// abort ends the connections and sockets at an address.
func (d *Device) abort(a netip.Addr) {
	gone := toAddress(a)
	for _, e := range d.stack.RegisteredEndpoints() {
		owner, ok := e.(tcpip.Endpoint)
		if !ok {
			continue
		}
		if at, err := owner.GetLocalAddress(); err == nil && at.Addr == gone {
			e.Abort()
		}
	}
}

// Addresses returns the addresses of this host, in no particular order.
func (d *Device) Addresses() []netip.Addr {
	d.change.Lock()
	defer d.change.Unlock()
	all := make([]netip.Addr, 0, len(d.addresses))
	for a := range d.addresses {
		all = append(all, a)
	}
	return all
}

// SetMTU replaces Config.MTU, with the same range. Connections hear of a smaller one
// by ICMPv6 as from any router on their way (RFC 8201).
func (d *Device) SetMTU(mtu int) error {
	if err := checkMTU(mtu); err != nil {
		return err
	}
	if err := d.stack.SetNICMTU(nic, uint32(mtu)); err != nil {
		return fmt.Errorf("netstack: set MTU: %s", err)
	}
	return nil
}

// Stats returns the counters.
func (d *Device) Stats() Stats { return d.link.stats() }

// Close ends all connections and every Read, and waits for the stack's goroutines.
// It is idempotent.
func (d *Device) Close() error {
	d.close.Do(func() {
		d.link.shut()
		d.stack.Destroy()
	})
	return nil
}

func (d *Device) closed() error {
	if d.link.isShut() {
		return os.ErrClosed
	}
	return nil
}

func toAddress(a netip.Addr) tcpip.Address { return tcpip.AddrFrom16(a.As16()) }
