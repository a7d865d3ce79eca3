package state

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// openDir opens a directory in which nobody else can replace our files.
func openDir(dir string) (*os.Root, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err == nil {
		err = checkDir(ownerOf(info), os.Geteuid(), info.Mode())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("directory %s: %w", dir, err), root.Close())
	}
	return root, nil
}

// checkDir wants a directory of root or us, which only that user can write; or, like
// /tmp, one where the sticky bit keeps others from our files.
func checkDir(uid, me int, mode fs.FileMode) error {
	switch {
	case uid != 0 && uid != me:
		return fmt.Errorf("not trusted: it belongs to user %d", uid)
	case mode&0o022 != 0 && mode&fs.ModeSticky == 0:
		return fmt.Errorf("not trusted: mode %04o lets others replace files in it (chmod go-w)", mode.Perm())
	}
	return nil
}

// trust wants an ordinary file of ours that nobody else can write.
func trust(info fs.FileInfo) error { return checkFile(ownerOf(info), os.Geteuid(), info.Mode()) }

func checkFile(uid, me int, mode fs.FileMode) error {
	switch {
	case !mode.IsRegular():
		return errors.New("not trusted: it is not a regular file")
	case uid != me:
		return fmt.Errorf("not trusted: it belongs to user %d", uid)
	case mode&0o022 != 0:
		return fmt.Errorf("not trusted: mode %04o lets others write it (look into it, and delete it)", mode.Perm())
	}
	return nil
}

func ownerOf(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}

// lock is a file that is locked. Its holder deletes it in the end, so a lock counts
// only while the file has its name.
type lock struct {
	file *os.File
	root *os.Root
	name string
}

// acquire takes the lock, which is held until it is closed or the process ends.
func acquire(root *os.Root, name string) (io.Closer, error) {
	const mostTries = 100 // each is lost to another process that came and went
	for range mostTries {
		l, err := tryLock(root, name)
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, errReplaced) && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, ErrInUse
}

func tryLock(root *os.Root, name string) (_ *lock, err error) {
	file, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	l := &lock{file: file, root: root, name: name}
	if err := l.check(); err != nil {
		return nil, err
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, ErrInUse
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return l, l.check() // its last holder may have deleted it meanwhile
}

// check makes sure that the file that was opened is the one with the name, and ours.
func (l *lock) check() error {
	info, err := l.root.Lstat(l.name)
	if err == nil {
		err = trust(info)
	}
	if err == nil {
		err = sameFile(l.file, info)
	}
	return err
}

// Close deletes the file before it gives up the lock.
func (l *lock) Close() (err error) {
	if l.check() == nil {
		err = l.root.Remove(l.name)
	}
	return errors.Join(err, l.file.Close())
}

const bootIDPath = "/proc/sys/kernel/random/boot_id"

// self is this process, in the network namespace of the calling thread.
func self() (owner, error) {
	boot, err := os.ReadFile(bootIDPath)
	if err != nil {
		return owner{}, err
	}
	start, err := started(os.Getpid())
	return owner{PID: os.Getpid(), Start: start, Boot: strings.TrimSpace(string(boot)), Netns: netns()}, err
}

// netns is a number that the kernel gives to no other network namespace as long as it
// runs, unlike that of the file under /proc. Kernels before 5.14 have none.
func netns() uint64 {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0
	}
	return cookie
}

// started is when a process was started, in clock ticks since boot; 0 when there is
// none, or it is dead and only not waited for.
func started(pid int) (uint64, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return startTime(stat)
}

// startTime reads the 22nd field, and the 3rd, the state. The 2nd, the name in
// brackets, may hold spaces and brackets, so fields are counted from its end.
func startTime(stat []byte) (uint64, error) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("process %.64q: too few fields", stat)
	}
	if state := string(fields[0]); state == "Z" || state == "X" {
		return 0, nil
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}
