//go:build !linux

package child

import (
	"errors"
	"syscall"
)

func dieWithParent() *syscall.SysProcAttr { return nil }
func usage(int) (Usage, error)            { return Usage{}, errors.ErrUnsupported }
