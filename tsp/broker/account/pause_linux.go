package account

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// alarm is a timer of the kernel. Who waits for it costs no thread.
type alarm struct{ file *os.File }

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	return &alarm{os.NewFile(uintptr(fd), "timerfd")}, nil
}

// wait waits for d or until ctx ends. Unless it returns true, the alarm is of no use any
// more.
func (a *alarm) wait(ctx context.Context, d time.Duration) (again bool) {
	if a.set(d) != nil {
		sleep(ctx, d)
		return false
	}
	stop := context.AfterFunc(ctx, a.close)
	var expirations [8]byte
	_, err := a.file.Read(expirations[:])
	return stop() && err == nil
}

// set has the alarm go off once, after d.
func (a *alarm) set(d time.Duration) error {
	raw, err := a.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.TimerfdSettime(int(fd), 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil)
	})
	if err != nil {
		return err
	}
	return failed
}

// close ends a wait, too. It is idempotent.
func (a *alarm) close() { _ = a.file.Close() } // nothing was written
