package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/program"
)

// noLog is a level of an old file that logs nothing.
const noLog = 0

// logLevel is what a level of an old file, 1 to 3, logs.
func logLevel(n int) slog.Level {
	return []slog.Level{slog.LevelWarn, slog.LevelInfo, slog.LevelDebug}[min(n, maxVerbose)-1]
}

// openLog opens all that an old file wants logged to; -v is the least level of the log
// on standard error. done closes it.
func (p process) openLog(verbose int, set settings) (log *slog.Logger, done func(), err error) {
	var handlers []slog.Handler
	var closers []io.Closer
	done = func() {
		for _, c := range closers {
			c.Close()
		}
	}
	add := func(w io.Writer, level int) {
		if level > noLog {
			handlers = append(handlers, program.NewHandler(w, set.LogJSON, logLevel(level)))
		}
	}
	add(p.stdout, set.logs.Console)
	add(p.stderr, max(set.logs.Stderr, verbose))
	if set.logs.File > noLog {
		f, err := os.OpenFile(set.logs.Filename, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, nil, failure{statusLog, fmt.Errorf("log_filename: %w", err)}
		}
		closers = append(closers, f)
		handlers = append(handlers, slog.NewTextHandler(f, &slog.HandlerOptions{Level: logLevel(set.logs.File)}))
	}
	h, c, err := syslogHandler(set.logs)
	if err == nil && h != nil {
		handlers, closers = append(handlers, h), append(closers, c)
	}
	log = slog.New(slog.NewMultiHandler(handlers...))
	if err != nil {
		log.Warn("no log to syslog", "error", err)
	}
	return log, done, nil
}

// syslogHandler is the handler for log_syslog; nil when nothing is to go there.
func syslogHandler(logs config.OldLog) (slog.Handler, io.Closer, error) {
	if logs.Syslog == noLog {
		return nil, nil, nil
	}
	s, err := dialSyslog(logs.Facility)
	if err != nil {
		return nil, nil, err
	}
	return newBands(s, logLevel(logs.Syslog)), s, nil
}
