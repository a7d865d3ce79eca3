// Package exit names the exit statuses of the programs and carries one with an
// error from the place that knows it to main. The numbers above 63 are those of
// sysexits.h.
package exit

import "errors"

// The exit statuses; each program documents when it uses which.
const (
	OK          = 0
	Failure     = 1
	NotRunning  = 3  // status: no tunnel is running
	Usage       = 64 // the command line is wrong
	Unavailable = 69 // a device or a kernel feature is missing here
	TryAgain    = 75 // the cause may go away by itself, as a route that is not there yet
	Permission  = 77
	Config      = 78 // the configuration file is wrong
)

// Error is an error that decides the exit status of the program.
type Error struct {
	Code int // one of the constants above, never OK
	Err  error
}

// With gives err the exit status code. It returns nil when err is nil.
func With(code int, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Code: code, Err: err}
}

// Error returns the text of the error that is carried.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error that is carried.
func (e *Error) Unwrap() error { return e.Err }

// Code returns the exit status for err: OK for nil, the status that the
// outermost Error in its chain carries, else Failure.
func Code(err error) int {
	if err == nil {
		return OK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Failure
}
