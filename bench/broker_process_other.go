//go:build !linux

package bench

import (
	"errors"
	"time"
)

func processOf(int) (processState, error) { return processState{}, errors.ErrUnsupported }

func cpuOf(int) (time.Duration, error) { return 0, errors.ErrUnsupported }

func yieldProcessors(int) error { return errors.ErrUnsupported }
