//go:build !linux

package nstest

import "errors"

func addChain(Chain) error { return errors.ErrUnsupported }
func delChain(Chain) error { return errors.ErrUnsupported }
