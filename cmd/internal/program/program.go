// Package program is what the programs do alike as processes: where they log, how
// they are told to stop, what they say when something is wrong.
package program

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"sixin4/cmd/internal/control"
	"sixin4/cmd/internal/exit"
)

// repeated is for how long the signals after the first are taken for the same wish:
// a terminal that closes and programs like timeout(1) send two at once.
const repeated = time.Second

// UntilSignal returns a context that ends with the first SIGINT or SIGTERM, and with SIGHUP
// (the terminal is gone) unless a Daemon takes it or the program was started by nohup.
// Everything is undone then; who does not want to wait for it sends another one after a
// second, which ends the process with exit.Failure.
func UntilSignal(ctx context.Context) (context.Context, func()) {
	s := &signals{came: make(chan os.Signal, 2)}
	ctx, cancel := context.WithCancel(context.WithValue(ctx, signalsKey{}, s))
	signal.Notify(s.came, syscall.SIGINT, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(s.came, syscall.SIGHUP)
	}
	go func() {
		for s.taken(<-s.came) {
		}
		cancel()
		for first := time.Now(); time.Since(first) < repeated; {
			<-s.came
		}
		os.Exit(exit.Failure)
	}()
	return ctx, cancel
}

// IgnorePipe makes a log that nobody reads any more an error of writing instead of
// the end of the process. Other than signal.Ignore it leaves the signal alone in the
// programs that are started from here.
func IgnorePipe() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// Complain writes the lines of err to w, each after the name of the program.
func Complain(w io.Writer, name string, err error) {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(w, "%s: %s\n", name, strings.TrimSuffix(line, "\n"))
	}
}

// SocketDirs is where control sockets are for this user, see control.Dirs.
func SocketDirs() []string { return control.Dirs(os.Getenv("XDG_RUNTIME_DIR")) }

// NewLogger logs to w, as text or JSON; verbose is with what is for debugging.
func NewLogger(w io.Writer, asJSON, verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(NewHandler(w, asJSON, level))
}

// NewHandler writes records from level on to w. The journal has its own clock, so
// text for it has no time.
func NewHandler(w io.Writer, asJSON bool, level slog.Level) slog.Handler {
	opts := &slog.HandlerOptions{Level: level}
	if asJSON {
		return slog.NewJSONHandler(w, opts)
	}
	if os.Getenv("JOURNAL_STREAM") != "" {
		opts.ReplaceAttr = WithoutTime
	}
	return slog.NewTextHandler(w, opts)
}

// WithoutTime takes the time off a record (slog.HandlerOptions.ReplaceAttr), for logs
// that have their own clock.
func WithoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
