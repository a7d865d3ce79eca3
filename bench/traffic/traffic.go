// Package traffic makes and counts the traffic of the benchmark, the demo and
// the tests that need a lot of it: TCP streams, UDP at a rate (as RFC 2544,
// Section 26.1, wants it searched), echo requests (RFC 4443, Section 4; RFC 792)
// and a transfer whose content is compared.
//
// Each kind is a function over ordinary sockets. Runner does the same by child
// processes in network namespaces, so that the generator shares nothing with
// the process that measures. Every wait has an end.
package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// slack is how long a connection or a last packet may take beyond the time that
// a run was given.
const slack = 5 * time.Second

// ended reports an error by which the other end, or a deadline, ended a stream.
func ended(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// opErr is nil in, nil out; the cause of a context's end replaces what the
// sockets closed by it said.
func opErr(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("%s: %w", op, err)
}
