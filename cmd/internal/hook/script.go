package hook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	shell = "/bin/sh"
	// minimalPath finds ip, sysctl and radvd wherever a distribution has them.
	minimalPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

	defaultTimeout = 60 * time.Second
	// termGrace is how long a process group has to end after SIGTERM.
	termGrace = 5 * time.Second
	// groupPoll is how often a group that was told to end is looked at: nothing tells
	// of the end of processes that are not our children.
	groupPoll = 10 * time.Millisecond
	// drainTime is how long output is read after the shell has ended. All that the
	// script itself wrote is in the pipe by then; what holds the pipe open is something
	// that the script left in the background.
	drainTime = 500 * time.Millisecond
)

// Script is a file for the shell, a command line of the user's, or a program that no
// shell has to do with. Exactly one of Path, Command and Program is set. The zero value of everything else will do.
// Values are in the environment only, so that none of them is ever read as part of a command.
type Script struct {
	Path    string        // absolute, of a regular file that not everybody may write; need not be executable
	Command string        // for sh -c, from the user and nobody else
	Program []string      // an absolute path and its arguments
	Dir     string        // working directory; "" means /
	Timeout time.Duration // 0 means 60 s
	Env     []string      // NAME=value, added to PATH, HOME and LANG=C; the variables of Run come behind it

	// Output gets what the script prints to standard output and standard error, line by
	// line, at most 4 KiB a piece before control characters in it are escaped, and at
	// most 1 MiB in all. It is called from one goroutine at a time, and must not block.
	// By default lines go to the Logger.
	Output func(line string)
	Logger *slog.Logger // nil discards

	grace time.Duration // between SIGTERM and SIGKILL, for tests; 0 means 5 s
}

// Run runs the script with vars, whose values are checked first, and waits until its
// shell has ended: standard input is empty, the environment is small. A script that
// says it failed is an error that wraps [exec.ExitError].
//
// When the timeout or ctx ends first, everything in the script's process group gets
// SIGTERM, and 5 s later SIGKILL; the error then wraps [context.DeadlineExceeded] or
// the cause of ctx. So a caller that undoes things because its own context has ended
// must give the teardown a fresh one.
//
// What a script leaves in the background lives on, unless the script was killed, but
// its output is lost half a second after the end of the shell, and then writing any is
// an error for it: it should have its own.
func (s Script) Run(ctx context.Context, vars []Variable) error {
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if err := s.run(ctx, vars); err != nil {
		return fmt.Errorf("%s: %w", s.name(), err)
	}
	return nil
}

func (s Script) name() string {
	if len(s.Program) > 0 {
		return "program " + s.Program[0]
	}
	if s.Path == "" {
		return fmt.Sprintf("command %.64q", s.Command)
	}
	return "script " + s.Path
}

func (s Script) run(ctx context.Context, vars []Variable) error {
	args, err := s.args()
	if err != nil {
		return err
	}
	if err := checkAll(vars); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("not run: %w", context.Cause(ctx))
	}
	timeout := cmp.Or(s.Timeout, defaultTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout,
		fmt.Errorf("stopped after %v: %w", timeout, context.DeadlineExceeded))
	defer cancel()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = cmp.Or(s.Dir, "/")
	cmd.Env = s.environment(vars)
	if cmd.SysProcAttr, err = ownGroup(); err != nil {
		return err
	}
	return s.runReading(ctx, cmd)
}

// args are what is run, and its arguments: those of the shell, mostly.
func (s Script) args() ([]string, error) {
	switch {
	case s.Path == "" && s.Command == "" && len(s.Program) == 0:
		return nil, errors.New("empty")
	case len(s.Program) > 0 && s.Path+s.Command != "":
		return nil, errors.New("both a program and something for the shell")
	case len(s.Program) > 0 && !filepath.IsAbs(s.Program[0]):
		return nil, errors.New("not an absolute path")
	case len(s.Program) > 0:
		return s.Program, nil
	case s.Path == "":
		return []string{shell, "-c", s.Command}, nil
	case s.Command != "":
		return nil, errors.New("both a file and a command")
	case !filepath.IsAbs(s.Path): // one that begins with a minus would be an option
		return nil, errors.New("not an absolute path")
	}
	return []string{shell, s.Path}, checkFile(s.Path)
}

// checkFile refuses a script that the shell could not read, or that anybody may have
// changed.
func checkFile(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() { // opening one may block for ever
		return errors.New("not a regular file")
	}
	var file *os.File
	if err == nil {
		file, err = os.Open(path)
	}
	if err != nil {
		return cause(err)
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return cause(err)
	}
	if mode := info.Mode().Perm(); mode&0o002 != 0 {
		return fmt.Errorf("mode %04o lets everybody change it, so it is not run: chmod o-w %s", mode, path)
	}
	return nil
}

// cause is the reason of an error whose path is said already.
func cause(err error) error {
	if e := (*os.PathError)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}

// environment has each name once: the last one counts, as package exec takes it.
func (s Script) environment(vars []Variable) []string {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/"
	}
	env := append([]string{"PATH=" + minimalPath, "HOME=" + home, "LANG=C"}, s.Env...)
	for _, v := range vars {
		env = append(env, v.String())
	}
	return env
}

// runReading runs cmd and hands its output on. The pipe is ours, not package exec's,
// so that the wait for the shell is not also one for all who hold the pipe.
func (s Script) runReading(ctx context.Context, cmd *exec.Cmd) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	s.Logger.Debug("script starts", "script", s.name())
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	var reader sync.WaitGroup
	reader.Go(func() { s.copyOutput(r) })
	err = s.wait(ctx, cmd)
	if r.SetReadDeadline(time.Now().Add(drainTime)) != nil {
		r.Close() // where pipes have no deadlines
	}
	reader.Wait()
	s.Logger.Debug("script has ended", "script", s.name(), "err", err)
	return err
}

// wait waits for the shell, and ends its whole group when ctx ends first.
func (s Script) wait(ctx context.Context, cmd *exec.Cmd) error {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		s.endGroup(cmd.Process.Pid, ended)
		return context.Cause(ctx)
	}
}

// endGroup returns when the shell has been waited for and nothing of its group is
// left, or that has been killed.
func (s Script) endGroup(group int, ended <-chan error) {
	signalGroup(group, syscall.SIGTERM)
	late := time.After(cmp.Or(s.grace, termGrace))
	tick := time.NewTicker(groupPoll)
	defer tick.Stop()
	waited := false
	for !waited || groupExists(group) {
		select {
		case <-ended:
			waited = true
		case <-tick.C:
		case <-late:
			signalGroup(group, syscall.SIGKILL)
			if !waited {
				<-ended
			}
			return
		}
	}
}
