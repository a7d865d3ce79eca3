package daemon

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/exit"
	"sixin4/cmd/internal/state"
)

// serving is a configuration of a broker from pairs of key and text.
func serving(t *testing.T, pairs ...string) config.Broker {
	t.Helper()
	raw := make(config.Raw)
	raw.Set(config.Prefix, "2001:db8:1000::/36")
	for i := 0; i < len(pairs); i += 2 {
		raw.Set(config.Key(pairs[i]), pairs[i+1])
	}
	cfg, err := config.CheckBroker(raw)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestExitStatusOfErrors(t *testing.T) {
	named := staticSettings(checked(t, "remote", "198.51.100.1", "name", "six0", "local", "192.0.2.9"))
	plain := staticSettings(checked(t, "remote", "198.51.100.1"))
	served, usual := brokerSettings(serving(t, "name", "lo")), brokerSettings(serving(t))
	wrap := func(err error) error { return fmt.Errorf("op: %w", err) }
	tests := []struct {
		name string
		err  error
		code int
		want string
	}{
		{"raw socket without capability", wireError(plain, wrap(syscall.EPERM)), exit.Permission, "op: operation not permitted"},
		{"raw socket, address of nobody", wireError(named, wrap(syscall.EADDRNOTAVAIL)), exit.Usage,
			"--local 192.0.2.9: no interface of this host has this address (auto finds the right one)"},
		{"raw socket, automatic address gone", wireError(plain, wrap(syscall.EADDRNOTAVAIL)), exit.Failure,
			"op: cannot assign requested address"},
		{"no TUN device", tunError(plain, wrap(syscall.ENOENT)), exit.Unavailable, "op: no such file or directory"},
		{"no TUN driver", tunError(plain, wrap(syscall.ENODEV)), exit.Unavailable, "op: no such device"},
		{"TUN device not for us", tunError(plain, wrap(syscall.EACCES)), exit.Permission, "op: permission denied"},
		{"name taken meanwhile", tunError(named, wrap(syscall.EBUSY)), exit.Usage,
			"--name six0: an interface of this name exists; choose another, or none for the first free of sixin4-0, sixin4-1, ..."},
		{"name of a broker taken", tunError(served, wrap(syscall.EBUSY)), exit.Usage, "--name lo: an interface of this name exists; choose another"},
		{"usual name of a broker taken", usual.nameTaken(), exit.Usage, "--name tspd0: an interface of this name exists; choose another"},
		{"not this system", tunError(plain, wrap(errors.ErrUnsupported)), exit.Unavailable, "op: unsupported operation"},
		{"IPv6 disabled", interfaceError(wrap(syscall.EACCES)), exit.Unavailable, "op: permission denied"},
		{"read-only /proc/sys", interfaceError(wrap(syscall.EROFS)), exit.Unavailable, "op: read-only file system"},
		{"no right to addresses", interfaceError(wrap(syscall.EPERM)), exit.Permission, "op: operation not permitted"},
		{"control socket not for us", socketError(wrap(syscall.EACCES)), exit.Permission, "op: permission denied"},
		{"no directory for the control socket", socketError(wrap(syscall.ENOENT)), exit.Failure, "op: no such file or directory"},
		{"no place for the state file", stateError(wrap(syscall.EROFS)), exit.Failure,
			"op: read-only file system (--socket PATH puts it elsewhere, with the control socket)"},
		{"state file not for us", stateError(wrap(syscall.EACCES)), exit.Permission,
			"op: permission denied (--socket PATH puts it elsewhere, with the control socket)"},
		{"state file of another", stateError(wrap(state.ErrInUse)), exit.Failure, "op: another process uses it"},
		{"anything else", interfaceError(wrap(io.ErrUnexpectedEOF)), exit.Failure, "op: unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.err.Error() != tt.want || exit.Code(tt.err) != tt.code {
				t.Errorf("got %d, %s\nwant %d, %s", exit.Code(tt.err), tt.err, tt.code, tt.want)
			}
		})
	}
}
