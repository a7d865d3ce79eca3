//go:build !linux

package bench

import (
	"errors"
	"time"
)

func (e *echoSocket) open() error                           { return errors.ErrUnsupported }
func (e *echoSocket) close()                                {}
func (e *echoSocket) send([]byte) error                     { return errors.ErrUnsupported }
func (e *echoSocket) receive(time.Duration) ([]byte, error) { return nil, errors.ErrUnsupported }
