package daemon

import (
	"bytes"
	"log/slog"
	"strings"
	"syscall"
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
	for reason, want := range map[string]bool{noSocket: false, noClient: false, noDevice: false, noEthernet: true} {
		var log bytes.Buffer
		s := &shortcut{always: true, log: slog.New(slog.NewTextHandler(&log, nil))}
		if s.note(nil, reason); strings.Contains(log.String(), "level=WARN") != want {
			t.Errorf("%s: log %q", reason, &log)
		}
	}
}

// TestShortcutAtTheEnd: what the kernel refuses because the interface has gone already is
// nothing to warn of, and what it refuses for another link that has gone is.
func TestShortcutAtTheEnd(t *testing.T) {
	for _, gone := range []bool{true, false} {
		var log bytes.Buffer
		_, path, s := shortened(&fakeConn{})
		path.becomes(syscall.ENODEV)
		s.always, s.gone, s.log = true, func() bool { return gone }, slog.New(slog.NewTextHandler(&log, nil))
		s.look(s.epoch(), nil, "")
		if warned := strings.Contains(log.String(), "level=WARN"); warned == gone {
			t.Errorf("gone %v: log %q", gone, &log)
		}
	}
}
