package program

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestComplain(t *testing.T) {
	var b bytes.Buffer
	Complain(&b, "sixin4", errors.Join(errors.New("one"), errors.New("two")))
	if got, want := b.String(), "sixin4: one\nsixin4: two\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSocketDirs(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	if got := SocketDirs(); !slices.Contains(got, filepath.Join(dir, "sixin4")) {
		t.Errorf("%q has nothing below %s", got, dir)
	}
}

func TestNewLogger(t *testing.T) {
	for _, tt := range []struct {
		name            string
		asJSON, verbose bool
		journal         string
		prefix          string
		lines           int
	}{
		{"text", false, false, "", "time=", 1},
		{"for the journal", false, false, "9:99", "level=INFO msg=", 1},
		{"json", true, false, "", `{"time":`, 1},
		{"json for the journal", true, false, "9:99", `{"time":`, 1},
		{"verbose", false, true, "9:99", "level=INFO msg=", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("JOURNAL_STREAM", tt.journal)
			var b bytes.Buffer
			log := NewLogger(&b, tt.asJSON, tt.verbose)
			log.Info("said", slog.String("by", "a test"))
			log.Debug("muttered")
			if got := b.String(); !strings.HasPrefix(got, tt.prefix) || strings.Count(got, "\n") != tt.lines {
				t.Errorf("got %q, want %d lines that begin with %q", got, tt.lines, tt.prefix)
			}
			if tt.asJSON != json.Valid(b.Bytes()) {
				t.Errorf("JSON: %v, want %v", !tt.asJSON, tt.asJSON)
			}
		})
	}
}
