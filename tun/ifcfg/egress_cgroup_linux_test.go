package ifcfg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sixin4/tun/nstest"
)

// newCgroups makes a cgroup below that of this process, and one in it.
func newCgroups(t *testing.T) (parent, child string) {
	t.Helper()
	nstest.Need(t)
	own, err := mountOwnCgroup("own")
	if errors.Is(err, unix.EPERM) {
		t.Skipf("needs the machine's own root: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(own.fd) })
	if _, err := countPrograms(own.fd, bpfInetEgress); errors.Is(err, unix.EPERM) {
		t.Skipf("needs the machine's own root: ask for BPF programs: %v", err)
	}
	parent = filepath.Join(fmt.Sprintf("/proc/self/fd/%d", own.fd), fmt.Sprintf("sixin4-%d-%s", os.Getpid(), t.Name()))
	child = filepath.Join(parent, "child")
	for _, dir := range []string{parent, child} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		})
	}
	return parent, child
}

func opened(t *testing.T, dir string) *cgroup {
	t.Helper()
	c, err := openCgroup(unix.AT_FDCWD, dir, "six")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(c.fd) })
	return c
}

// TestCgroupPrograms attaches a program to a cgroup, and finds it in the cgroup
// below.
func TestCgroupPrograms(t *testing.T) {
	parent, child := newCgroups(t)
	c := opened(t, child)
	for _, d := range []direction{outward, inwardAt("a0")} {
		if seen, err := d.programsOf(c); len(seen) != 0 || err != nil {
			t.Errorf("%s, before: %q, %v", d.name, seen, err)
		}
		attach(t, parent, d.program)
		if seen, err := d.programsOf(c); len(seen) != 1 || seen[0] != "BPF "+d.programs+" programs of cgroup six (1)" || err != nil {
			t.Errorf("%s, with a program: %q, %v", d.name, seen, err)
		}
	}
	if err := os.Remove(child); err != nil {
		t.Errorf("remove the cgroup while it is open: %v", err)
	}
	if seen, err := outward.programsOf(c); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the cgroup: %q, %v", seen, err)
	}
	if err := os.Mkdir(child, 0o755); err != nil { // the cleanup removes it
		t.Error(err)
	}
}

func TestOpenCgroup(t *testing.T) {
	if _, err := openCgroup(unix.AT_FDCWD, "/none", "six"); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "open cgroup six: ") {
		t.Errorf("no such directory: %v", err)
	}
	if c, err := openCgroup(unix.AT_FDCWD, "/proc", "six"); !errors.Is(err, errNoCgroup) {
		t.Errorf("another file system: %v, %v", c, err)
	}
}

// childRole is set in the environment of the processes that TestHiddenCgroup starts.
const childRole = "SIXIN4_IFCFG_CHILD"

// TestHiddenCgroup: a process whose cgroup no mount shows finds it nevertheless, and
// what hangs on the one above.
func TestHiddenCgroup(t *testing.T) {
	parent, child := newCgroups(t)
	attach(t, parent, bpfInetEgress)
	c := opened(t, child)
	for _, tt := range []struct{ role, want string }{
		{"not mounted", "[BPF egress programs of cgroup NAME (1)] <nil>"},
		{"mounted over", "[BPF egress programs of cgroup NAME (1)] <nil>"},
		{"not permitted", "[] find cgroup NAME: no mounted cgroup2 file system shows it; and no other mount can be made: " +
			"make cgroup namespace: operation not permitted (give it CAP_SYS_ADMIN, or the host's /sys/fs/cgroup)"},
	} {
		t.Run(tt.role, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "/proc/self/exe")
			cmd.Env = append(os.Environ(), childRole+"="+tt.role)
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, UseCgroupFD: true, CgroupFD: c.fd}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("child: %v", err)
			}
			name, got, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
			if !strings.HasSuffix(name, "/child") || got != strings.ReplaceAll(tt.want, "NAME", name) {
				t.Errorf("in %q\ngot  %s\nwant %s", name, got, tt.want)
			}
		})
	}
}

// runChild is a process that cannot see the cgroup2 file system. It prints what its
// cgroup is, and what it finds of programs there.
func runChild(role string) int {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err == nil && role != "prepared" {
		err = hideCgroups(role == "mounted over")
	}
	if err == nil && role == "not permitted" {
		runtime.LockOSThread()
		if err = unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0); err == nil {
			err = unix.Exec("/proc/self/exe", os.Args, []string{childRole + "=prepared"})
		}
	}
	if err != nil {
		fmt.Println("child:", err)
		return 1
	}
	name, _ := cgroupPath(string(groups))
	fmt.Println(name)
	fmt.Println(programsFound())
	return 0
}

// programsFound asks from the first thread of a process that has just begun, which
// has to stay where it is.
func programsFound() (seen []string, err error) {
	before, err := os.Readlink("/proc/self/ns/cgroup")
	if err != nil {
		return nil, err
	}
	if unix.Gettid() != unix.Getpid() {
		return nil, errors.New("not on the first thread")
	}
	c, err := findCgroup()
	if err != nil {
		return nil, err
	}
	if after, err := os.Readlink("/proc/self/ns/cgroup"); after != before {
		return nil, fmt.Errorf("the first thread was in %s, now %s, %w", before, after, err)
	}
	return outward.programsOf(c)
}

// hideCgroups does away with each mounted cgroup2 file system of the calling
// process's mount namespace, or covers it.
func hideCgroups(cover bool) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		_, point := cgroup2Mount(line)
		switch {
		case point == "":
		case cover:
			err = unix.Mount("none", point, "tmpfs", 0, "")
		default:
			err = unix.Unmount(point, unix.MNT_DETACH)
		}
		if err != nil {
			return fmt.Errorf("hide %s: %w", point, err)
		}
	}
	return nil
}

// TestMountOwnCgroup: the process stays in its cgroup namespace, and nothing is
// mounted that anybody could see.
func TestMountOwnCgroup(t *testing.T) {
	look := func() string {
		namespace, err := os.Readlink("/proc/self/ns/cgroup")
		if err != nil {
			t.Fatal(err)
		}
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return namespace + "\n" + string(mounts)
	}
	nstest.Need(t)
	before := look()
	c, err := mountOwnCgroup("own")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(c.fd)
	if after := look(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	processes, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/cgroup.procs", c.fd))
	if own := fmt.Sprintf("\n%d\n", os.Getpid()); err != nil || !strings.Contains("\n"+string(processes), own) {
		t.Errorf("processes of the cgroup: %q, %v; want%s", processes, err, own)
	}
}

// TestFoundCgroup: what is found is kept, and so is a refusal; a want of
// descriptors passes.
func TestFoundCgroup(t *testing.T) {
	answers := []error{unix.EMFILE, unix.ENOMEM, unix.ENFILE, unix.EPERM, nil}
	f := foundCgroup{find: func() (*cgroup, error) {
		err := answers[0]
		answers = answers[1:]
		return nil, fmt.Errorf("find: %w", err)
	}}
	for _, want := range []error{unix.EMFILE, unix.ENOMEM, unix.ENFILE, unix.EPERM, unix.EPERM} {
		if _, err := f.get(); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	calls := 0
	f = foundCgroup{find: func() (*cgroup, error) { calls++; return &cgroup{name: "x"}, nil }}
	for range 2 {
		if c, err := f.get(); err != nil || c.name != "x" || calls != 1 {
			t.Errorf("%v, %v after %d calls", c, err, calls)
		}
	}
}
