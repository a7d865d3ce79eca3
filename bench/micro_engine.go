package bench

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"sixin4/encap"
	"sixin4/encap/engine"
	"sixin4/encap/packet"
)

// feed is a reader that gives the same packets again and again, and then ends
// the run.
type feed struct {
	idle
	packets [][]byte
	off     int // where their heads start
	left    int // packets to give
	start   time.Time
	took    time.Duration
	done    context.CancelFunc
}

// Read fills b, or when all has been given waits for Close.
func (f *feed) Read(b *packet.Batch) error {
	if f.start.IsZero() {
		f.start = time.Now()
	}
	if f.left <= 0 {
		f.took = time.Since(f.start)
		f.done()
		return f.idle.Read(b)
	}
	b.Reset()
	for _, buf := range f.packets {
		b.Next().Set(buf, f.off, nil)
	}
	f.left -= len(f.packets)
	return nil
}

// idle is a reader of nothing.
type idle struct {
	once   sync.Once
	closed chan struct{}
}

// Read waits for Close.
func (i *idle) Read(*packet.Batch) error {
	<-i.closed
	return os.ErrClosed
}

// Close ends Read. It is idempotent.
func (i *idle) Close() error {
	i.once.Do(func() { close(i.closed) })
	return nil
}

// discard is a writer that takes everything.
type discard struct{ packets int }

// Write counts.
func (d *discard) Write(b *packet.Batch) (int, error) {
	d.packets += b.Len()
	return b.Len(), nil
}

// wayOut takes packets through an engine from a TUN that costs nothing to a wire
// that costs nothing.
func (m *micro) wayOut(ctx context.Context, n int) (time.Duration, error) {
	f := &feed{idle: idle{closed: make(chan struct{})}, packets: m.inner, off: packet.Headroom, left: n}
	nothing := &idle{closed: make(chan struct{})}
	return m.runEngine(ctx, f, n, func(out *discard) engine.Config {
		return engine.Config{
			Outbound: []engine.Lane{{In: f, Out: out, Back: new(discard)}},
			Inbound:  engine.Lane{In: nothing, Out: new(discard)},
		}
	})
}

// wayIn is the other direction.
func (m *micro) wayIn(ctx context.Context, n int) (time.Duration, error) {
	f := &feed{idle: idle{closed: make(chan struct{})}, packets: m.outer, off: packet.Headroom - encap.HeaderLen, left: n}
	nothing := &idle{closed: make(chan struct{})}
	return m.runEngine(ctx, f, n, func(out *discard) engine.Config {
		return engine.Config{
			Outbound: []engine.Lane{{In: nothing, Out: new(discard), Back: new(discard)}},
			Inbound:  engine.Lane{In: f, Out: out},
		}
	})
}

func (m *micro) runEngine(ctx context.Context, f *feed, n int, config func(out *discard) engine.Config) (time.Duration, error) {
	ctx, f.done = context.WithCancel(ctx)
	defer f.done()
	out := new(discard)
	cfg := config(out)
	cfg.MTU, cfg.Source = tunnelMTU, microSource
	e, err := engine.New(cfg, m.table)
	if err != nil {
		return 0, err
	}
	if err := e.Run(ctx); err != nil {
		return 0, err
	}
	if f.took > 0 && out.packets != n {
		return 0, fmt.Errorf("%d of %d packets came out", out.packets, n)
	}
	return f.took, nil
}
