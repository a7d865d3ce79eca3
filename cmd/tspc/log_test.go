package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sixin4/cmd/internal/config"
)

// speak logs one record of each level.
func speak(log *slog.Logger) {
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		log.Log(context.Background(), l, "a record")
	}
}

// levels are the levels of the records in a log, in their order.
func levels(text string) string {
	var all []string
	for line := range strings.Lines(text) {
		_, rest, _ := strings.Cut(line, "level=")
		level, _, _ := strings.Cut(rest, " ")
		all = append(all, level)
	}
	return strings.Join(all, " ")
}

// TestLevels runs under a journal, whose lines have no time; those of a file have one.
func TestLevels(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "9:99")
	const all = "DEBUG INFO WARN ERROR"
	for _, tt := range []struct {
		name                  string
		logs                  config.OldLog
		verbose               int
		stdout, stderr, inLog string
	}{
		{"as it is", config.OldLog{Stderr: 1}, 0, "", "WARN ERROR", ""},
		{"nothing", config.OldLog{}, 0, "", "", ""},
		{"everywhere", config.OldLog{Console: 3, Stderr: 2, File: 1}, 0, all, "INFO WARN ERROR", "WARN ERROR"},
		{"-v", config.OldLog{}, 1, "", "WARN ERROR", ""},
		{"-vv", config.OldLog{Stderr: 1}, 2, "", "INFO WARN ERROR", ""},
		{"-vvvv", config.OldLog{File: 2}, 4, "", all, "INFO WARN ERROR"},
		{"-v is no less", config.OldLog{Stderr: 3}, 1, "", all, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.logs.Filename = filepath.Join(t.TempDir(), "gogoc.log")
			var out, errs bytes.Buffer
			log, done, err := process{stdout: &out, stderr: &errs}.openLog(tt.verbose, settings{logs: tt.logs})
			if err != nil {
				t.Fatal(err)
			}
			speak(log)
			done()
			inLog, err := os.ReadFile(tt.logs.Filename)
			if err != nil && (tt.inLog != "" || !errors.Is(err, fs.ErrNotExist)) {
				t.Fatal(err)
			}
			if got := levels(out.String()); got != tt.stdout {
				t.Errorf("console: %q, want %q", got, tt.stdout)
			}
			if got := levels(errs.String()); got != tt.stderr {
				t.Errorf("standard error: %q, want %q", got, tt.stderr)
			}
			if got := levels(string(inLog)); got != tt.inLog {
				t.Errorf("file: %q, want %q", got, tt.inLog)
			}
			if timed := strings.Count(string(inLog), "time="); timed != strings.Count(string(inLog), "\n") || strings.Contains(errs.String(), "time=") {
				t.Errorf("times in\n%s\nand\n%s", inLog, errs.String())
			}
		})
	}
}

// fakeSystem is a system's log.
type fakeSystem struct{ got []string }

func (f *fakeSystem) say(how, text string) error {
	f.got = append(f.got, how+" "+strings.TrimSuffix(text, "\n"))
	return nil
}
func (f *fakeSystem) Err(s string) error     { return f.say("err", s) }
func (f *fakeSystem) Warning(s string) error { return f.say("warning", s) }
func (f *fakeSystem) Info(s string) error    { return f.say("info", s) }
func (f *fakeSystem) Debug(s string) error   { return f.say("debug", s) }
func (f *fakeSystem) Close() error           { return nil }

func TestSystemLog(t *testing.T) {
	for _, tt := range []struct {
		level int
		want  string
	}{
		{1, "warning level=WARN msg=\"a record\" a=b g.c=d,err level=ERROR msg=\"a record\" a=b g.c=d"},
		{2, "info level=INFO msg=\"a record\" a=b g.c=d,warning level=WARN msg=\"a record\" a=b g.c=d,err level=ERROR msg=\"a record\" a=b g.c=d"},
		{3, "debug level=DEBUG msg=\"a record\" a=b g.c=d,info level=INFO msg=\"a record\" a=b g.c=d,warning level=WARN msg=\"a record\" a=b g.c=d,err level=ERROR msg=\"a record\" a=b g.c=d"},
	} {
		var s fakeSystem
		speak(slog.New(newBands(&s, logLevel(tt.level))).With("a", "b").WithGroup("g").With("c", "d"))
		if got := strings.Join(s.got, ","); got != tt.want {
			t.Errorf("level %d: %s, want %s", tt.level, got, tt.want)
		}
	}
}

// TestNoSystemLog: that there is none is one warning.
func TestNoSystemLog(t *testing.T) {
	var out, errs bytes.Buffer
	logs := config.OldLog{Stderr: 1, Syslog: 3, Facility: "NEWS"}
	_, done, err := process{stdout: &out, stderr: &errs}.openLog(0, settings{logs: logs})
	if err != nil {
		t.Fatal(err)
	}
	done()
	if got := errs.String(); levels(got) != "WARN" || !strings.Contains(got, "no log to syslog") {
		t.Errorf("standard error %q", got)
	}
}
