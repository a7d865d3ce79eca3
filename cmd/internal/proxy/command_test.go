package proxy

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childRole in the environment makes the test binary a command.
const childRole = "PROXY_TEST_CHILD"

// child tells in the file of its second argument that it has begun, and waits for a
// signal, which it says. As a parent it runs one like that.
func child(role string) int {
	if role == "status" {
		return 42
	}
	if role == "parent" {
		_ = os.Setenv(childRole, "wait")
		status, _ := Command{Args: os.Args}.Run(context.Background())
		return status
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGTERM)
	if os.WriteFile(os.Args[1]+".new", nil, 0o600) != nil || os.Rename(os.Args[1]+".new", os.Args[1]) != nil {
		return 1
	}
	select {
	case s := <-signals:
		fmt.Println(s)
		return map[os.Signal]int{syscall.SIGUSR1: 10, syscall.SIGTERM: 15}[s]
	case <-time.After(limit):
		return 2
	}
}

func TestVariables(t *testing.T) {
	at := func(s string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, tt := range []struct {
		name string
		c    Command
		all  string
		http string
	}{
		{"both", Command{SOCKS5: at("127.0.0.1:1080"), HTTP: at("127.0.0.1:8080")}, "socks5h://127.0.0.1:1080", "http://127.0.0.1:8080"},
		{"SOCKS5 only", Command{SOCKS5: at("127.0.0.1:1080")}, "socks5h://127.0.0.1:1080", "socks5h://127.0.0.1:1080"},
		{"HTTP only", Command{HTTP: at("[::1]:8080")}, "http://[::1]:8080", "http://[::1]:8080"},
		{"every address", Command{SOCKS5: at("0.0.0.0:1"), HTTP: at("[::]:2")}, "socks5h://127.0.0.1:1", "http://[::1]:2"},
		{"password", Command{HTTP: at("127.0.0.1:2"), User: "a@b", Password: "c:d"}, "http://a%40b:c%3Ad@127.0.0.1:2", "http://a%40b:c%3Ad@127.0.0.1:2"},
	} {
		got := tt.c.Variables()
		for name, value := range map[string]string{"all_proxy": tt.all, "http_proxy": tt.http, "https_proxy": tt.http, "no_proxy": notProxied} {
			for _, want := range []string{name + "=" + value, strings.ToUpper(name) + "=" + value} {
				if !slices.Contains(got, want) {
					t.Errorf("%s: no %s in %s", tt.name, want, got)
				}
			}
		}
	}
}

func TestCommandStatus(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(childRole, "status")
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		fails  bool
	}{
		{"its own", []string{self}, 42, false},
		{"ended by a signal", []string{"/bin/sh", "-c", "kill -KILL $$"}, 137, false},
		{"not there", []string{"/nonexistent/program"}, 127, true},
		{"not in the path", []string{"no-such-program-here"}, 127, true},
		{"not a program", []string{plain}, 126, true},
		{"sees the variables", []string{"/bin/sh", "-c", `test "$ALL_PROXY" = socks5h://127.0.0.1:9 -a "$https_proxy" = socks5h://127.0.0.1:9`}, 0, false},
	} {
		c := Command{Args: tt.args, SOCKS5: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}}
		status, err := c.Run(t.Context())
		if status != tt.status || (err != nil) != tt.fails {
			t.Errorf("%s: %d, %v", tt.name, status, err)
		}
	}
}

// TestCommandSignals: a signal to us reaches the command, and the end of the context
// is SIGTERM.
func TestCommandSignals(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(childRole, "wait")
	for _, tt := range []struct {
		name   string
		do     func(cancel func()) error
		status int
	}{
		{"signal", func(func()) error { return syscall.Kill(os.Getpid(), syscall.SIGUSR1) }, 10},
		{"context", func(cancel func()) error { cancel(); return nil }, 15},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			begun := filepath.Join(t.TempDir(), "begun")
			told := make(chan error, 1)
			go func() { // the child's file is the event
				for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
					if _, err := os.Stat(begun); err == nil {
						told <- tt.do(cancel)
						return
					}
				}
				told <- fmt.Errorf("the command has not begun")
				cancel()
			}()
			status, err := Command{Args: []string{self, begun}}.Run(ctx)
			if e := <-told; e != nil || err != nil || status != tt.status {
				t.Errorf("%d, %v, %v", status, err, e)
			}
		})
	}
}
