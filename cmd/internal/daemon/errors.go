package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/exit"
	"sixin4/tsp"
	"sixin4/tsp/client"
)

// The packages below say in words what is missing; here an error gets its exit
// status, and a value of the configuration the blame where it is one's fault.

// wireError is for errors of the raw socket.
func wireError(set settings, err error) error {
	if errors.Is(err, syscall.EADDRNOTAVAIL) && set.local {
		return set.invalid(config.Local, "no interface of this host has this address (auto finds the right one)")
	}
	return hostError(err)
}

// tunError is for errors of the TUN device.
func tunError(set settings, err error) error {
	if isNameTaken(err) && set.Name != "" {
		return set.nameTaken()
	}
	return hostError(err)
}

func isNameTaken(err error) bool {
	return errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EEXIST)
}

// listenError is for the sockets of a broker.
func (b *brokerage) listenError(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL) && len(b.cfg.Listen) > 0:
		return b.cfg.Invalid(config.Listen, "no interface of this host has this address")
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: another broker runs here, or another program has that port (ss -lntup shows it)", err)
	}
	return hostError(err)
}

// interfaceError is for errors of the interface's configuration: EACCES and EROFS
// mean that IPv6 is off here and may not be turned on.
func interfaceError(err error) error {
	if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EROFS) {
		return exit.With(exit.Unavailable, err)
	}
	return hostError(err)
}

// socketError is for errors of the control socket.
func socketError(err error) error {
	if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) {
		return exit.With(exit.Permission, err)
	}
	return err
}

// stateError is for errors of the state file, which is beside the control socket.
func stateError(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EROFS) {
		err = fmt.Errorf("%w (--socket PATH puts it elsewhere, with the control socket)", err)
	}
	return socketError(err)
}

// hostError gives an error of the operating system its exit status.
func hostError(err error) error {
	switch {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return exit.With(exit.Permission, err)
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO),
		errors.Is(err, syscall.EAFNOSUPPORT), errors.Is(err, errors.ErrUnsupported):
		return exit.With(exit.Unavailable, err)
	}
	return err
}

// leaseError gives an error of the broker's client its exit status.
func leaseError(err error) error {
	var e *client.Error
	if !errors.As(err, &e) {
		return err
	}
	return exit.With(leaseCode(e), err)
}

func leaseCode(e *client.Error) int {
	var own *exit.Error
	if errors.As(e.Err, &own) { // of this host, from Path.Up
		return own.Code
	}
	var status *tsp.Error
	if errors.As(e.Err, &status) && (status.Code.Temporary() || status.Code == tsp.NoTunnels) {
		return exit.TryAgain
	}
	if status == nil && isUnheard(e.Err) {
		return exit.TryAgain
	}
	switch e.Stage {
	case client.Resolve, client.Connect, client.Keepalive, client.Expired:
		return exit.TryAgain
	case client.Authenticate:
		if e.Permanent() {
			return exit.Permission
		}
	case client.Hello, client.Offer, client.Create:
		if e.Permanent() {
			return exit.Unavailable
		}
	}
	return exit.Failure
}

// isUnheard reports whether the broker said nothing any more.
func isUnheard(err error) bool {
	return slices.ContainsFunc([]error{
		tsp.ErrNoAnswer, os.ErrDeadlineExceeded, context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF,
		syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.EPIPE,
	}, func(cause error) bool { return errors.Is(err, cause) })
}
