package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
)

// Task is a part of the daemon that runs until it is told to stop.
type Task interface {
	// Run runs the task until ctx ends, and returns nil then.
	Run(ctx context.Context) error
	// Ready is closed once the task does its work.
	Ready() <-chan struct{}
	// String names the task in errors.
	String() string
}

// serve runs all tasks, calls ready once every one of them is, and returns when
// all have returned. The first that fails stops the others, and its error is the
// result; a task that returns early without one stops nothing.
func serve(ctx context.Context, tasks []Task, ready func() error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wg     sync.WaitGroup
		failed atomic.Pointer[error] // the first that is of no closing
	)
	for _, t := range tasks {
		wg.Go(func() {
			err := t.Run(ctx)
			if err == nil {
				return
			}
			err = fmt.Errorf("%s: %w", t, err)
			if !isClosed(err) {
				failed.CompareAndSwap(nil, &err)
			}
			cancel(err)
		})
	}
	if allReady(ctx, tasks) {
		if err := ready(); err != nil {
			cancel(err)
		}
	}
	wg.Wait()
	err := context.Cause(ctx)
	if err == ctx.Err() {
		return nil
	}
	if why := failed.Load(); why != nil && isClosed(err) {
		return *why
	}
	return err
}

// isClosed reports whether err is about something that was used after its end.
func isClosed(err error) bool { return errors.Is(err, os.ErrClosed) || errors.Is(err, net.ErrClosed) }

// allReady waits for all tasks and reports false when ctx ended first.
func allReady(ctx context.Context, tasks []Task) bool {
	for _, t := range tasks {
		select {
		case <-t.Ready():
		case <-ctx.Done():
			return false
		}
	}
	return ctx.Err() == nil
}

// task is a Task made of a function, which closes ready itself.
type task struct {
	name  string
	run   func(ctx context.Context, ready func()) error
	ready chan struct{}
}

func newTask(name string, run func(ctx context.Context, ready func()) error) *task {
	return &task{name: name, run: run, ready: make(chan struct{})}
}

func (t *task) Run(ctx context.Context) error {
	return t.run(ctx, sync.OnceFunc(func() { close(t.ready) }))
}

func (t *task) Ready() <-chan struct{} { return t.ready }

func (t *task) String() string { return t.name }
