//go:build !linux

package traffic

import (
	"context"
	"errors"
	"net"
)

func sinkUDP(context.Context, *net.UDPConn, <-chan struct{}) (UDPReceived, error) {
	return UDPReceived{}, errors.ErrUnsupported
}

func sourceUDP(context.Context, *net.UDPConn, UDP) (UDPSent, error) {
	return UDPSent{}, errors.ErrUnsupported
}
