//go:build !linux

package wireguard

import (
	"context"
	"errors"
)

func run(context.Context, Config, string) error { return errors.ErrUnsupported }
