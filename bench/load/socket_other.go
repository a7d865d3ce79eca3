//go:build !linux

package load

import (
	"errors"
	"net/netip"
)

func openPackets(netip.Addr) (packets, error) { return nil, errors.ErrUnsupported }

func openDatagrams(netip.AddrPort) (datagrams, error) { return nil, errors.ErrUnsupported }
