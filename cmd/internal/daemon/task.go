package daemon

import (
	"context"
	"fmt"
	"sync"
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
	var wg sync.WaitGroup
	for _, t := range tasks {
		wg.Go(func() {
			if err := t.Run(ctx); err != nil {
				cancel(fmt.Errorf("%s: %w", t, err))
			}
		})
	}
	if allReady(ctx, tasks) {
		if err := ready(); err != nil {
			cancel(err)
		}
	}
	wg.Wait()
	if err := context.Cause(ctx); err != ctx.Err() {
		return err
	}
	return nil
}

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
