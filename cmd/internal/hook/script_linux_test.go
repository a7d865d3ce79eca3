package hook

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sixin4/tun/nstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script writes text into a file and makes a Script of it whose lines are collected.
func script(t *testing.T, text string) (Script, *[]string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "linux.sh")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := new([]string)
	return Script{Path: path, Output: func(s string) { *lines = append(*lines, s) }}, lines
}

func variables(t *testing.T) []Variable {
	t.Helper()
	vars, err := params(router()).Variables()
	if err != nil {
		t.Fatal(err)
	}
	return vars
}

func TestRunTellsEverything(t *testing.T) {
	t.Setenv("SIXIN4_PASSWORD", "secret")
	t.Setenv("HOME", "/somewhere")
	s, lines := script(t, "env | sort\necho to stderr >&2\npwd\ncat\n")
	s.Env = []string{"EXTRA=1", "LANG=de", "TSP_VERBOSE=9"}
	vars := variables(t)
	if err := s.Run(t.Context(), vars); err != nil {
		t.Fatal(err)
	}
	want := append(texts(vars), "PATH="+minimalPath, "HOME=/somewhere", "LANG=de", "EXTRA=1", "PWD=/")
	slices.Sort(want)
	want = append(want, "to stderr", "/")
	got := slices.DeleteFunc(*lines, func(l string) bool { // what shells add of their own
		return strings.HasPrefix(l, "_=") || strings.HasPrefix(l, "OLDPWD=") || strings.HasPrefix(l, "SHLVL=")
	})
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestCommand(t *testing.T) {
	var lines []string
	s := Script{Command: `echo "$TSP_TUNNEL_INTERFACE" '$TSP_HOME_DIR' $0`}
	s.Dir = t.TempDir()
	s.Output = func(line string) { lines = append(lines, line) }
	if err := s.Run(t.Context(), variables(t)); err != nil {
		t.Fatal(err)
	}
	if want := "sit1 $TSP_HOME_DIR /bin/sh"; len(lines) != 1 || lines[0] != want {
		t.Errorf("%q, want %q", lines, want)
	}
}

// TestNothingRuns: whatever is wrong, the script leaves no trace.
// TestProgram: what a shell would change comes as it is.
func TestProgram(t *testing.T) {
	env, err := exec.LookPath("env")
	if err != nil {
		t.Skip("needs env")
	}
	lines := []string{}
	s := Script{Program: []string{env, "printf", "%s\\n", "$HOME * `x`"}, Output: func(s string) { lines = append(lines, s) }}
	if err := s.Run(t.Context(), variables(t)); err != nil || !slices.Equal(lines, []string{"$HOME * `x`"}) {
		t.Errorf("%q, %v", lines, err)
	}
	lines = nil
	s.Program = []string{env}
	if err := s.Run(t.Context(), variables(t)); err != nil || !slices.Contains(lines, "TSP_OPERATION=TSP_TUNNEL_CREATION") {
		t.Errorf("%q, %v", lines, err)
	}
}

func TestNothingRuns(t *testing.T) {
	dir := t.TempDir()
	trace := filepath.Join(dir, "trace")
	file := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte("touch "+trace), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	open, good, pipe := file("open.sh", 0o666), file("good.sh", 0o600), filepath.Join(dir, "pipe.sh")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	bad := []Variable{{"TSP_CLIENT_DNS_NAME", "$(touch " + trace + ")"}}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name   string
		ctx    context.Context
		script Script
		vars   []Variable
		want   string
	}{
		{"writable by everybody", t.Context(), Script{Path: open}, nil, "script " + open + ": mode 0666 lets everybody change it, so it is not run: chmod o-w " + open},
		{"missing", t.Context(), Script{Path: dir + "/none.sh"}, nil, "script " + dir + "/none.sh: no such file or directory"},
		{"directory", t.Context(), Script{Path: dir}, nil, "script " + dir + ": not a regular file"},
		{"named pipe", t.Context(), Script{Path: pipe}, nil, "script " + pipe + ": not a regular file"},
		{"relative", t.Context(), Script{Path: "-c"}, nil, "script -c: not an absolute path"},
		{"nothing", t.Context(), Script{}, nil, `command "": empty`},
		{"a program and a command", t.Context(), Script{Program: []string{"/bin/true"}, Command: "true"}, nil, "program /bin/true: both a program and something for the shell"},
		{"a program somewhere", t.Context(), Script{Program: []string{"true"}}, nil, "program true: not an absolute path"},
		{"both", t.Context(), Script{Path: good, Command: "true"}, nil, "script " + good + ": both a file and a command"},
		{"bad value", t.Context(), Script{Path: good}, bad, "script " + good + ": " + bad[0].Check().Error()},
		{"bad value for a command", t.Context(), Script{Command: "touch " + trace}, bad, ": " + bad[0].Check().Error()},
		{"variable twice", t.Context(), Script{Path: good}, []Variable{{"TSP_VERBOSE", "1"}, {"TSP_VERBOSE", "2"}}, "script " + good + ": script variable TSP_VERBOSE: comes twice"},
		{"ended context", ended, Script{Path: good}, nil, "script " + good + ": not run: context canceled"},
		{"directory missing", t.Context(), Script{Path: good, Dir: dir + "/none"}, nil, "no such file or directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.script.Run(tt.ctx, tt.vars); err == nil || !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("%v\nwant %s", err, tt.want)
			}
			if _, err := os.Stat(trace); err == nil {
				t.Fatal("it was run")
			}
		})
	}
	if err := (Script{Path: good}).Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(trace); err != nil {
		t.Errorf("the script that is well was not run: %v", err)
	}
}

