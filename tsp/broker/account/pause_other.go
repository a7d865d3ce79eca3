//go:build !linux

package account

import (
	"context"
	"errors"
	"time"
)

// alarm is none here: pauses does without.
type alarm struct{}

func newAlarm() (*alarm, error) { return nil, errors.ErrUnsupported }

func (*alarm) wait(context.Context, time.Duration) bool { return false }
func (*alarm) close()                                   {}
