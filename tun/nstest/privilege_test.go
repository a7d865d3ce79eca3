//go:build linux

package nstest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// reexecChild is the "reexec" child of these tests: a program that wants root.
// Its own child, as root, reports what is missing there.
func reexecChild() int {
	if len(os.Args) > 1 && os.Args[1] == "inside" {
		return insideUserNamespace()
	}
	code, err := ReexecAsRoot([]string{"inside", "an argument"})
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	return code
}

func insideUserNamespace() int {
	_, done, err := MaybeReexec()
	fmt.Printf("uid %d, args %q, again %t %v, user namespace %t, missing %q\n",
		os.Geteuid(), os.Args[2:], done, err, inUserNamespace(), Missing())
	top, err := Routed()
	fmt.Println("routed:", err)
	fmt.Println("loopback:", dialOwnListener())
	if err == nil {
		err = top.A.SetGRODefer(top.LinkA, 1000, 1)
		fmt.Println("GRO deferral:", errors.Is(err, unix.EPERM), top.Close())
	}
	return 42
}

func dialOwnListener() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	return conn.Close()
}

func TestReexecAsRoot(t *testing.T) {
	Need(t)
	output, err := child("reexec").Output()
	if strings.Contains(string(output), "run in user namespace:") {
		t.Skipf("needs user namespaces: %s", output)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 42 {
		t.Errorf("exit %v, want the child's 42", err)
	}
	want := `uid 0, args ["an argument"], again false <nil>, user namespace true, missing ""
routed: <nil>
loopback: <nil>
GRO deferral: true <nil>
`
	if string(output) != want {
		t.Errorf("inside the user namespace:\n%swant:\n%s", output, want)
	}
}

// TestReexecNamesWhatIsMissing runs as a user who may do nothing. Where only root
// may open the TUN device, that is what is missing.
func TestReexecNamesWhatIsMissing(t *testing.T) {
	Need(t)
	if inUserNamespace() {
		t.Skip("needs the machine's root: a user namespace has no second user")
	}
	var stat unix.Stat_t
	if err := unix.Stat(tunPath, &stat); err != nil {
		t.Fatal(err)
	}
	cmd := child("reexec")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	output, _ := cmd.Output() // its exit code is not the matter
	const want = "error: open /dev/net/tun: permission denied (run as root, or chmod 0666 /dev/net/tun)\n"
	everybody := stat.Mode&0o006 == 0o006 // may open it here
	if got := string(output); everybody == (got == want) {
		t.Errorf("without privilege: %swant this unless everybody may open the device (%v): %s", output, everybody, want)
	}
}
