package ifcfg

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// mountOwnCgroup opens the cgroup of this process in a cgroup2 file system that is
// mounted nowhere, so that nobody else sees it, and that goes when the directory is
// closed. It is for where /sys/fs/cgroup is not the machine's (ip netns exec).
//
// The file system shows what is below the root of the cgroup namespace that mounts
// it, and whoever mounts it in the first namespace sets its options for the whole
// machine (nsdelegate, memory_recursiveprot). So a thread does it in a new
// namespace: that can set nothing, and its root is the cgroup that is looked for.
func mountOwnCgroup(name string) (c *cgroup, err error) {
	onPassingThread(func() {
		if err = unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
			err = fmt.Errorf("make cgroup namespace: %w", err)
			return
		}
		c, err = mountCgroupRoot(name)
	})
	return c, err
}

// mountCgroupRoot opens the root of the calling thread's cgroup namespace.
func mountCgroupRoot(name string) (*cgroup, error) {
	fail := func(err error) (*cgroup, error) { return nil, fmt.Errorf("mount cgroup2: %w", err) }
	system, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = unix.Close(system) }() // what it has made stays as long as the mount
	if err := unix.FsconfigCreate(system); err != nil {
		return fail(err)
	}
	const attributes = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	mount, err := unix.Fsmount(system, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = unix.Close(mount) }() // the directory stays open without it
	return openCgroup(mount, ".", name)
}

// onPassingThread runs fn on a thread that ends with it, whatever namespace fn has
// moved it to. It is never the first thread, which the runtime cannot end.
func onPassingThread(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			fn()
			return // still locked
		}
		onPassingThread(fn) // on another, since the first is taken meanwhile
		runtime.UnlockOSThread()
	}()
	<-done
}
