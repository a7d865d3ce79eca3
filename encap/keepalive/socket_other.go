//go:build !linux

package keepalive

import (
	"errors"
	"fmt"
)

func openSocket(Config, int) (conn, error) {
	return nil, fmt.Errorf("open ICMPv6 socket: %w", errors.ErrUnsupported)
}

func openMany(AskerConfig, int) (manyConn, error) {
	return nil, fmt.Errorf("open ICMPv6 socket: %w", errors.ErrUnsupported)
}
