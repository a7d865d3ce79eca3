//go:build !linux

package gate

import (
	"errors"
	"fmt"
)

type gate struct{}

func newGate() (*Gate, error)                   { return nil, fmt.Errorf("gate: %w", errors.ErrUnsupported) }
func (*gate) enter() bool                       { return false }
func (*gate) leave()                            {}
func (*gate) wait(int, bool, int) (bool, error) { return false, errors.ErrUnsupported }
func (*gate) close(r func() error) error        { return r() }
