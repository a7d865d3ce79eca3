package nstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const tunPath = "/dev/net/tun"

var missing = sync.OnceValue(func() string {
	var lacks []string
	if tun, err := openTUN(); err != nil {
		lacks = append(lacks, err.Error())
	} else {
		_ = unix.Close(tun) // nothing was done with it
	}
	ns, err := New()
	if err != nil {
		return strings.Join(append(lacks, explainNamespace(err)), "; ")
	}
	defer func() { _ = ns.Close() }() // fails only for a bad descriptor
	for _, try := range []func(*NS) error{tryTUN, tryRaw, tryVeth} {
		if err := try(ns); err != nil {
			lacks = append(lacks, err.Error())
		}
	}
	return strings.Join(lacks, "; ")
})

// openTUN opens the TUN device file; its errors tell what to do.
func openTUN() (int, error) {
	fd, err := unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		return fd, nil
	}
	help := "modprobe tun"
	switch {
	case errors.Is(err, unix.ENOENT):
		help = "load it with modprobe tun; a container is run with --device /dev/net/tun"
	case errors.Is(err, unix.EACCES):
		help = "run as root, or chmod 0666 " + tunPath
	case errors.Is(err, unix.EPERM):
		help = "a container is run with --device /dev/net/tun"
	}
	return -1, fmt.Errorf("open %s: %w (%s)", tunPath, err, help)
}

func explainNamespace(err error) string {
	help := "run as root"
	switch {
	case errors.Is(err, unix.ENOSPC):
		help = "raise sysctl user.max_net_namespaces"
	case !errors.Is(err, unix.EPERM):
		return err.Error()
	case apparmorRestricts() && inUserNamespace():
		help = apparmorHelp
	case os.Geteuid() == 0:
		help = "CAP_SYS_ADMIN is missing: a container is run with --cap-add SYS_ADMIN --cap-add NET_ADMIN"
	}
	return fmt.Sprintf("%v (%s)", err, help)
}

// tryTUN makes a TUN device, which is gone when its file is closed.
func tryTUN(ns *NS) error {
	return ns.Do(func() error {
		fd, err := openTUN()
		if err != nil {
			return nil // missing has named it already
		}
		defer func() { _ = unix.Close(fd) }()
		request, err := unix.NewIfreq("probe%d")
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
			return fmt.Errorf("make TUN device: %w (needs CAP_NET_ADMIN)", err)
		}
		return nil
	})
}

func tryRaw(ns *NS) error {
	return ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_IPV6)
		if err != nil {
			return fmt.Errorf("open raw socket: %w (needs CAP_NET_RAW)", err)
		}
		return unix.Close(fd)
	})
}

func tryVeth(ns *NS) error {
	if err := Link(ns, "probe-a", ns, "probe-b"); err != nil {
		return fmt.Errorf("%w (needs CAP_NET_ADMIN and a kernel with veth: modprobe veth)", err)
	}
	return ns.DelLink("probe-a")
}

func reexecAsRoot(args []string) (int, error) {
	tun, err := openTUN() // a user namespace does not change who may open it
	if err != nil {
		return 0, err
	}
	_ = unix.Close(tun) // nothing was done with it
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("run in user namespace: %w", err)
	}
	cmd := exec.Command(self, args...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = asRoot()

	runtime.LockOSThread() // Pdeathsig is about the thread, so it must not end before
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("run in user namespace: %w (%s)", err, explainUserNamespace())
	}
	return waitForwarding(cmd, signals)
}

// arriveAsRoot prepares the namespaces that asRoot made for this process.
func arriveAsRoot() error {
	if !inUserNamespace() {
		return nil
	}
	if err := setUpNamespace(); err != nil {
		return fmt.Errorf("set up user namespace: %w", err)
	}
	return nil
}

// machineMissing says why the kernel refuses what it leaves to the machine's root.
func machineMissing() string {
	if inUserNamespace() {
		return "needs the machine's root, not that of a user namespace"
	}
	return ""
}

// asRoot makes a child process root of its own namespaces.
func asRoot() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   unix.SIGKILL,
	}
}

// waitForwarding hands signals to cmd until it has ended.
func waitForwarding(cmd *exec.Cmd, signals <-chan os.Signal) (exitCode int, err error) {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s) // fails only when it has ended
		case err := <-ended:
			return codeOf(err)
		}
	}
}

// codeOf turns what exec.Cmd.Wait returned into an exit code as a shell does.
func codeOf(err error) (int, error) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, err
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return exit.ExitCode(), nil
}

const apparmorHelp = "AppArmor restricts user namespaces: run as root, or sysctl kernel.apparmor_restrict_unprivileged_userns=0"

// explainUserNamespace says what keeps this user from making user namespaces.
func explainUserNamespace() string {
	switch {
	case sysctlIs("user/max_user_namespaces", "0"):
		return "user namespaces are turned off: run as root, or sysctl user.max_user_namespaces=10000"
	case sysctlIs("kernel/unprivileged_userns_clone", "0"):
		return "user namespaces are for root only: run as root, or sysctl kernel.unprivileged_userns_clone=1"
	case apparmorRestricts():
		return apparmorHelp
	}
	return "run as root; a container may forbid user namespaces by seccomp: run it with --security-opt seccomp=unconfined"
}

func apparmorRestricts() bool {
	return sysctlIs("kernel/apparmor_restrict_unprivileged_userns", "1")
}

func sysctlIs(path, value string) bool {
	b, err := os.ReadFile("/proc/sys/" + path)
	return err == nil && strings.TrimSpace(string(b)) == value
}

// inUserNamespace tells whether this process is in another user namespace than
// the first, the only one in which every number stands for itself.
func inUserNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(b)), " ") != "0 0 4294967295"
}
