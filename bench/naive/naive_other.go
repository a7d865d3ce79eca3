//go:build !linux

package naive

import (
	"context"
	"errors"
)

func run(context.Context, Config) error { return errors.ErrUnsupported }
