package tsp_test

import (
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"
)

// packetPipe is one end of a path for datagrams that a test can make as bad as the
// Internet. Under testing/synctest its delays take no time.
type packetPipe struct {
	in     chan []byte
	peer   *packetPipe
	path   *path
	once   sync.Once
	closed chan struct{}

	mu       sync.Mutex
	deadline time.Time
	changed  chan struct{}
}

// path says what happens to datagrams; its zero value delivers them at once, in order.
type path struct {
	mu         sync.Mutex
	random     *rand.Rand
	loss, copy float64
	delay      time.Duration // at most; each datagram has its own, which reorders them
}

func newPacketPipe(p *path) (a, b *packetPipe) {
	ends := [2]*packetPipe{}
	for i := range ends {
		ends[i] = &packetPipe{
			in: make(chan []byte, 1024), path: p,
			closed: make(chan struct{}), changed: make(chan struct{}),
		}
	}
	ends[0].peer, ends[1].peer = ends[1], ends[0]
	return ends[0], ends[1]
}

func (p *packetPipe) Write(b []byte) (int, error) {
	packet := append([]byte(nil), b...)
	for _, delay := range p.path.fates() {
		if delay == 0 {
			p.deliver(packet)
			continue
		}
		time.AfterFunc(delay, func() { p.deliver(packet) })
	}
	return len(b), nil
}

func (p *packetPipe) deliver(packet []byte) {
	select {
	case p.peer.in <- packet:
	default: // a full socket buffer
	}
}

// fates are the delays of the copies of a datagram that arrive.
func (p *path) fates() []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.random == nil {
		return []time.Duration{0}
	}
	var fates []time.Duration
	for copies := 1; copies > 0; copies-- {
		if p.random.Float64() < p.copy {
			copies++
		}
		if p.random.Float64() >= p.loss {
			fates = append(fates, 1+time.Duration(p.random.Int64N(int64(p.delay)+1)))
		}
	}
	return fates
}

func (p *packetPipe) Read(b []byte) (int, error) {
	for {
		p.mu.Lock()
		deadline, changed := p.deadline, p.changed
		p.mu.Unlock()
		var expired <-chan time.Time
		if !deadline.IsZero() {
			timer := time.NewTimer(time.Until(deadline))
			defer timer.Stop()
			expired = timer.C
		}
		select {
		case packet := <-p.in:
			return copy(b, packet), nil
		case <-expired:
			return 0, os.ErrDeadlineExceeded
		case <-p.closed:
			return 0, net.ErrClosed
		case <-changed:
		}
	}
}

func (p *packetPipe) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = t
	close(p.changed)
	p.changed = make(chan struct{})
	return nil
}

func (p *packetPipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}
