package ifcfg

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What linux/bpf.h calls BPF_PROG_QUERY, BPF_CGROUP_INET_INGRESS,
// BPF_CGROUP_INET_EGRESS and BPF_CGROUP_INET_SOCK_CREATE.
const (
	bpfProgQuery       = 16
	bpfInetIngress     = 0
	bpfInetEgress      = 1
	bpfInetSocketMaker = 2
)

// cgroupPrograms finds BPF programs that see what the sockets of this process
// send or receive, or change its sockets when they are made (ip vrf exec does, so
// that they take another route).
func (d direction) cgroupPrograms() ([]string, error) {
	own, err := ownCgroup.get()
	if own == nil || err != nil {
		return nil, err
	}
	return d.programsOf(own)
}

func (d direction) programsOf(c *cgroup) (seen []string, err error) {
	for _, kind := range []struct {
		number uint32
		name   string
	}{{d.program, d.programs}, {bpfInetSocketMaker, "socket"}} {
		count, err := countPrograms(c.fd, kind.number)
		if err != nil {
			return nil, fmt.Errorf("ask for BPF programs of cgroup %s: %w", c.name, err)
		}
		if count > 0 {
			seen = append(seen, fmt.Sprintf("BPF %s programs of cgroup %s (%d)", kind.name, c.name, count))
		}
	}
	return seen, nil
}

// countPrograms counts the programs that are in force in a cgroup, its parents'
// included. A kernel without them says EINVAL.
func countPrograms(cgroup int, kind uint32) (uint32, error) {
	query := struct {
		target, kind, flags, attached uint32
		ids                           uint64
		count, _                      uint32
	}{target: uint32(cgroup), kind: kind, flags: unix.BPF_F_QUERY_EFFECTIVE}
	if _, err := bpf(bpfProgQuery, unsafe.Pointer(&query), unsafe.Sizeof(query)); err != nil && !errors.Is(err, unix.EINVAL) {
		return 0, err
	}
	return query.count, nil
}

// cgroup is the opened directory of a cgroup. It keeps nobody from removing the
// cgroup.
type cgroup struct {
	name string // where it is mounted, or else its path in the cgroup namespace
	fd   int
}

// ownCgroup is found once, and stays open: a socket stays in the cgroup that it was
// made in, even when the process is moved to another.
var ownCgroup = foundCgroup{find: findCgroup}

type foundCgroup struct {
	find func() (*cgroup, error)

	mu    sync.Mutex
	done  bool
	group *cgroup
	err   error
}

// get looks again only after a want of memory or of descriptors: a mount that was
// refused stays so.
func (f *foundCgroup) get() (*cgroup, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.done {
		f.group, f.err = f.find()
		f.done = !errors.Is(f.err, unix.ENOMEM) && !errors.Is(f.err, unix.EMFILE) && !errors.Is(f.err, unix.ENFILE)
	}
	return f.group, f.err
}

// findCgroup opens the cgroup of this process where a mounted file system shows it,
// or else in one that is mounted for this only. It is nil when the machine has
// never had the cgroup2 file system: BPF programs hang on no other.
func findCgroup() (*cgroup, error) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find cgroup: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find cgroup: %w", err)
	}
	group, ok := cgroupPath(string(groups))
	if !ok {
		return nil, nil
	}
	hidden := errCgroupHidden
	for _, dir := range cgroupDirs(group, string(mounts)) {
		c, err := openCgroup(unix.AT_FDCWD, dir, dir)
		if err == nil {
			return c, nil
		}
		hidden = err
	}
	c, err := mountOwnCgroup(group)
	if err != nil {
		return nil, fmt.Errorf("find cgroup %s: %w; and no other mount can be made: %w "+
			"(give it CAP_SYS_ADMIN, or the host's /sys/fs/cgroup)", group, hidden, err)
	}
	return c, nil
}

var (
	errCgroupHidden = errors.New("no mounted cgroup2 file system shows it")
	errNoCgroup     = errors.New("another file system is mounted there")
)

// openCgroup refuses a directory that is no cgroup: another file system may be
// mounted over the one that mountinfo tells of.
func openCgroup(at int, dir, name string) (*cgroup, error) {
	fd, err := unix.Openat(at, dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open cgroup %s: %w", name, err)
	}
	var fs unix.Statfs_t
	if err = unix.Fstatfs(fd, &fs); err == nil && fs.Type != unix.CGROUP2_SUPER_MAGIC {
		err = errNoCgroup
	}
	if err != nil {
		_ = unix.Close(fd) // nothing was written
		return nil, fmt.Errorf("open cgroup %s: %w", name, err)
	}
	return &cgroup{name: name, fd: fd}, nil
}

// cgroupPath returns the path of a process's cgroup in the cgroup namespace, from
// its file cgroup in /proc. There is none when the machine has never had the
// cgroup2 file system.
func cgroupPath(groups string) (group string, ok bool) {
	for line := range strings.Lines(groups) {
		if g, found := strings.CutPrefix(line, "0::"); found {
			group, ok = strings.TrimSuffix(g, "\n"), true
		}
	}
	return group, ok
}

// cgroupDirs returns the directories that show a cgroup, from a file mountinfo in
// /proc.
func cgroupDirs(group, mounts string) (dirs []string) {
	for line := range strings.Lines(mounts) {
		root, point := cgroup2Mount(line)
		if below, found := under(group, root); point != "" && found {
			dirs = append(dirs, path.Join(point, below))
		}
	}
	return dirs
}

// cgroup2Mount returns what a line of mountinfo shows of the cgroup2 file system,
// and where, when it is one about that. (Names with spaces are escaped there, and
// so not found.)
func cgroup2Mount(line string) (root, point string) {
	mount, kind, _ := strings.Cut(line, " - ")
	fields := strings.Fields(mount)
	if !strings.HasPrefix(kind, "cgroup2 ") || len(fields) < 5 {
		return "", ""
	}
	return fields[3], fields[4]
}

// under returns the path of group below root. A group outside the process's
// cgroup namespace begins with /.. and is under none.
func under(group, root string) (below string, ok bool) {
	if strings.HasPrefix(group, "/..") {
		return "", false
	}
	if root == "/" {
		return group, true
	}
	below, ok = strings.CutPrefix(group, root)
	return below, ok && (below == "" || below[0] == '/')
}
