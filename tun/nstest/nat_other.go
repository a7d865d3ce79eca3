//go:build !linux

package nstest

import "errors"

func addNAT(NAT) error { return errors.ErrUnsupported }

func flushNAT() error { return errors.ErrUnsupported }

func dropForwarded(uint8) error { return errors.ErrUnsupported }
