package gate

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

type gate struct {
	inside sync.RWMutex // read-held by everybody between Enter and Leave
	closed atomic.Bool
	wakeFD int // an eventfd that becomes readable, for ever, when the gate closes
}

func newGate() (*Gate, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &Gate{gate{wakeFD: fd}}, nil
}

func (g *gate) enter() bool {
	if g.closed.Load() {
		return false
	}
	g.inside.RLock()
	if g.closed.Load() { // closed while we waited for the lock
		g.inside.RUnlock()
		return false
	}
	return true
}

func (g *gate) leave() { g.inside.RUnlock() }

func (g *gate) wait(fd int, write bool, milliseconds int) (ready bool, err error) {
	fds := [2]unix.PollFd{
		{Fd: int32(fd), Events: unix.POLLIN},
		{Fd: int32(g.wakeFD), Events: unix.POLLIN},
	}
	if write {
		fds[0].Events = unix.POLLOUT
	}
	for {
		n, err := unix.Poll(fds[:], milliseconds)
		switch {
		case g.closed.Load():
			return false, os.ErrClosed
		case err == unix.EINTR:
		case err != nil:
			return false, fmt.Errorf("poll: %w", err)
		default:
			return n > 0, nil
		}
	}
}

func (g *gate) close(release func() error) error {
	if g.closed.Swap(true) {
		return nil
	}
	one := [8]byte{0: 1, 7: 1} // nonzero in either byte order
	_, _ = unix.Write(g.wakeFD, one[:])
	g.inside.Lock()
	defer g.inside.Unlock()
	err := release()
	unix.Close(g.wakeFD)
	return err
}
