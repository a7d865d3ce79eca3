package program

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"sync"
	"sync/atomic"
	"syscall"
)

// Daemon is what runs until a signal ends it, with a configuration that SIGHUP has
// read again.
type Daemon[C any] struct {
	// Config is what Read returned last.
	Config C
	// Read reads the configuration again. Nil: there is nothing to read, and SIGHUP ends
	// the daemon as SIGTERM does.
	Read func() (C, error)
	// Run runs the daemon until its context ends, and undoes then what it did. It writes
	// to the writer when it is ready.
	Run func(context.Context, C, io.Writer) error
	// Out is the writer for Run.
	Out io.Writer
	// Logger hears what came of a SIGHUP.
	Logger *slog.Logger
}

// Keep runs the daemon until ctx, which is one of UntilSignal, ends. A configuration
// that was read again and differs ends the daemon and begins it anew. One that cannot be
// read or is wrong changes nothing; one that the daemon does not get ready with
// is given up for the one before. Who reads the log may go away; the daemon stays. Errors
// are those of Run.
func (d Daemon[C]) Keep(ctx context.Context) error {
	IgnorePipe()
	if d.Read == nil {
		return d.Run(ctx, d.Config, d.Out)
	}
	hangups, leave := takeHangups(ctx)
	defer leave()
	var former *C
	for {
		out := &noticed{w: d.Out}
		next, err := d.once(ctx, hangups, out)
		switch {
		case ctx.Err() != nil:
			return err
		case next != nil:
			if err != nil { // while it ended
				d.Logger.Error("not all was undone", "error", err)
			}
			former, d.Config = new(d.Config), *next
		case former != nil && !out.written.Load():
			d.Logger.Error("the new configuration does not work here; the one before is used again", "error", err)
			d.Config, former = *former, nil
		default:
			return err
		}
	}
}

// once runs the daemon until it ends by itself, or there is another configuration.
func (d Daemon[C]) once(ctx context.Context, hangups <-chan struct{}, out io.Writer) (next *C, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx, d.Config, out) }()
	for {
		select {
		case err := <-ended:
			return nil, err
		case <-hangups:
			if next := d.another(); next != nil {
				cancel()
				return next, <-ended
			}
		}
	}
}

// another is the configuration as it is now, nil if there is none that is right and new.
func (d Daemon[C]) another() *C {
	c, err := d.Read()
	switch {
	case err != nil:
		d.Logger.Error("the configuration stays as it was", "error", err)
		return nil
	case reflect.DeepEqual(c, d.Config):
		d.Logger.Info("the configuration was read again, and nothing in it has changed")
		return nil
	}
	d.Logger.Info("the configuration has changed, beginning anew")
	return &c
}

// noticed remembers whether something was written.
type noticed struct {
	w       io.Writer
	written atomic.Bool
}

func (n *noticed) Write(b []byte) (int, error) {
	n.written.Store(true)
	return n.w.Write(b)
}

// signals are those that UntilSignal waits for.
type signals struct {
	came chan os.Signal

	mu    sync.Mutex
	taker chan struct{} // who wants SIGHUP; nil: it is the end
}

type signalsKey struct{}

// errNoSignals is a mistake of the caller.
var errNoSignals = errors.New("program: Keep needs a context of UntilSignal")

// takeHangups has SIGHUP ring the channel instead of ending ctx, until leave is called.
func takeHangups(ctx context.Context) (rings <-chan struct{}, leave func()) {
	s, ok := ctx.Value(signalsKey{}).(*signals)
	if !ok {
		panic(errNoSignals)
	}
	taker := make(chan struct{}, 1)
	s.setTaker(taker)
	signal.Notify(s.came, syscall.SIGHUP) // also where it was ignored: reading again harms nobody
	return taker, func() { s.setTaker(nil) }
}

func (s *signals) setTaker(taker chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taker = taker
}

// taken reports whether a signal means no end.
func (s *signals) taken(sig os.Signal) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sig != syscall.SIGHUP || s.taker == nil {
		return false
	}
	select {
	case s.taker <- struct{}{}:
	default: // the next look sees all
	}
	return true
}
