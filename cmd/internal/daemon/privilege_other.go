//go:build !linux

package daemon

import (
	"errors"
	"fmt"
	"runtime"

	"sixin4/cmd/internal/exit"
)

func checkPrivileges(bool) error {
	return exit.With(exit.Unavailable, fmt.Errorf("tunnels need Linux, this is %s: %w", runtime.GOOS, errors.ErrUnsupported))
}
