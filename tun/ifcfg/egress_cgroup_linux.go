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
	dir, err := ownCgroup()
	if dir == "" || err != nil {
		return nil, err
	}
	return d.programsOf(dir)
}

func (d direction) programsOf(dir string) (seen []string, err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open cgroup %s: %w", dir, err)
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	for _, kind := range []struct {
		number uint32
		name   string
	}{{d.program, d.programs}, {bpfInetSocketMaker, "socket"}} {
		count, err := countPrograms(fd, kind.number)
		if err != nil {
			return nil, fmt.Errorf("ask for BPF programs of cgroup %s: %w", dir, err)
		}
		if count > 0 {
			seen = append(seen, fmt.Sprintf("BPF %s programs of cgroup %s (%d)", kind.name, dir, count))
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

// ownCgroup is found once: a socket stays in the cgroup that it was made in, even
// when the process is moved to another.
var ownCgroup = sync.OnceValues(func() (string, error) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("find cgroup: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("find cgroup: %w", err)
	}
	return cgroupDir(string(groups), string(mounts))
})

// cgroupDir returns the directory of a process's cgroup, from its files cgroup
// and mountinfo in /proc. It is empty when the machine has never had the cgroup2
// file system: BPF programs hang on no other.
func cgroupDir(groups, mounts string) (string, error) {
	group, ok := "", false
	for line := range strings.Lines(groups) {
		if g, found := strings.CutPrefix(line, "0::"); found {
			group, ok = strings.TrimSuffix(g, "\n"), true
		}
	}
	if !ok {
		return "", nil
	}
	for line := range strings.Lines(mounts) {
		root, point := cgroup2Mount(line)
		if below, found := under(group, root); point != "" && found {
			return path.Join(point, below), nil
		}
	}
	return "", fmt.Errorf("find cgroup %s: %w", group, errCgroupHidden)
}

var errCgroupHidden = errors.New("no mounted cgroup2 file system shows it")

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
