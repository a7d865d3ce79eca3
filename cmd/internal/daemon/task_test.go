package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
)

// untilStopped is a task that is ready at once and runs until it is stopped.
func untilStopped(stopped *bool) Task {
	return newTask("patient", func(ctx context.Context, ready func()) error {
		ready()
		<-ctx.Done()
		*stopped = true
		return nil
	})
}

func TestServeCancelIsSuccess(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var a, b, ready bool
	err := serve(ctx, []Task{untilStopped(&a), untilStopped(&b)}, func() error {
		ready = true
		cancel()
		return nil
	})
	if err != nil || !ready || !a || !b {
		t.Errorf("serve: %v, ready %v, stopped %v %v; want nil and all true", err, ready, a, b)
	}
}

func TestServeFirstErrorStopsTheOthers(t *testing.T) {
	var stopped bool
	failing := newTask("hasty", func(context.Context, func()) error { return io.ErrUnexpectedEOF })
	err := serve(context.Background(), []Task{untilStopped(&stopped), failing}, func() error {
		t.Error("ready was called although a task never was")
		return nil
	})
	if !errors.Is(err, io.ErrUnexpectedEOF) || err.Error() != "hasty: unexpected EOF" || !stopped {
		t.Errorf("serve: %v, other stopped %v; want hasty: unexpected EOF, true", err, stopped)
	}
}

// TestServeClosed: who finds closed what another has closed, before that has returned,
// does not hide why; without another it is the reason.
func TestServeClosed(t *testing.T) {
	closed := fmt.Errorf("receive: %w", &net.OpError{Op: "read", Err: net.ErrClosed})
	finds := newTask("finder", func(context.Context, func()) error { return closed })
	closes := newTask("closer", func(ctx context.Context, _ func()) error {
		<-ctx.Done()
		return io.ErrUnexpectedEOF
	})
	var stopped bool
	for _, tt := range []struct {
		name string
		with Task
		want string
	}{
		{"another reason", closes, "closer: unexpected EOF"},
		{"none", untilStopped(&stopped), "finder: " + closed.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := serve(t.Context(), []Task{finds, tt.with}, func() error { return nil })
			if err == nil || err.Error() != tt.want {
				t.Errorf("serve: %v, want %s", err, tt.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := serve(ctx, []Task{closes}, func() error { return nil }); err != nil {
		t.Errorf("after the end: %v, want nil", err)
	}
}

func TestServeReadyFails(t *testing.T) {
	var stopped bool
	err := serve(context.Background(), []Task{untilStopped(&stopped)}, func() error { return io.ErrClosedPipe })
	if err != io.ErrClosedPipe || !stopped {
		t.Errorf("serve: %v, stopped %v; want %v, true", err, stopped, io.ErrClosedPipe)
	}
}
