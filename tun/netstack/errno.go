package netstack

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// closer knows whether something was closed from here, which the stack does not
// tell apart from other ends.
type closer struct{ closed atomic.Bool }

// once calls shut the first time.
func (c *closer) once(shut func() error) error {
	if c.closed.Swap(true) {
		return nil
	}
	return shut()
}

// why is err, or that the socket was closed.
func (c *closer) why(err error) error {
	if err == nil || !c.closed.Load() {
		return errno(err)
	}
	return netErrClosed
}

// numbers are the errors of a kernel by the texts of the stack's, which package
// gonet keeps nothing else of.
var numbers = map[string]syscall.Errno{
	(&tcpip.ErrConnectionRefused{}).String():    syscall.ECONNREFUSED,
	(&tcpip.ErrConnectionReset{}).String():      syscall.ECONNRESET,
	(&tcpip.ErrConnectionAborted{}).String():    syscall.ECONNABORTED,
	(&tcpip.ErrAborted{}).String():              syscall.ECONNABORTED,
	(&tcpip.ErrHostUnreachable{}).String():      syscall.EHOSTUNREACH,
	(&tcpip.ErrNetworkUnreachable{}).String():   syscall.ENETUNREACH,
	(&tcpip.ErrTimeout{}).String():              syscall.ETIMEDOUT,
	(&tcpip.ErrPortInUse{}).String():            syscall.EADDRINUSE,
	(&tcpip.ErrBadLocalAddress{}).String():      syscall.EADDRNOTAVAIL,
	(&tcpip.ErrMessageTooLong{}).String():       syscall.EMSGSIZE,
	(&tcpip.ErrNoBufferSpace{}).String():        syscall.ENOBUFS,
	(&tcpip.ErrClosedForSend{}).String():        syscall.EPIPE,
	(&tcpip.ErrDestinationRequired{}).String():  syscall.EDESTADDRREQ,
	(&tcpip.ErrInvalidEndpointState{}).String(): syscall.EINVAL,
	(&tcpip.ErrNoPortAvailable{}).String():      syscall.EAGAIN,
	(&tcpip.ErrNotPermitted{}).String():         syscall.EPERM,
	(&tcpip.ErrBroadcastDisabled{}).String():    syscall.EACCES,
}

// errno puts a kernel's error into a net.OpError where there is one.
func errno(err error) error {
	var op *net.OpError
	if !errors.As(err, &op) || op.Err == nil {
		return err
	}
	if n, ok := numbers[op.Err.Error()]; ok {
		op.Err = n
	}
	return err
}
