//go:build !linux

package daemon

import "net"

func forceQueue(*net.UDPConn, int) bool { return false }
