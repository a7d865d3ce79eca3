package daemon

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"sixin4/encap/kernelpath"
)

// TestShortcutLost: that what the kernel sends does not arrive any more is logged once.
func TestShortcutLost(t *testing.T) {
	var log bytes.Buffer
	s := &shortcut{log: slog.New(slog.NewTextHandler(&log, nil))}
	s.note(&kernelpath.Flow{Trial: true}, "")
	if s.active() || log.Len() > 0 {
		t.Errorf("a trial is active, or logged:\n%s", &log)
	}
	for range 2 {
		s.note(&kernelpath.Flow{}, "")
	}
	for range 2 {
		s.note(&kernelpath.Flow{Trial: true}, "")
	}
	if lines := strings.Count(log.String(), "\n"); lines != 2 || !strings.Contains(log.String(), `reason="what the kernel sends does not arrive"`) {
		t.Errorf("log\n%s", &log)
	}
}

// TestShortcutWaits: --wire bpf warns of what hinders it, not of a tunnel that is yet to come.
func TestShortcutWaits(t *testing.T) {
	for reason, want := range map[string]bool{noSocket: false, noClient: false, noEthernet: true} {
		var log bytes.Buffer
		s := &shortcut{always: true, log: slog.New(slog.NewTextHandler(&log, nil))}
		if s.note(nil, reason); strings.Contains(log.String(), "level=WARN") != want {
			t.Errorf("%s: log %q", reason, &log)
		}
	}
}
