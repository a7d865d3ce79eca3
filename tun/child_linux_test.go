package tun

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sixin4/tun/nstest"
)

// runChild is a process that lacks something, and tells what Open says to it.
func runChild(role string) int {
	runtime.LockOSThread()
	var err error
	switch role {
	case "no device":
		err = unix.Mount("none", "/dev/net", "tmpfs", 0, "")
	case "device not allowed":
		if err = unix.Mount("/dev/net", "/dev/net", "", unix.MS_BIND, ""); err == nil {
			err = unix.Mount("", "/dev/net", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_NODEV, "")
		}
	case "no capability":
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		none[0].Effective = 1 << unix.CAP_DAC_OVERRIDE
		none[0].Permitted = none[0].Effective
		err = unix.Capset(&header, &none[0])
	}
	if err != nil {
		fmt.Println("child:", err)
		return 1
	}
	_, err = Open(Config{Name: "child0"})
	fmt.Println(err)
	return 0
}

// TestOpenNamesWhatIsMissing: the message says what is missing and what gives it.
func TestOpenNamesWhatIsMissing(t *testing.T) {
	nstest.Need(t)
	for _, c := range []struct{ role, want string }{
		{"no device", "open /dev/net/tun: no such file or directory: the container has no TUN device (run it with --device /dev/net/tun)"},
		{"device not allowed", "open /dev/net/tun: permission denied: the TUN device may not be opened here (root is needed, or a container with --device /dev/net/tun)"},
		{"no capability", "make interface child0: operation not permitted: this needs the capability CAP_NET_ADMIN (run as root, or the container with --cap-add NET_ADMIN)"},
	} {
		t.Run(c.role, func(t *testing.T) {
			ns := nstest.Open(t)
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), childRole+"="+c.role)
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
			var out strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := ns.Start(cmd); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("child: %v", err)
			}
			if got := strings.TrimSpace(out.String()); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	t.Run("no driver", func(t *testing.T) {
		want := "open /dev/net/tun: no such device: the tun module is missing: modprobe tun"
		if got := openError(unix.ENODEV).Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}
