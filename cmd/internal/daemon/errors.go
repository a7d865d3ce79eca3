package daemon

import (
	"errors"
	"syscall"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/exit"
)

// The packages below say in words what is missing; here an error gets its exit
// status, and a value of the configuration the blame where it is one's fault.

// wireError is for errors of the raw socket.
func wireError(cfg config.Config, err error) error {
	if errors.Is(err, syscall.EADDRNOTAVAIL) && cfg.Local.IsValid() {
		return cfg.Invalid(config.Local, "no interface of this host has this address (auto finds the right one)")
	}
	return hostError(err)
}

// tunError is for errors of the TUN device.
func tunError(cfg config.Config, err error) error {
	if isNameTaken(err) && cfg.Name != "" {
		return cfg.Invalid(config.Name, nameTaken)
	}
	return hostError(err)
}

func isNameTaken(err error) bool {
	return errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EEXIST)
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