func TestExitStatus(t *testing.T) {
	s, _ := script(t, "exit 3")
	err := s.Run(t.Context(), nil)
	var status *exec.ExitError
	if !errors.As(err, &status) || status.ExitCode() != 3 || err.Error() != "script "+s.Path+": exit status 3" {
		t.Errorf("%v, want exit status 3", err)
	}
	s, _ = script(t, "kill -KILL $$")
	if err := s.Run(t.Context(), nil); err == nil || err.Error() != "script "+s.Path+": signal: killed" {
		t.Errorf("%v, want the signal", err)
	}
}

// TestStopped ends scripts that would not end, children of theirs included.
func TestStopped(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		lines      int // printed before the script is stuck
	}{
		{"waits for a child", "sh -c 'echo $$; exec sleep 1000'", 1},
		{"child ignores SIGTERM", "echo $$; sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1000; done'", 2},
		{"ignores SIGTERM", "trap '' TERM; echo $$; while :; do sleep 1000; done", 1},
		{"child in the background", "sh -c 'trap \"\" TERM; echo $$; exec sleep 1000' & wait", 1},
		{"without output", "sh -c 'echo $$; exec sleep 1000 >/dev/null 2>&1'", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			s, lines := script(t, tt.text)
			s.grace = 100 * time.Millisecond
			collect := s.Output
			s.Output = func(line string) {
				if collect(line); len(*lines) == tt.lines {
					cancel()
				}
			}
			if err := s.Run(ctx, nil); !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want canceled", err)
			}
			for _, pid := range *lines {
				nstest.Eventually(t, 10*time.Second, "end of process "+pid, func() bool { return !living(t, pid) })
			}
		})
	}
}

// living reports whether a process runs. One that was killed may still be a zombie.
func living(t *testing.T, pid string) bool {
	t.Helper()
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, state, found := strings.Cut(string(stat), ") ")
	if !found {
		t.Fatalf("process %s: %q", pid, stat)
	}
	return state[0] != 'Z' && state[0] != 'X'
}

func TestTimeout(t *testing.T) {
	s, _ := script(t, "exec sleep 1000")
	s.Timeout = 50 * time.Millisecond
	err := s.Run(t.Context(), nil)
	want := "script " + s.Path + ": stopped after 50ms: context deadline exceeded"
	if !errors.Is(err, context.DeadlineExceeded) || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}

// TestBackground: what stays in the background with the output open holds nobody up,
// and lives on.
func TestBackground(t *testing.T) {
	s, lines := script(t, "sleep 1000 &\necho $!\n")
	if err := s.Run(t.Context(), nil); err != nil { // hangs until the test's own timeout if it fails
		t.Fatal(err)
	}
	if len(*lines) != 1 || !living(t, (*lines)[0]) {
		t.Fatalf("%q is not the number of a living process", *lines)
	}
	pid, err := strconv.Atoi((*lines)[0])
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestMuchOutput: a script that prints without end for a while is not blocked, and
// what comes of it is bounded.
func TestMuchOutput(t *testing.T) {
	s, lines := script(t, "head -c 3000000 /dev/zero | tr '\\0' 'x'; echo; echo end")
	if err := s.Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, l := range (*lines)[:len(*lines)-1] {
		if len(l) != maxLine {
			t.Fatalf("a piece of %d bytes, want %d", len(l), maxLine)
		}
		total += len(l)
	}
	if last := (*lines)[len(*lines)-1]; total != maxOutput || last != cutLine {
		t.Errorf("%d bytes and %q, want %d and %q", total, last, maxOutput, cutLine)
	}
}

// TestConcurrent: hooks of several tunnels of one process share nothing.
func TestConcurrent(t *testing.T) {
	s, _ := script(t, "exit 0")
	s.Output = nil
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := s.Run(t.Context(), nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
