package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/encap"
	"sixin4/encap/packet"
	"sixin4/encap/packettest"
)

// All tests here run in a bubble, which fails when a goroutine is left over.

// lanes returns a configuration with n outbound lanes over queues.
func lanes(n int) (Config, []*packettest.Queue) {
	readers := []*packettest.Queue{packettest.NewQueue()}
	cfg := Config{Inbound: Lane{In: readers[0], Out: packettest.NewQueue()}}
	for i := range n {
		readers = append(readers, packettest.NewQueue())
		cfg.Outbound = append(cfg.Outbound, Lane{In: readers[i+1], Out: packettest.NewQueue()})
	}
	return cfg, readers
}

// TestRunEnds with nil when it is told to, by whatever means, and closes all
// readers.
func TestRunEnds(t *testing.T) {
	cause := errors.New("a task beside it failed")
	for _, c := range []struct {
		name string
		stop func(parent context.Context, readers []*packettest.Queue) context.Context
	}{
		{"cancelled", func(ctx context.Context, _ []*packettest.Queue) context.Context {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx
		}},
		{"cancelled before", func(ctx context.Context, _ []*packettest.Queue) context.Context {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx
		}},
		{"cancelled with a cause, as by a signal", func(ctx context.Context, _ []*packettest.Queue) context.Context {
			ctx, cancel := context.WithCancelCause(ctx)
			time.AfterFunc(time.Second, func() { cancel(cause) })
			return ctx
		}},
		{"deadline", func(ctx context.Context, _ []*packettest.Queue) context.Context {
			ctx, cancel := context.WithTimeoutCause(ctx, time.Second, cause)
			context.AfterFunc(ctx, cancel)
			return ctx
		}},
		{"one reader closed", func(ctx context.Context, readers []*packettest.Queue) context.Context {
			time.AfterFunc(time.Second, func() { readers[2].Close() })
			return ctx
		}},
		{"all readers closed before", func(ctx context.Context, readers []*packettest.Queue) context.Context {
			for _, q := range readers {
				q.Close()
			}
			return ctx
		}},
	} {
		bubble(t, c.name, func(t *testing.T) {
			cfg, readers := lanes(4)
			ctx := c.stop(t.Context(), readers)
			if err := mustNew(t, cfg, mustTable(t, hostTable())).Run(ctx); err != nil {
				t.Error(err)
			}
			for i, q := range readers {
				if err := q.Read(packet.NewBatch(1)); err != os.ErrClosed {
					t.Errorf("reader %d: %v", i, err)
				}
			}
		})
	}
}

// failing is a Reader that fails.
type failing struct{ err error }

func (f failing) Read(*packet.Batch) error { return f.err }
func (f failing) Close() error             { return nil }

// TestRunFails with the error of the reader that failed first; the errors of
// contexts are errors like any other there.
func TestRunFails(t *testing.T) {
	for _, want := range []error{errors.New("read from tun0: no such device"), fmt.Errorf("read: %w", context.Canceled), context.DeadlineExceeded} {
		for i := range 3 {
			bubble(t, fmt.Sprintf("reader %d: %v", i, want), func(t *testing.T) {
				cfg, _ := lanes(2)
				if i == 0 {
					cfg.Inbound.In = failing{want}
				} else {
					cfg.Outbound[i-1].In = failing{want}
				}
				if err := mustNew(t, cfg, mustTable(t, hostTable())).Run(t.Context()); err != want {
					t.Error(err)
				}
			})
		}
	}
}

// slow is a reader that fails at once and takes its time to close.
type slow struct {
	failing
	closed  *atomic.Int32
	release chan struct{}
}

func (s slow) Close() error {
	<-s.release
	s.closed.Add(1)
	return errors.New("closing fails too")
}

// TestRunWaitsForClosing: it has closed all readers when it returns, even if none
// had to be woken.
func TestRunWaitsForClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed atomic.Int32
		want, result := errors.New("gone"), make(chan error, 1)
		in := slow{failing{want}, &closed, make(chan struct{})}
		e := mustNew(t, Config{Inbound: Lane{In: in, Out: sink(swallow)}, Outbound: []Lane{{In: in, Out: sink(swallow)}}}, mustTable(t, hostTable()))
		go func() { result <- e.Run(t.Context()) }()
		synctest.Wait()
		select {
		case err := <-result:
			t.Fatalf("Run returned %v with its readers open", err)
		default:
		}
		close(in.release)
		if err := <-result; err != want || closed.Load() != 2 {
			t.Errorf("%v; %d readers closed", err, closed.Load())
		}
	})
}

// TestRunUnderTraffic ends in the middle of it.
func TestRunUnderTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cfg, _ := lanes(1)
		var stop atomic.Bool
		i := 0
		busy := feed(1<<40, func(dst []byte) []byte {
			if i++; i == 10_000 {
				cancel()
			}
			return append(dst, benchPacket...)
		})
		in := source(func(b *packet.Batch) {
			if !stop.Load() {
				busy(b)
			}
		})
		cfg.Outbound[0] = Lane{In: closing{in, func() { stop.Store(true) }}, Out: sink(swallow)}
		e := mustNew(t, cfg, mustTable(t, hostTable()))
		if err := e.Run(ctx); err != nil {
			t.Error(err)
		}
		if s := e.Stats(); s.Tx.Packets <= 10_000 || s.Tx.Packets != uint64(i) {
			t.Errorf("%+v, %d read", s.Tx, i)
		}
	})
}

var benchPacket = udp(host6, other6, 1, 1480)

// closing is a Reader that does something when it is closed.
type closing struct {
	Reader
	close func()
}

func (c closing) Close() error {
	c.close()
	return nil
}

func TestNewRefuses(t *testing.T) {
	table := mustTable(t, hostTable())
	good := func() Config {
		cfg, _ := lanes(1)
		cfg.MTU, cfg.Source = 1480, ours6
		return cfg
	}
	if _, err := New(good(), table); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		edit  func(c *Config)
		table *Table
	}{
		{"no outbound lane", func(c *Config) { c.Outbound = nil }, table},
		{"outbound lane without a reader", func(c *Config) { c.Outbound[0].In = nil }, table},
		{"outbound lane without a writer", func(c *Config) { c.Outbound[0].Out = nil }, table},
		{"no inbound lane", func(c *Config) { c.Inbound = Lane{} }, table},
		{"inbound lane without a writer", func(c *Config) { c.Inbound.Out = nil }, table},
		{"no MTU", func(c *Config) { c.MTU = 0 }, table},
		{"MTU 1279", func(c *Config) { c.MTU = 1279 }, table},
		{"MTU 65516", func(c *Config) { c.MTU = 65516 }, table},
		{"no source", func(c *Config) { c.Source = netip.Addr{} }, table},
		{"IPv4 source", func(c *Config) { c.Source = ours4 }, table},
		{"mapped source", func(c *Config) { c.Source = addr("::ffff:192.0.2.1") }, table},
		{"no table", func(*Config) {}, nil},
	} {
		cfg := good()
		c.edit(&cfg)
		if _, err := New(cfg, c.table); err == nil {
			t.Errorf("%s: accepted", c.name)
		}
	}
}

// TestDefaults: a link that is large enough for the MTU, and no log.
func TestDefaults(t *testing.T) {
	cfg, _ := lanes(1)
	e := mustNew(t, cfg, mustTable(t, hostTable()))
	if e.sizes.Load().wire != 1500 || e.log == nil || e.sizes.Load().tun != encap.TunMTU(1480) {
		t.Errorf("%+v", e.cfg)
	}
}
