package tsptest

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// Path says what happens to datagrams; its zero value delivers them at once, in
// order. Under testing/synctest its delays take no time. Any number of goroutines may
// use one.
type Path struct {
	Random     *rand.Rand    // nil: nothing happens to any
	Loss, Copy float64       // how likely, 0 to below 1
	Delay      time.Duration // at most; each datagram has its own, which reorders them

	mu sync.Mutex
}

// fates are the delays of the copies of a datagram that arrive.
func (p *Path) fates() []time.Duration {
	if p == nil || p.Random == nil {
		return []time.Duration{0}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var fates []time.Duration
	for copies := 1; copies > 0; copies-- {
		if p.Random.Float64() < p.Copy {
			copies++
		}
		if p.Random.Float64() >= p.Loss {
			fates = append(fates, 1+time.Duration(p.Random.Int64N(int64(p.Delay)+1)))
		}
	}
	return fates
}

// DatagramPipe is a path between two sockets that are connected to each other; both are
// a net.PacketConn too.
func DatagramPipe(p *Path) (a, b net.Conn) {
	n := &Net{Path: p}
	near, far := netip.MustParseAddrPort("192.0.2.2:40000"), netip.MustParseAddrPort("192.0.2.1:3653")
	x, _ := n.socket(near, far) // nobody else is there who could have taken it
	y, _ := n.socket(far, near)
	return x, y
}

type datagram struct {
	from netip.AddrPort
	b    []byte
}

// socket is a UDP socket of a Net.
type socket struct {
	net         *Net
	local, peer netip.AddrPort // peer is invalid when it is not connected
	in          chan datagram
	refused     chan struct{}
	once        sync.Once
	closed      chan struct{}

	mu       sync.Mutex
	deadline time.Time
	changed  chan struct{}
}

// buffered is how many datagrams wait in a socket; what comes then is lost.
const buffered = 1024

func newSocket(n *Net, local, peer netip.AddrPort) *socket {
	return &socket{
		net: n, local: local, peer: peer,
		in: make(chan datagram, buffered), refused: make(chan struct{}, 1),
		closed: make(chan struct{}), changed: make(chan struct{}),
	}
}

func (s *socket) Write(b []byte) (int, error) { return s.send(b, s.peer) }

func (s *socket) WriteTo(b []byte, to net.Addr) (int, error) { return s.send(b, addrPort(to)) }

func (s *socket) send(b []byte, to netip.AddrPort) (int, error) {
	select {
	case <-s.closed:
		return 0, opError("write", "udp", net.ErrClosed)
	default:
	}
	d := datagram{s.local, append([]byte(nil), b...)}
	for _, delay := range s.net.Path.fates() {
		if delay == 0 {
			s.deliver(d, to)
			continue
		}
		time.AfterFunc(delay, func() { s.deliver(d, to) })
	}
	return len(b), nil
}

func (s *socket) deliver(d datagram, to netip.AddrPort) {
	far := s.net.find(to)
	if far == nil {
		select {
		case s.refused <- struct{}{}:
		default:
		}
		return
	}
	if far.peer.IsValid() && far.peer != d.from {
		return
	}
	select {
	case far.in <- d:
	default:
	}
}

func (s *socket) Read(b []byte) (int, error) {
	d, err := s.receive()
	return copy(b, d.b), err
}

func (s *socket) ReadFrom(b []byte) (int, net.Addr, error) {
	d, err := s.receive()
	return copy(b, d.b), net.UDPAddrFromAddrPort(d.from), err
}

func (s *socket) receive() (datagram, error) {
	refused := s.refused
	if !s.peer.IsValid() {
		refused = nil // only a connected socket hears of it
	}
	for {
		expired, changed, stop := s.timer()
		d, again, err := s.wait(expired, changed, refused)
		stop()
		if !again {
			return d, err
		}
	}
}

// wait waits for whatever happens first; again when that was a new deadline.
func (s *socket) wait(expired <-chan time.Time, changed, refused <-chan struct{}) (d datagram, again bool, err error) {
	select {
	case d := <-s.in:
		return d, false, nil
	case <-expired:
		return d, false, os.ErrDeadlineExceeded
	case <-refused:
		return d, false, opError("read", "udp", syscall.ECONNREFUSED)
	case <-s.closed:
		return d, false, opError("read", "udp", net.ErrClosed)
	case <-changed:
		return d, true, nil
	}
}

// timer is what ends a read: the deadline, or a new one.
func (s *socket) timer() (expired <-chan time.Time, changed <-chan struct{}, stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deadline.IsZero() {
		return nil, s.changed, func() {}
	}
	timer := time.NewTimer(time.Until(s.deadline))
	return timer.C, s.changed, func() { timer.Stop() }
}

func (s *socket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// SetDeadline is SetReadDeadline: nothing waits to be written.
func (s *socket) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

func (s *socket) SetWriteDeadline(time.Time) error { return nil }

func (s *socket) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(s.local) }

func (s *socket) RemoteAddr() net.Addr {
	if !s.peer.IsValid() {
		return nil
	}
	return net.UDPAddrFromAddrPort(s.peer)
}

func (s *socket) Close() error {
	s.once.Do(func() {
		s.net.mu.Lock()
		delete(s.net.sockets, s.local)
		s.net.mu.Unlock()
		close(s.closed)
	})
	return nil
}
