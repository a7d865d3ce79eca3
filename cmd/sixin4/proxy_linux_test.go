package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sixin4/cmd/internal/exit"
	"sixin4/tun/nstest"
)

// TestProxyCommandLine is what a person can get wrong.
func TestProxyCommandLine(t *testing.T) {
	for _, tt := range []struct {
		args, want string
		code       int
	}{
		{"proxy", "no broker", exit.Usage},
		{"proxy curl", `unexpected "curl": a command stands behind --`, exit.Usage},
		{"proxy --server 192.0.2.1 --socks5 1080", "--socks5 1080: not an address and port", exit.Usage},
		{"proxy --server 192.0.2.1 --socks5 off --http off", "nothing to do", exit.Usage},
		{"proxy --server 192.0.2.1 --publish 80", "--publish 80: not [::]:PORT=ADDRESS:PORT", exit.Usage},
		{"proxy --server 192.0.2.1 --proxy-user me", "there is no password", exit.Usage},
		{"proxy --mode v6v4", "unknown flag --mode", exit.Usage},
	} {
		code, _, stderr := sixin4(strings.Fields(tt.args)...)
		if code != tt.code || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: %d, %s", tt.args, code, stderr)
		}
	}
}

// TestProxyCommandNotBegun: a signal that comes before the command undoes everything, and
// the status is not that of a command that went well.
func TestProxyCommandNotBegun(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "p.sock")
	p := prepare(t, "main", "proxy", "--server", "127.0.0.1:9", "--socket", socket, "-v", "--", "true")
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.await(p.stderr, "will try again")
	if _, err := os.Lstat(socket); err != nil {
		t.Error(err)
	}
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != 128+int(syscall.SIGTERM) {
		t.Errorf("exit status %d, want that of a command ended by the signal", code)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func init() { roles["bare"] = bare }

// bare lets go of all that a container without anything has not, and becomes sixin4. It
// has a mount namespace of its own.
func bare() error {
	runtime.LockOSThread()
	for _, step := range []func() error{
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return unix.Mount("none", "/dev", "tmpfs", unix.MS_RDONLY, "") },
		func() error { return unix.Mount("/", "/", "", unix.MS_BIND|unix.MS_REC, "") },
		func() error { return unix.Chroot("/") },
		func() error { return unix.Mount("", "/", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "") },
		func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) },
		func() error { return syscall.Setgroups(nil) },
		func() error { return syscall.Setresgid(65532, 65532, 65532) },
		func() error { return syscall.Setresuid(65532, 65532, 65532) },
		becomeMain,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// TestProxyBare runs the proxy as user 65532 without any capability, on a read-only
// root without /dev/net/tun, as the container of dist/Containerfile. Nobody answers at
// the broker's address, so that it is seen to get as far as that.
func TestProxyBare(t *testing.T) {
	nstest.Need(t)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "bare") // where user 65532 can read it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program := filepath.Join(dir, "sixin4")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(program, self, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "proxy", "--server", "127.0.0.1:9", "--socks5", "127.0.0.1:0", "-v")
	cmd.Dir, cmd.Env = "/", []string{roleVariable + "=bare"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	tried := false
	for lines := bufio.NewScanner(stderr); !tried && lines.Scan(); {
		t.Log(lines.Text())
		tried = strings.Contains(lines.Text(), "will try again")
	}
	if !tried {
		t.Fatal("it has not got as far as the broker")
	}
	checkBare(t, cmd.Process.Pid)
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_, _ = io.Copy(io.Discard, stderr)
	if err := cmd.Wait(); err != nil {
		t.Errorf("stopped by a signal: %v", err)
	}
}

// checkBare makes sure that the process has no capability, no device and nothing to write
// to.
func checkBare(t *testing.T, pid int) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3, Pid: int32(pid)}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	if data[0].Effective|data[1].Effective|data[0].Permitted|data[1].Permitted != 0 {
		t.Errorf("capabilities %+v", data)
	}
	root := fmt.Sprintf("/proc/%d/root", pid)
	if _, err := os.Stat(root + "/dev/net/tun"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("/dev/net/tun: %v", err)
	}
	if err := unix.Access(root, unix.W_OK); err != unix.EROFS {
		t.Errorf("the root can be written to: %v", err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil || !strings.Contains(string(status), "Uid:\t65532\t65532\t65532\t65532\n") {
		t.Errorf("%s, %v", status, err)
	}
}
