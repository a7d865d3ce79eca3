package client

import "context"

// job is a goroutine with a result. A nil job is one that is never done.
type job[T any] struct {
	cancel context.CancelFunc
	done   chan T
}

func start[T any](ctx context.Context, f func(context.Context) T) *job[T] {
	ctx, cancel := context.WithCancel(ctx)
	j := &job[T]{cancel: cancel, done: make(chan T, 1)}
	go func() {
		defer cancel()
		j.done <- f(ctx)
	}()
	return j
}

// result gives the result once.
func (j *job[T]) result() <-chan T {
	if j == nil {
		return nil
	}
	return j.done
}

// stop ends a job whose result was not taken yet, and returns it.
func (j *job[T]) stop() (result T) {
	if j == nil {
		return result
	}
	j.cancel()
	return <-j.done
}
