package keepalive

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// AskerConfig says who asks.
type AskerConfig struct {
	Interface string       // as in Config; required
	Source    netip.Addr   // as in Config; required
	ID        uint16       // identifier of the echo requests; 0: a random one
	Logger    *slog.Logger // nil: discard
}

// Asker asks any number of far ends at a time, each whether it is there now, all by one
// socket: opening one for each costs more than all the rest. Any number of goroutines
// may use it.
type Asker struct {
	cfg    AskerConfig
	id     uint16
	open   func(id int) (manyConn, error)
	opened chan struct{} // closed once there is a socket

	mu      sync.Mutex
	conn    manyConn
	seq     uint16
	waiting map[[nonceLen]byte]question
}

// question is an echo request under way.
type question struct {
	to       netip.Addr
	seq      uint16
	answered chan struct{}
}

// manyConn is a conn to any far end.
type manyConn interface {
	sendTo(message []byte, to netip.Addr) error
	receive(b []byte, deadline time.Time) (n int, from netip.Addr, err error)
	close() error
}

// NewAsker checks the configuration; it opens nothing.
func NewAsker(cfg AskerConfig) (*Asker, error) {
	if cfg.Interface == "" || len(cfg.Interface) > maxName {
		return nil, fmt.Errorf("keepalive: interface %q: a name of 1 to %d bytes belongs here", cfg.Interface, maxName)
	}
	if err := checkAddr("source", cfg.Source); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Source = scoped(cfg.Source, cfg.Interface)
	if cfg.ID == 0 {
		cfg.ID = newID()
	}
	return &Asker{
		cfg: cfg, id: cfg.ID, opened: make(chan struct{}), waiting: make(map[[nonceLen]byte]question),
		open: func(id int) (manyConn, error) { return openMany(cfg, id) },
	}, nil
}

// Run takes answers until ctx ends, which returns nil. The only errors are those of
// opening the socket. It is for one call.
func (a *Asker) Run(ctx context.Context) error {
	c, err := a.open(int(a.id))
	if err != nil {
		return fmt.Errorf("keepalive: %w", err)
	}
	end := sync.OnceFunc(func() { _ = c.close() }) // it was only read
	defer end()
	defer context.AfterFunc(ctx, end)()
	a.mu.Lock()
	a.conn = c
	a.mu.Unlock()
	close(a.opened)
	buf := make([]byte, messageLen+1)
	for ctx.Err() == nil {
		n, from, err := c.receive(buf, time.Time{})
		if err == nil {
			a.accept(buf[:n], from)
			continue
		}
		if ctx.Err() == nil {
			a.cfg.Logger.Debug("receiving an echo reply failed", "err", err)
			wait(ctx, pause)
		}
	}
	return nil
}

// wait waits for a time, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Ask sends an echo request with a random nonce to a far end, an IPv6 unicast address,
// and returns nil when the answer comes within timeout, which begins when Run does. The
// error wraps ErrDead when none does, also because the system would not send the
// request; that of ctx when it ends first.
func (a *Asker) Ask(ctx context.Context, to netip.Addr, timeout time.Duration) error {
	if err := checkAddr("destination", to); err != nil {
		return err
	}
	select {
	case <-a.opened:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	nonce, q, err := a.send(scoped(to, a.cfg.Interface))
	if err != nil {
		a.cfg.Logger.Debug("an echo request could not be sent", "to", to, "err", err)
	}
	defer a.forget(nonce)
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-q.answered:
		return nil
	case <-timer.C:
		return fmt.Errorf("keepalive: %w: no answer of %v in %v", ErrDead, to, timeout)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// send sends a request and remembers it first.
func (a *Asker) send(to netip.Addr) (nonce [nonceLen]byte, q question, err error) {
	_, _ = rand.Read(nonce[:]) // never fails
	a.mu.Lock()
	a.seq++
	q = question{to: to, seq: a.seq, answered: make(chan struct{})}
	a.waiting[nonce] = q
	c := a.conn
	a.mu.Unlock()
	return nonce, q, c.sendTo(appendMessage(nil, typeRequest, a.id, q.seq, nonce[:]), to)
}

func (a *Asker) forget(nonce [nonceLen]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.waiting, nonce)
}

// accept looks whether a message answers a request under way.
func (a *Asker) accept(message []byte, from netip.Addr) {
	// Section 4.2: the data of the request comes back entirely and unmodified.
	if len(message) != messageLen || message[0] != typeReply || message[1] != 0 || binary.BigEndian.Uint16(message[4:]) != a.id {
		return
	}
	nonce := [nonceLen]byte(message[headerLen:])
	a.mu.Lock()
	defer a.mu.Unlock()
	q, ok := a.waiting[nonce]
	if ok && q.seq == binary.BigEndian.Uint16(message[6:]) && q.to.WithZone("") == from.WithZone("") {
		delete(a.waiting, nonce)
		close(q.answered)
	}
}
