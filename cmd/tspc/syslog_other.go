//go:build !unix

package main

import (
	"errors"
	"fmt"
)

func dialSyslog(string) (system, error) { return nil, fmt.Errorf("syslog: %w", errors.ErrUnsupported) }
