//go:build !linux

package wire

import (
	"errors"
	"fmt"
)

type icmp struct{}

func (*icmp) listen(ICMPConfig) error {
	return fmt.Errorf("listen for ICMPv4: %w", errors.ErrUnsupported)
}
func (*icmp) read([]byte) (int, error) { return 0, errors.ErrUnsupported }
func (*icmp) close() error             { return nil }
