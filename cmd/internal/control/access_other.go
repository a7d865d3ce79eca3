//go:build !unix

package control

import "errors"

func access(string) error { return errors.ErrUnsupported }
