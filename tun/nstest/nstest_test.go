//go:build linux

package nstest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// childRole in the environment makes the test binary one of the children that
// the tests start.
const childRole = "NSTEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childRole) {
	case "namespace": // print the namespace, wait for the end of input
		fmt.Println(namespaceName())
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	case "reexec":
		os.Exit(reexecChild())
	}
	Main(m)
}

func child(role string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), childRole+"="+role)
	return cmd
}

// namespaceName names the network namespace of the calling thread.
func namespaceName() string {
	name, err := os.Readlink(ownNamespace)
	if err != nil {
		return err.Error()
	}
	return name
}

// inside names the network namespace that ns is.
func inside(t *testing.T, ns *NS) string {
	t.Helper()
	var name string
	if err := ns.Do(func() error { name = namespaceName(); return nil }); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestDoRunsInside(t *testing.T) {
	a, b := Open(t), Open(t)
	own, inA, inB := namespaceName(), inside(t, a), inside(t, b)
	if own == inA || own == inB || inA == inB {
		t.Fatalf("own namespace %s, a %s, b %s: want three", own, inA, inB)
	}
	if again := inside(t, a); again != inA {
		t.Errorf("second Do ran in %s, first in %s", again, inA)
	}
	err := a.Do(func() error {
		nested := inside(t, b)
		if after := namespaceName(); nested != inB || after != inA {
			t.Errorf("nested Do in %s, then back in %s; want %s and %s", nested, after, inB, inA)
		}
		return io.ErrUnexpectedEOF
	})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Do returned %v, not the error of fn", err)
	}
	if now := namespaceName(); now != own {
		t.Errorf("caller is in %s afterwards, was in %s", now, own)
	}
}

func TestDoEndsItsCallerWithFn(t *testing.T) {
	ns := Open(t)
	cameBack := false
	var wait sync.WaitGroup
	wait.Go(func() {
		_ = ns.Do(func() error { runtime.Goexit(); return nil })
		cameBack = true
	})
	wait.Wait()
	if cameBack {
		t.Error("Do returned although fn ended its goroutine")
	}
}

func TestDoFromTheMainThread(t *testing.T) {
	ns := Open(t)
	// The first thread may be handed to any goroutine: with many at once it is
	// handed to some, and its namespace must not change even then.
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			err := ns.Do(func() error {
				main, err := os.Readlink("/proc/self/ns/net")
				if err == nil && main == namespaceName() {
					err = fmt.Errorf("the process shows as in %s", main)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
}

func TestSocketStaysInside(t *testing.T) {
	ns := Open(t)
	var listener net.Listener
	err := ns.Do(func() (err error) {
		listener, err = net.Listen("tcp4", "127.0.0.1:0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	address := listener.Addr().String()
	dial := func() error {
		conn, err := net.Dial("tcp4", address)
		if err == nil {
			err = conn.Close()
		}
		return err
	}
	if err := dial(); err == nil {
		t.Error("the listener can be reached from outside")
	}
	if err := ns.Do(dial); err != nil {
		t.Errorf("dial from inside: %v", err)
	}
}

func TestStart(t *testing.T) {
	for _, tc := range []struct {
		name      string
		attribute *syscall.SysProcAttr
	}{
		{"plain", nil},
		{"signal on death", &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ns := Open(t)
			cmd := child("namespace")
			cmd.SysProcAttr = tc.attribute
			input, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			var output strings.Builder
			cmd.Stdout, cmd.Stderr = &output, os.Stderr
			if err := ns.Start(cmd); err != nil {
				t.Fatal(err)
			}
			endThreads(20)
			input.Close()
			if err := cmd.Wait(); err != nil {
				t.Errorf("child: %v", err)
			}
			if got, want := strings.TrimSpace(output.String()), inside(t, ns); got != want {
				t.Errorf("child ran in %s, want %s", got, want)
			}
		})
	}
}

// endThreads makes n threads end that may have run anything before.
func endThreads(n int) {
	var wait sync.WaitGroup
	for range n {
		wait.Go(func() { offMainThread(runtime.LockOSThread) })
	}
	wait.Wait()
}

func TestStartFails(t *testing.T) {
	ns := Open(t)
	for _, attribute := range []*syscall.SysProcAttr{nil, {Pdeathsig: unix.SIGKILL}} {
		cmd := exec.Command("/nonexistent")
		cmd.SysProcAttr = attribute
		if err := ns.Start(cmd); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("start with %+v: %v, want not exist", attribute, err)
		}
	}
}

func TestClosed(t *testing.T) {
	Need(t)
	ns, err := New()
	if err != nil {
		t.Fatal(err)
	}
	other := Open(t)
	for range 2 {
		if err := ns.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	for name, call := range map[string]func() error{
		"Do":                  func() error { return ns.Do(func() error { return nil }) },
		"Start":               func() error { return ns.Start(exec.Command("/proc/self/exe")) },
		"Start, death signal": func() error { return ns.Start(&exec.Cmd{SysProcAttr: &syscall.SysProcAttr{Pdeathsig: 9}}) },
		"Link from it":        func() error { return Link(ns, "a", other, "b") },
		"Link to it":          func() error { return Link(other, "a", ns, "b") },
		"AddAddr":             func() error { return ns.AddAddr("lo", "192.0.2.1/32") },
		"Features":            func() error { _, err := ns.Features("lo"); return err },
	} {
		if err := call(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s after Close: %v, want os.ErrClosed", name, err)
		}
	}
}

// TestNothingIsLeft makes and closes many namespaces and looks for what is left
// of them: descriptors, and threads in other namespaces.
func TestNothingIsLeft(t *testing.T) {
	Need(t)
	use := func() {
		top, err := Routed()
		if err != nil {
			t.Fatal(err)
		}
		if err := top.A.SetGRODefer(top.LinkA, 1000, 1); err != nil && machineMissing() == "" {
			t.Error(err)
		}
		if err := top.Close(); err != nil {
			t.Error(err)
		}
	}
	use() // whatever is made once is made now
	files, threads := namespaceFiles(t), entries(t, "/proc/self/task")
	for range 20 {
		use()
	}
	if now := namespaceFiles(t); now != files {
		t.Errorf("%d descriptors of namespaces, were %d", now, files)
	}
	if now := entries(t, "/proc/self/task"); len(now) > len(threads)+8 {
		t.Errorf("%d threads, were %d", len(now), len(threads))
	}
	own := namespaceName()
	for _, task := range entries(t, "/proc/self/task") {
		name, err := os.Readlink("/proc/self/task/" + task.Name() + "/ns/net")
		if err == nil && name != own {
			t.Errorf("thread %s was left in %s", task.Name(), name)
		}
	}
}

func entries(t *testing.T, directory string) []os.DirEntry {
	t.Helper()
	list, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// namespaceFiles counts this process's descriptors of network namespaces.
func namespaceFiles(t *testing.T) (n int) {
	t.Helper()
	for _, file := range entries(t, "/proc/self/fd") {
		target, err := os.Readlink("/proc/self/fd/" + file.Name())
		if err == nil && strings.HasPrefix(target, "net:") {
			n++
		}
	}
	return n
}
