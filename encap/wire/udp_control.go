package wire

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

const (
	// controlQueue is how many control datagrams wait for a reader, unless the
	// configuration says otherwise. What comes on top is lost: whoever sends control
	// sends it again when there is no answer.
	controlQueue = 128
	// maxWaiting is how many bytes of them wait, so that long ones sent by strangers do
	// not fill the memory.
	maxWaiting = 16 << 20
	// keptBuffer is the size in bytes of a buffer that is used again.
	keptBuffer = 2 << 10
	// maxControl is longer in bytes than every message of the Tunnel Setup Protocol.
	maxControl = 20 << 10
)

// ControlConn is the control side of a UDP wire: the datagrams of the Tunnel Setup
// Protocol that come in among the data, and a way to send some. It is a net.Conn
// when the socket is connected, else a net.PacketConn, and does as a *net.UDPConn
// does, but that Close leaves the data alone.
type ControlConn struct {
	u       *UDP
	mu      sync.Mutex
	changed sync.Cond // something has arrived, or waiting has an end
	queue   []controlDatagram
	first   int // the oldest of
	waiting int // datagrams in queue
	bytes   int // in these
	failed  error
	closed  bool
	readBy  deadline
	writeBy deadline
}

type controlDatagram struct {
	from  netip.AddrPort
	bytes []byte // used again and again
}

func newControlConn(u *UDP) *ControlConn {
	c := &ControlConn{u: u, queue: make([]controlDatagram, u.cfg.ControlQueue)}
	c.changed.L = &c.mu
	return c
}

// deliver queues a datagram, which lives until it returns.
func (c *ControlConn) deliver(from netip.AddrPort, d []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.waiting == len(c.queue) || len(d) > maxControl || c.bytes+len(d) > maxWaiting {
		c.u.count.controlLost.Add(1)
		return
	}
	c.u.count.control.Add(1)
	slot := &c.queue[(c.first+c.waiting)%len(c.queue)]
	slot.from, slot.bytes = from, append(slot.bytes[:0], d...)
	c.waiting, c.bytes = c.waiting+1, c.bytes+len(d)
	c.changed.Signal()
}

// fail makes one Read that waits return err, or the next one.
func (c *ControlConn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = err
	c.changed.Signal()
}

// receive waits for a datagram and copies as much of it as b takes.
func (c *ControlConn) receive(b []byte) (n int, from netip.AddrPort, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, from, net.ErrClosed
		case c.readBy.over:
			return 0, from, os.ErrDeadlineExceeded
		case c.failed != nil:
			err, c.failed = c.failed, nil
			return 0, from, err
		case c.waiting > 0:
			n, from = c.take(b)
			return n, from, nil
		}
		c.changed.Wait()
	}
}

// take copies as much of the oldest datagram as b takes. There is one.
func (c *ControlConn) take(b []byte) (int, netip.AddrPort) {
	slot := &c.queue[c.first]
	c.first, c.waiting = (c.first+1)%len(c.queue), c.waiting-1
	c.bytes -= len(slot.bytes)
	n := copy(b, slot.bytes)
	if cap(slot.bytes) > keptBuffer {
		slot.bytes = nil
	}
	return n, slot.from
}

// Read waits for a control datagram. A connected socket may get an ICMP error about
// what was sent, as a *net.OpError; anybody can forge those.
func (c *ControlConn) Read(b []byte) (int, error) {
	n, _, err := c.receive(b)
	return n, c.opError("read", nil, err)
}

// ReadFrom waits for a control datagram and tells its sender, a *net.UDPAddr.
func (c *ControlConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.receive(b)
	if err != nil {
		return 0, nil, c.opError("read", nil, err)
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// Write sends a datagram to the far end of a connected socket.
func (c *ControlConn) Write(b []byte) (int, error) {
	return c.send(b, nil, netip.AddrPort{})
}

// WriteTo sends a datagram from a socket that is not connected to a *net.UDPAddr.
func (c *ControlConn) WriteTo(b []byte, to net.Addr) (int, error) {
	at := addrPort(to)
	if !at.Addr().Is4() || c.u.remote.IsValid() {
		return 0, c.opError("write", to, fmt.Errorf("no address to send to: %w", os.ErrInvalid))
	}
	return c.send(b, to, at)
}

func (c *ControlConn) send(b []byte, to net.Addr, at netip.AddrPort) (int, error) {
	c.mu.Lock()
	closed, late := c.closed, c.writeBy.over
	c.mu.Unlock()
	err := error(nil)
	switch {
	case closed:
		err = net.ErrClosed
	case late:
		err = os.ErrDeadlineExceeded
	default:
		err = c.u.sendDatagram(b, at)
	}
	if err != nil {
		return 0, c.opError("write", to, err)
	}
	return len(b), nil
}

// opError is err as a *net.UDPConn tells it.
func (c *ControlConn) opError(op string, to net.Addr, err error) error {
	if err == nil {
		return nil
	}
	if to == nil {
		to = c.RemoteAddr()
	}
	return &net.OpError{Op: op, Net: "udp4", Source: c.LocalAddr(), Addr: to, Err: err}
}

// LocalAddr returns the address of the socket, a *net.UDPAddr.
func (c *ControlConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.u.local) }

// RemoteAddr returns what the socket is connected to, a *net.UDPAddr, or nil.
func (c *ControlConn) RemoteAddr() net.Addr {
	if !c.u.remote.IsValid() {
		return nil
	}
	return net.UDPAddrFromAddrPort(c.u.remote)
}

// Close ends reads that wait. Control datagrams that arrive from now on are counted
// and dropped; the data goes on. It is idempotent.
func (c *ControlConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.readBy.stop()
	c.writeBy.stop()
	c.changed.Broadcast()
	return nil
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *ControlConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline ends reads at t, those that wait now too; the zero time never.
func (c *ControlConn) SetReadDeadline(t time.Time) error { return c.setDeadline(&c.readBy, t) }

// SetWriteDeadline makes writes fail from t on; the zero time never. A write does not
// wait for longer than a full socket is waited for.
func (c *ControlConn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.writeBy, t) }

func (c *ControlConn) setDeadline(d *deadline, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.opError("set", nil, net.ErrClosed)
	}
	d.stop()
	wait := time.Until(t)
	switch {
	case t.IsZero():
	case wait <= 0:
		d.over = true
		c.changed.Broadcast()
	default:
		set := d.set
		d.timer = time.AfterFunc(wait, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if d.set == set {
				d.over = true
				c.changed.Broadcast()
			}
		})
	}
	return nil
}

// deadline is a moment that may have come.
type deadline struct {
	over  bool
	set   int // how often it was set
	timer *time.Timer
}

// stop forgets the moment, even if its timer is just running.
func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
	d.over = false
	d.set++
}
