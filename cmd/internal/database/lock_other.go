//go:build !unix

package database

import "errors"

func lock(string) (func() error, error) { return nil, errors.ErrUnsupported }
