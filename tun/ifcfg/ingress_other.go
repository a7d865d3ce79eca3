//go:build !linux

package ifcfg

import "errors"

func ingress(int, []uint32) ([]string, error) { return nil, errors.ErrUnsupported }
