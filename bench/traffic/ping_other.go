//go:build !linux

package traffic

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

func sendPing(context.Context, netip.Addr, Ping) ([]time.Duration, error) {
	return nil, errors.ErrUnsupported
}
