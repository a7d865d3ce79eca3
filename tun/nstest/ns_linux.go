package nstest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const ownNamespace = "/proc/thread-self/ns/net"

func newNS() (*NS, error) {
	ns := &NS{fd: -1}
	err := onThread(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() (err error) {
		if ns.fd, err = openNamespace(); err != nil {
			return err
		}
		return setUpNamespace()
	})
	if err != nil {
		if ns.fd >= 0 {
			_ = ns.Close() // the first error says more
		}
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	return ns, nil
}

func openNamespace() (int, error) {
	fd, err := unix.Open(ownNamespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: ownNamespace, Err: err}
	}
	return fd, nil
}

// setUpNamespace brings the loopback of the calling thread's namespace up and
// turns duplicate address detection off for the links to come.
func setUpNamespace() error {
	for _, name := range []string{"accept_dad", "dad_transmits"} {
		err := writeSysctl("net/ipv6/conf/default/"+name, "0")
		// Without IPv6 there is nothing to wait for. A container's /proc/sys is
		// read-only: addresses given by AddAddr do without detection even so.
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EROFS) {
			return err
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

func (ns *NS) do(fn func() error) error { return onThread(ns.enter, fn) }

// enter moves the calling thread into the namespace.
func (ns *NS) enter() error {
	return ns.withFD(func(fd int) error {
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return nil
	})
}

// withFD calls fn with the namespace's descriptor, which stays open meanwhile.
func (ns *NS) withFD(fn func(fd int) error) error {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	if ns.closed {
		return fmt.Errorf("network namespace: %w", os.ErrClosed)
	}
	return fn(ns.fd)
}

func (ns *NS) close() error {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if ns.closed {
		return nil
	}
	ns.closed = true
	if err := unix.Close(ns.fd); err != nil {
		return fmt.Errorf("close network namespace: %w", err)
	}
	return nil
}

// onThread runs enter, which may change the thread's network namespace, and
// then fn on a locked thread, and puts the thread back. A thread that cannot be
// put back is not given to another goroutine: it ends with this one.
func onThread(enter, fn func() error) error {
	var err error
	returned := false
	wait := make(chan struct{})
	go offMainThread(func() {
		defer close(wait)
		var restore func()
		if restore, err = savedThread(); err == nil {
			defer restore()
			if err = enter(); err == nil {
				err = fn()
			}
		}
		returned = true
	})
	<-wait
	if !returned {
		runtime.Goexit() // fn ended its goroutine: it meant to end its caller
	}
	return err
}

// savedThread locks the calling goroutine to its thread and returns what puts
// the thread back into its network namespace and unlocks it.
func savedThread() (restore func(), err error) {
	runtime.LockOSThread()
	home, err := openNamespace()
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	return func() {
		defer func() { _ = unix.Close(home) }() // read-only: nothing can be lost
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}, nil
}

// offMainThread runs f on any thread but the first: what the first thread is
// in, /proc/self shows as the whole process's, and the runtime cannot end it.
func offMainThread(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return
	}
	done := make(chan struct{})
	go func() { // the first thread is ours until done, so this is another
		defer close(done)
		f()
	}()
	<-done
}

func (ns *NS) start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil || cmd.SysProcAttr.Pdeathsig == 0 {
		return ns.Do(cmd.Start)
	}
	started := make(chan error, 1)
	go func() {
		err := ns.Do(func() error {
			err := cmd.Start()
			started <- err
			if err == nil {
				awaitExit(cmd.Process)
			}
			return nil
		})
		if err != nil {
			started <- err // Do did not come as far as fn
		}
	}()
	return <-started
}

// awaitExit returns when p has ended, and leaves it to be waited for.
func awaitExit(p *os.Process) {
	wait := func(idType, id int) {
		for unix.Waitid(idType, id, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		}
	}
	err := p.WithHandle(func(handle uintptr) { wait(unix.P_PIDFD, int(handle)) })
	if errors.Is(err, os.ErrNoHandle) { // Linux before 5.4
		wait(unix.P_PID, p.Pid)
	}
}

func (ns *NS) sysctl(path, value string) error {
	return ns.Do(func() error { return writeSysctl(path, value) })
}

// writeSysctl opens without O_CREATE, so that a wrong name is ErrNotExist.
func writeSysctl(path, value string) error {
	file, err := os.OpenFile(filepath.Join("/proc/sys", path), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("set sysctl: %w", err)
	}
	_, err = file.WriteString(value)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("set sysctl to %s: %w", value, err)
	}
	return nil
}
