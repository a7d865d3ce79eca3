package ifcfg

import (
	"errors"
	"sync"
)

// Undo takes one change back. It is idempotent, and may be called again after it
// failed. What is gone already counts as taken back. It never touches what was
// there before the change.
type Undo func() error

// once makes an undo of f, which is not called again after it succeeded.
func once(f func() error) Undo {
	var mu sync.Mutex
	done := false
	return func() error {
		mu.Lock()
		defer mu.Unlock()
		if done {
			return nil
		}
		err := f()
		done = err == nil
		return err
	}
}

// nothing is the undo of what was so already.
func nothing() error { return nil }

// Stack collects undos and runs them last first. The zero Stack is empty and
// ready; it may be used by several goroutines.
type Stack struct {
	mu    sync.Mutex
	undos []Undo
}

// Push adds undo; nil is ignored.
func (s *Stack) Push(undo Undo) {
	if undo == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.undos = append(s.undos, undo)
}

// Keep pushes the undo of a change and hands its error through, so that a
// change is one line: err := stack.Keep(i.Up()).
func (s *Stack) Keep(undo Undo, err error) error {
	s.Push(undo)
	return err
}

// Undo takes everything back, last change first. All undos run, whatever fails;
// the errors are joined. Those that failed stay for another Undo, so it returns
// nil once nothing is left.
func (s *Stack) Undo() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	var left []Undo
	for n := len(s.undos) - 1; n >= 0; n-- {
		if err := s.undos[n](); err != nil {
			errs = append(errs, err)
			left = append([]Undo{s.undos[n]}, left...)
		}
	}
	s.undos = left
	return errors.Join(errs...)
}
