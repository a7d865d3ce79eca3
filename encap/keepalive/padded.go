package keepalive

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"sixin4/encap"
)

// PaddedConfig says who asks whom with packets of what lengths. Interface, Source and
// To are those of [Config].
type PaddedConfig struct {
	Interface  string
	Source, To netip.Addr
	// Answered is told the size of each request that was answered, by the goroutine of
	// Run. Required.
	Answered func(size encap.TunMTU)
	Logger   *slog.Logger // default: discard
}

// Padded sends ICMPv6 echo requests of given lengths through a tunnel, none of which
// this host may fragment, and looks for their answers: the probes of packetization layer
// path MTU discovery (RFC 8899, Section 4.1). An answer comes back as long as the
// request was (RFC 4443, Section 4.2), so what passes here passes both ways.
type Padded struct {
	cfg  PaddedConfig
	open func(id int) (conn, error)

	mu      sync.Mutex
	conn    conn // nil unless Run runs
	id      uint16
	seq     uint16
	pending [paddedPending]paddedRequest
}

// paddedPending is how many of the last requests may still be answered.
const paddedPending = 16

// MinPadded is the shortest packet that Padded sends, in bytes.
const MinPadded encap.TunMTU = encap.IPv6HeaderLen + messageLen

type paddedRequest struct {
	request
	size encap.TunMTU // 0: none
}

// NewPadded checks cfg and returns a sender that has not opened anything yet.
func NewPadded(cfg PaddedConfig) (*Padded, error) {
	if cfg.Answered == nil {
		return nil, errors.New("keepalive: Answered is missing")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	// The checks and defaults are the same.
	p, err := New(Config{Interface: cfg.Interface, Source: cfg.Source, To: cfg.To, Logger: cfg.Logger})
	if err != nil {
		return nil, err
	}
	cfg.Source, cfg.To = p.cfg.Source, p.cfg.To
	return &Padded{cfg: cfg, open: func(id int) (conn, error) { return openPadded(p.cfg, id) }}, nil
}

// Run receives answers until ctx ends, which returns nil. Its only errors are those of
// opening the socket. While it runs, Send works. It runs at most once at a time.
func (p *Padded) Run(ctx context.Context) error {
	if ctx.Err() != nil {
		return nil
	}
	id := newID()
	c, err := p.open(int(id))
	if err != nil {
		return fmt.Errorf("keepalive: %w", err)
	}
	p.start(c, id)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		p.stop(c)
	})
	defer func() {
		if stop() {
			p.stop(c)
			return
		}
		<-stopped
	}()
	buf := make([]byte, encap.MaxTunMTU)
	for ctx.Err() == nil {
		p.receive(ctx, c, buf)
	}
	return nil
}

func (p *Padded) start(c conn, id uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn, p.id = c, id
	p.pending = [paddedPending]paddedRequest{}
}

func (p *Padded) stop(c conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn = nil
	if err := c.close(); err != nil {
		p.cfg.Logger.Warn("closing the socket of path MTU probes failed", "err", err)
	}
}

// Send sends an echo request in an IPv6 packet of size bytes, MinPadded to
// [encap.MaxTunMTU]. It fails with os.ErrClosed unless Run runs. One that is longer
// than the interface's MTU is refused by the system.
func (p *Padded) Send(size encap.TunMTU) error {
	if size < MinPadded || size > encap.MaxTunMTU {
		return fmt.Errorf("keepalive: probe of %d bytes: want %d to %d", size, MinPadded, encap.MaxTunMTU)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil {
		return fmt.Errorf("keepalive: probe: %w", os.ErrClosed)
	}
	r := paddedRequest{request{seq: p.seq, sent: time.Now()}, size}
	_, _ = rand.Read(r.nonce[:]) // never fails
	p.seq++
	p.pending[r.seq%paddedPending] = r
	data := make([]byte, int(size)-encap.IPv6HeaderLen-headerLen)
	copy(data, r.nonce[:])
	if err := p.conn.send(appendMessage(nil, typeRequest, p.id, r.seq, data)); err != nil {
		return fmt.Errorf("keepalive: probe of %d bytes: %w", size, err)
	}
	return nil
}

// paddedWait is how long a receive waits; that it ends without an answer is nothing.
const paddedWait = time.Hour

func (p *Padded) receive(ctx context.Context, c conn, buf []byte) {
	n, from, err := c.receive(buf, time.Now().Add(paddedWait))
	switch {
	case ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded):
	case err != nil:
		p.cfg.Logger.Debug("receiving an answer to a path MTU probe failed", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	default:
		if size, ok := p.accept(buf[:n], from); ok {
			p.cfg.Answered(size)
		}
	}
}

// accept looks whether a message answers a request, and if so forgets that one.
func (p *Padded) accept(message []byte, from netip.Addr) (encap.TunMTU, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if from.WithZone("") != p.cfg.To.WithZone("") || len(message) < messageLen ||
		message[0] != typeReply || message[1] != 0 || binary.BigEndian.Uint16(message[4:]) != p.id {
		return 0, false
	}
	seq := binary.BigEndian.Uint16(message[6:])
	r := &p.pending[seq%paddedPending]
	if r.size == 0 || r.seq != seq || len(message) != int(r.size)-encap.IPv6HeaderLen ||
		[nonceLen]byte(message[headerLen:]) != r.nonce || !zeros(message[messageLen:]) {
		return 0, false
	}
	size := r.size
	*r = paddedRequest{}
	return size, true
}

// zeros reports whether b is padding as we send it.
func zeros(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
