//go:build !unix

package hook

import (
	"errors"
	"syscall"
)

func ownGroup() (*syscall.SysProcAttr, error) { return nil, errors.ErrUnsupported }
func signalGroup(int, syscall.Signal)         {}
func groupExists(int) bool                    { return false }
