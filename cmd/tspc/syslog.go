package main

import (
	"context"
	"io"
	"log/slog"

	"sixin4/cmd/internal/program"
)

// system is the system's log: a line each, with how grave it is.
type system interface {
	io.Closer
	Err(string) error
	Warning(string) error
	Info(string) error
	Debug(string) error
}

// line is a writer of one gravity.
type line func(string) error

func (l line) Write(b []byte) (int, error) { return len(b), l(string(b)) }

// band handles the records from one level to below another.
type band struct {
	slog.Handler
	below slog.Level
}

// Enabled reports whether level is in the band.
func (b band) Enabled(ctx context.Context, level slog.Level) bool {
	return level < b.below && b.Handler.Enabled(ctx, level)
}

func (b band) WithAttrs(attrs []slog.Attr) slog.Handler {
	return band{b.Handler.WithAttrs(attrs), b.below}
}

func (b band) WithGroup(name string) slog.Handler { return band{b.Handler.WithGroup(name), b.below} }

// newBands sends each record from a level on to s as what it is.
func newBands(s system, from slog.Level) slog.Handler {
	const top = slog.LevelError + 100
	var bands []slog.Handler
	for _, b := range []struct {
		to         line
		from, next slog.Level
	}{
		{s.Err, slog.LevelError, top},
		{s.Warning, slog.LevelWarn, slog.LevelError},
		{s.Info, slog.LevelInfo, slog.LevelWarn},
		{s.Debug, slog.LevelDebug, slog.LevelInfo},
	} {
		opts := &slog.HandlerOptions{Level: max(b.from, from), ReplaceAttr: program.WithoutTime}
		bands = append(bands, band{slog.NewTextHandler(b.to, opts), b.next})
	}
	return slog.NewMultiHandler(bands...)
}
