// Package load is a crowd of light clients of a broker (RFC 5572): tens of thousands
// in one process, each with an IPv4 address of its own. They speak the Tunnel Setup
// Protocol over UDP and TCP, answer the echo requests by which a broker looks whether
// they are there, and send packets through their tunnels. Some of them are hostile.
//
// The addresses must be local where the sockets are, in a namespace in which nothing
// leaves the machine: a prefix on the loopback interface makes all of it so.
//
// The RFCs are cited from memory: their texts could not be consulted.
package load

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Namespace is where sockets are opened; *nstest.NS is one.
type Namespace interface {
	Do(func() error) error
}

// Config says who the clients are. Server and First are required.
type Config struct {
	Server netip.AddrPort // of the broker
	First  netip.Addr     // IPv4 address of the first client; the others follow
	Count  int            // of clients; 0 means 1
	Ports  int            // of UDP, which the attempts of a client take in turns; 0 means 4
}

func (c Config) withDefaults() (Config, error) {
	if c.Count == 0 {
		c.Count = 1
	}
	if c.Ports == 0 {
		c.Ports = 4
	}
	if !c.Server.Addr().Is4() || !c.First.Is4() || c.Count < 0 || c.Ports < 0 {
		return c, fmt.Errorf("load: %d clients from %v on, %d ports, broker %v: IPv4 addresses and numbers from 1 belong here",
			c.Count, c.First, c.Ports, c.Server)
	}
	if last := uint64(number(c.First)) + uint64(c.Count); last > 1<<32 {
		return c, fmt.Errorf("load: no %d addresses from %v on", c.Count, c.First)
	}
	return c, nil
}

// number is an IPv4 address as a number, and address the way back.
func number(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func address(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// Crowd is all clients. Any number of goroutines may use it.
type Crowd struct {
	cfg   Config
	in    Namespace
	raw   packets
	ports []datagrams
	keys  keys
	slots []slot

	// Resent is how many datagrams were sent again, as no answer came.
	Resent atomic.Int64

	work  sync.WaitGroup
	close func() error
}

// slot is what one client has now.
type slot struct {
	mu     sync.Mutex             // of who has a session: one at a time
	flow   atomic.Pointer[flow]   // its session over UDP
	tunnel atomic.Pointer[Tunnel] // its last one
	turns  atomic.Uint32          // attempts over UDP
}

// Open opens the sockets of a crowd and starts to read them; Close ends that. It needs
// the privilege to open raw sockets.
func Open(in Namespace, cfg Config) (*Crowd, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Crowd{cfg: cfg, in: in, slots: make([]slot, cfg.Count)}
	if err := in.Do(func() error { return c.open() }); err != nil {
		return nil, errors.Join(fmt.Errorf("load: %w", err), c.closeAll())
	}
	c.close = sync.OnceValue(func() error {
		err := c.closeAll()
		c.work.Wait()
		return err
	})
	c.work.Go(c.receivePackets)
	for i, p := range c.ports {
		c.work.Go(func() { c.receiveDatagrams(uint32(i), p) })
	}
	return c, nil
}

func (c *Crowd) open() (err error) {
	if c.raw, err = openPackets(c.cfg.Server.Addr()); err != nil {
		return err
	}
	for range c.cfg.Ports {
		p, err := openDatagrams(c.cfg.Server)
		if err != nil {
			return err
		}
		c.ports = append(c.ports, p)
	}
	return nil
}

func (c *Crowd) closeAll() error {
	var errs []error
	if c.raw != nil {
		errs = append(errs, c.raw.Close())
	}
	for _, p := range c.ports {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// Close closes the sockets and returns when nobody reads them any more. Sessions under
// way fail. It is idempotent.
func (c *Crowd) Close() error { return c.close() }

// Addr is the IPv4 address of a client, counted from 0.
func (c *Crowd) Addr(client int) netip.Addr { return address(number(c.cfg.First) + uint32(client)) }

// at is the client that has an address, nil for none.
func (c *Crowd) at(a uint32) *slot {
	if i := a - number(c.cfg.First); i < uint32(len(c.slots)) {
		return &c.slots[i]
	}
	return nil
}

// Each calls f for the numbers 0 to n-1, some at a time, until all are done, ctx ends
// or one of them has an error, which is the first that is returned.
func Each(ctx context.Context, n, atATime int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(n, atATime) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := f(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}
