//go:build unix

package storetest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// server is a running PostgreSQL.
type server struct {
	bin, dir string
	attr     *syscall.SysProcAttr // who it runs as
	count    atomic.Int64         // of databases
}

func startPostgres(t testing.TB) func(testing.TB) string {
	s := &server{bin: findPostgres(t)}
	s.dir = s.makeDir(t)
	s.run(t, "initdb", "--pgdata="+filepath.Join(s.dir, "data"), "--auth=trust", "--username=postgres",
		"--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
	s.start(t)
	return s.database
}

// findPostgres is the directory of its programs. Debian has it outside of PATH.
func findPostgres(t testing.TB) string {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path)
		}
	}
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(dirs) == 0 {
		t.Skip("program: postgresql")
	}
	return filepath.Dir(slices.Max(dirs))
}

// makeDir makes a directory that the server's user owns. That of t.TempDir is in one
// that only we may enter.
func (s *server) makeDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "store-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if os.Geteuid() != 0 {
		return dir
	}
	uid, gid := unprivileged(t)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	s.attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	return dir
}

func unprivileged(t testing.TB) (uid, gid int) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil && uid != 0 {
			return uid, gid
		}
	}
	t.Skip("user: postgres or nobody")
	return 0, 0
}

func (s *server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir, cmd.SysProcAttr = s.dir, s.attr
	return cmd
}

func (s *server) run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := s.command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// untilEOF runs a program until standard input ends, which is also when we are killed.
const untilEOF = `"$@" & read -r line; kill -INT $!; wait $!`

// start returns when the server is ready.
func (s *server) start(t testing.TB) {
	cmd := exec.Command("/bin/sh", "-c", untilEOF, "sh", filepath.Join(s.bin, "postgres"), "-D", filepath.Join(s.dir, "data"),
		"-k", s.dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=500")
	cmd.Dir, cmd.SysProcAttr = s.dir, s.attr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log := bufio.NewReader(stderr)
	drained := make(chan struct{})
	t.Cleanup(func() {
		stdin.Close()
		<-drained
		if err := cmd.Wait(); err != nil {
			t.Errorf("postgres: %v", err)
		}
	})
	said, err := waitReady(log)
	go func() {
		defer close(drained)
		io.Copy(io.Discard, log)
	}()
	if err != nil {
		t.Fatalf("postgres: %v\n%s", err, said)
	}
}

// waitReady reads what a server says until it is ready.
func waitReady(log *bufio.Reader) (said string, err error) {
	for {
		line, err := log.ReadString('\n')
		said += line
		if err != nil || strings.Contains(line, "ready to accept connections") {
			return said, err
		}
	}
}

// database makes an empty one.
func (s *server) database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", s.count.Add(1))
	s.run(t, "createdb", "--host="+s.dir, "--username=postgres", name)
	return fmt.Sprintf("host=%s user=postgres dbname=%s", s.dir, name)
}
