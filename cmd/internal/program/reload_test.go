package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// rig is a daemon of a test, whose configuration is a word.
type rig struct {
	t      *testing.T
	on     *signals
	stop   func()
	out    chan string // what the daemon said
	logged chan string
	ended  chan error

	mu   sync.Mutex
	says string // what Read reads
}

// channel is a writer to a channel.
type channel chan string

func (c channel) Write(b []byte) (int, error) {
	c <- strings.TrimSpace(string(b))
	return len(b), nil
}

// newRig starts a daemon with the word "one". It fails before it is ready with "bad", after
// that with "late", and when it ends with "stuck".
func newRig(t *testing.T, withFile bool) *rig {
	r := &rig{
		t: t, on: &signals{came: make(chan os.Signal, 1)}, out: make(chan string, 16),
		logged: make(chan string, 16), ended: make(chan error, 1), says: "one",
	}
	t.Cleanup(func() { signal.Stop(r.on.came) })
	ctx, stop := context.WithCancel(context.WithValue(t.Context(), signalsKey{}, r.on))
	r.stop = stop
	d := Daemon[string]{Config: "one", Out: channel(r.out), Logger: slog.New(slog.NewTextHandler(channel(r.logged), nil)), Run: run}
	if withFile {
		d.Read = r.read
	}
	go func() { r.ended <- d.Keep(ctx) }()
	return r
}

func run(ctx context.Context, word string, out io.Writer) error {
	if word == "bad" {
		return errors.New("bad does not work")
	}
	fmt.Fprintln(out, word)
	if word == "late" {
		return errors.New("late failure")
	}
	<-ctx.Done()
	if word == "stuck" {
		return errors.New("something is left")
	}
	return nil
}

func (r *rig) read() (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.says == "wrong" {
		return "", errors.New("wrong is no word")
	}
	return r.says, nil
}

// hangup writes another word and sends the signal.
func (r *rig) hangup(word string) {
	r.t.Helper()
	r.mu.Lock()
	r.says = word
	r.mu.Unlock()
	if !r.on.taken(syscall.SIGHUP) {
		r.t.Fatal("nobody takes the signal")
	}
}

func (r *rig) wants(c chan string, part string) {
	r.t.Helper()
	if got := <-c; !strings.Contains(got, part) {
		r.t.Errorf("got %q, want %q", got, part)
	}
}

func TestDaemon(t *testing.T) {
	r := newRig(t, true)
	r.wants(r.out, "one")
	r.hangup("one")
	r.wants(r.logged, "nothing in it has changed")
	r.hangup("wrong")
	r.wants(r.logged, "wrong is no word")
	r.hangup("two")
	r.wants(r.logged, "has changed")
	r.wants(r.out, "two")
	r.hangup("bad")
	r.wants(r.logged, "has changed")
	r.wants(r.logged, "bad does not work")
	r.wants(r.out, "two")
	r.hangup("stuck")
	r.wants(r.logged, "has changed")
	r.wants(r.out, "stuck")
	r.hangup("two")
	r.wants(r.logged, "has changed")
	r.wants(r.logged, "something is left")
	r.wants(r.out, "two")
	r.stop()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	if r.on.taken(syscall.SIGHUP) {
		t.Error("a hangup after the end is taken")
	}
}

// TestDaemonFails: an error after the daemon was ready is its end, with whatever configuration.
func TestDaemonFails(t *testing.T) {
	r := newRig(t, true)
	r.wants(r.out, "one")
	r.hangup("late")
	r.wants(r.out, "late")
	if err := <-r.ended; err == nil || err.Error() != "late failure" {
		t.Errorf("%v", err)
	}
}

// TestDaemonWithoutFile leaves the signal alone.
func TestDaemonWithoutFile(t *testing.T) {
	r := newRig(t, false)
	r.wants(r.out, "one")
	if r.on.taken(syscall.SIGHUP) {
		t.Error("taken, with nothing to read")
	}
	if r.on.taken(syscall.SIGTERM) {
		t.Error("SIGTERM taken")
	}
	r.stop()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

// TestDaemonNeedsSignals: a mistake that every run would show.
func TestDaemonNeedsSignals(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	d := Daemon[string]{Read: func() (string, error) { return "", nil }, Run: run, Out: new(bytes.Buffer)}
	_ = d.Keep(t.Context()) // never returns
}
