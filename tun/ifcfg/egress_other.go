//go:build !linux

package ifcfg

import "errors"

func egress() ([]string, error) { return nil, errors.ErrUnsupported }
