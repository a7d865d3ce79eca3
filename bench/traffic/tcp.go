package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/proxy"
)

const (
	tcpWrite = 128 << 10 // bytes of one write
	tcpRead  = 512 << 10 // bytes of one read at most
)

// TCP is a run of parallel streams in one direction, as fast as they go.
type TCP struct {
	Streams  int           // 1 or more
	Warmup   time.Duration // not counted: slow start and the first wake-ups
	Duration time.Duration // counted, greater than 0

	// Via is the SOCKS5 server (RFC 1928) through which the source connects; zero: directly.
	Via netip.AddrPort
}

func (c TCP) check() error {
	if c.Streams < 1 || c.Duration <= 0 || c.Warmup < 0 {
		return fmt.Errorf("tcp: %d streams for %v after %v: need a stream and a duration", c.Streams, c.Duration, c.Warmup)
	}
	return nil
}

func (c TCP) deadline() time.Time { return time.Now().Add(c.Warmup + c.Duration + slack) }

// TCPResult is what the sink counted.
type TCPResult struct {
	Bytes   int64   `json:"bytes"`   // of all streams, within the counted time
	Seconds float64 `json:"seconds"` // the counted time
	Total   int64   `json:"total"`   // bytes with those of the warm-up
}

// BitsPerSecond is the goodput within the counted time.
func (r TCPResult) BitsPerSecond() float64 { return float64(r.Bytes) * 8 / r.Seconds }

// ListenTCP opens a listener for SinkTCP. It is plain TCP: Go's own default is a
// Multipath TCP listener where the kernel has it.
func ListenTCP(addr netip.AddrPort) (*net.TCPListener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	listener, err := config.Listen(context.Background(), "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	return listener.(*net.TCPListener), nil
}

// SinkTCP accepts the streams of one run, reads them, and closes them when the
// time is over, which is what ends the source.
func SinkTCP(ctx context.Context, listener *net.TCPListener, cfg TCP) (TCPResult, error) {
	if err := cfg.check(); err != nil {
		return TCPResult{}, err
	}
	conns, err := accept(ctx, listener, cfg)
	defer closeAll(conns)
	if err != nil {
		return TCPResult{}, opErr(ctx, "tcp sink", err)
	}
	var total atomic.Int64
	var readers sync.WaitGroup
	for _, conn := range conns {
		readers.Go(func() { drain(conn, &total) })
	}
	result, err := measure(ctx, cfg, &total)
	closeAll(conns)
	readers.Wait()
	result.Total = total.Load()
	return result, opErr(ctx, "tcp sink", err)
}

func accept(ctx context.Context, listener *net.TCPListener, cfg TCP) ([]net.Conn, error) {
	if err := listener.SetDeadline(cfg.deadline()); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })() // Accept then fails
	var conns []net.Conn
	for len(conns) < cfg.Streams {
		conn, err := listener.Accept()
		if err != nil {
			return conns, fmt.Errorf("stream %d of %d did not come: %w", len(conns)+1, cfg.Streams, err)
		}
		conns = append(conns, conn)
	}
	return conns, nil
}

func drain(conn net.Conn, total *atomic.Int64) {
	buf := make([]byte, tcpRead)
	for {
		n, err := conn.Read(buf)
		total.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// measure samples the count at both ends of the counted time.
func measure(ctx context.Context, cfg TCP, total *atomic.Int64) (TCPResult, error) {
	if err := pause(ctx, cfg.Warmup); err != nil {
		return TCPResult{}, err
	}
	start, before := time.Now(), total.Load()
	if err := pause(ctx, cfg.Duration); err != nil {
		return TCPResult{}, err
	}
	return TCPResult{Bytes: total.Load() - before, Seconds: time.Since(start).Seconds()}, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// SourceTCP connects the streams to a sink and writes until the sink closes
// them, or until the run is long over.
func SourceTCP(ctx context.Context, to netip.AddrPort, cfg TCP) error {
	if err := cfg.check(); err != nil {
		return err
	}
	conns, err := connect(ctx, to, cfg)
	defer closeAll(conns)
	if err != nil {
		return opErr(ctx, "tcp source", err)
	}
	defer context.AfterFunc(ctx, func() { closeAll(conns) })()
	errs := make([]error, len(conns))
	var writers sync.WaitGroup
	for i, conn := range conns {
		writers.Go(func() { errs[i] = fill(conn) })
	}
	writers.Wait()
	return opErr(ctx, "tcp source", errors.Join(errs...))
}

func connect(ctx context.Context, to netip.AddrPort, cfg TCP) ([]net.Conn, error) {
	var conns []net.Conn
	dialer, err := cfg.dialer()
	if err != nil {
		return nil, err
	}
	for len(conns) < cfg.Streams {
		conn, err := dialer.DialContext(ctx, "tcp", to.String())
		if err != nil {
			return conns, err
		}
		conns = append(conns, conn)
	}
	// A tunnel that lost everything also lost that the sink has closed.
	over := time.Now().Add(cfg.Warmup + cfg.Duration + time.Second)
	for _, conn := range conns {
		if err := conn.SetDeadline(over); err != nil {
			return conns, err
		}
	}
	return conns, nil
}

// dialer is what connects, by itself or through a proxy.
func (c TCP) dialer() (proxy.ContextDialer, error) {
	direct := &net.Dialer{Deadline: c.deadline()}
	if !c.Via.IsValid() {
		return direct, nil
	}
	socks, err := proxy.SOCKS5("tcp", c.Via.String(), nil, direct)
	if err != nil {
		return nil, err
	}
	return socks.(proxy.ContextDialer), nil
}

func fill(conn net.Conn) error {
	buf := make([]byte, tcpWrite)
	for {
		if _, err := conn.Write(buf); err != nil {
			if ended(err) {
				return nil
			}
			return err
		}
	}
}

// closeAll throws away what is still unsent: the run is over. Closing twice is
// harmless.
func closeAll[C io.Closer](conns []C) {
	for _, c := range conns {
		_ = c.Close()
	}
}
