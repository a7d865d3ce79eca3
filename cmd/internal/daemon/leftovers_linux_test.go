package daemon

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sixin4/cmd/internal/state"
	"sixin4/tun/ifcfg"
	"sixin4/tun/nstest"
)

// TestLeftoversOfAnotherKind: a broker and a static tunnel undo what a client's run of their
// name has left; without a file no directory is looked at, and with one that cannot be
// trusted it is left alone and said.
func TestLeftoversOfAnotherKind(t *testing.T) {
	prefix := netip.MustParsePrefix("2001:db8:1000::/56")
	for _, tt := range []struct {
		name    string
		leave   bool // a file
		mode    fs.FileMode
		begin   func(*tunnel) error
		undoes  bool
		message string
	}{
		{"static", true, 0o755, func(t0 *tunnel) error { t0.undoKilled(t.Context()); return nil }, true, "undoing what it left"},
		{"broker", true, 0o755, func(t0 *tunnel) error { return (&brokerage{tunnel: t0}).openState(t.Context()) }, true, "undoing what it left"},
		{"static, not trusted", true, 0o777, func(t0 *tunnel) error { t0.undoKilled(t.Context()); return nil }, false, "not trusted"},
		{"static, nothing left", false, 0o777, func(t0 *tunnel) error { t0.undoKilled(t.Context()); return nil }, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			dir := t.TempDir()
			t0 := newTunnel(settings{}, Env{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			t0.name, t0.socket = "six0", filepath.Join(dir, "six0.sock")
			path := filepath.Join(dir, "six0.state")
			ns := nstest.Open(t)
			err := ns.Do(func() error {
				undo, err := ifcfg.AddUnreachable(prefix)
				if err != nil {
					return err
				}
				if tt.leave {
					leave(t, path, state.Record{Route: &state.Route{Prefix: prefix, Type: state.Unreachable}})
				}
				if err := os.Chmod(dir, tt.mode); err != nil {
					return err
				}
				if err := tt.begin(t0); err != nil {
					return err
				}
				_, err = ifcfg.AddUnreachable(prefix) // is refused while there is one
				if err == nil != tt.undoes {
					t.Errorf("the route: %v, undone is to be %v", err, tt.undoes)
				}
				return undo()
			})
			if err := errors.Join(err, t0.undo.Undo()); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) == (tt.leave && !tt.undoes) {
				t.Errorf("the file: %v", err)
			}
			if got := log.String(); !strings.Contains(got, tt.message) || tt.message == "" && got != "" {
				t.Errorf("log %q, want %q", got, tt.message)
			}
		})
	}
}

// leave makes a state file as a killed process leaves it.
func leave(t *testing.T, path string, r state.Record) {
	t.Helper()
	f, err := state.Open(path)
	if err == nil {
		_, err = f.Add(r)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}
