//go:build !linux

package keepalive

func openPadded(cfg Config, id int) (conn, error) { return openSocket(cfg, id) }
