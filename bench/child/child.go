// Package child runs a child process in a network namespace, reads the lines it
// prints, says why it failed, and measures what it used.
package child

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Starter starts a command somewhere; *nstest.NS is one.
type Starter interface {
	Start(*exec.Cmd) error
}

// Here is the Starter that starts a command where the caller is.
type Here struct{}

// Start is cmd.Start. The child is not terminated when this process dies: the
// kernel would do it when the thread does that happens to run this.
func (Here) Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = nil
	return cmd.Start()
}

// Process is a child that was started. Its standard input stays open until
// CloseInput, and in a namespace the kernel terminates it when this process dies.
// One goroutine at a time may use it, Usage excepted.
type Process struct {
	cmd    *exec.Cmd
	input  io.Closer
	lines  chan string // of standard output; closed at its end
	stderr tail
	done   chan struct{} // closed once the process has been waited for
	err    error         // how it ended; valid after done
}

// Start starts the command args. Its standard output is for Line, and the end of
// its standard error goes into the errors of the other methods.
func Start(in Starter, args ...string) (*Process, error) {
	p := &Process{
		cmd:   exec.Command(args[0], args[1:]...),
		lines: make(chan string, 64),
		done:  make(chan struct{}),
	}
	p.cmd.Stderr = &p.stderr
	p.cmd.WaitDelay = time.Second // when somebody else holds its standard error
	p.cmd.SysProcAttr = dieWithParent()
	input, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name(), err)
	}
	output, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name(), err)
	}
	if err := in.Start(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name(), err)
	}
	p.input = input
	go p.watch(output)
	return p, nil
}

// watch hands the lines on and reaps the process. Lines that nobody reads do
// not stop it: those over the channel's size are thrown away.
func (p *Process) watch(output io.Reader) {
	defer close(p.done)
	scanner := bufio.NewScanner(output)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		select {
		case p.lines <- scanner.Text():
		default:
		}
	}
	close(p.lines)
	_, _ = io.Copy(io.Discard, output) // after a line too long; Wait tells the rest
	p.err = p.cmd.Wait()
}

// PID returns the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Line returns the next line of standard output. When the process ends first,
// or ctx does, the error says how and ends with what it wrote to standard error.
func (p *Process) Line(ctx context.Context) (string, error) {
	select {
	case line, ok := <-p.lines:
		if ok {
			return line, nil
		}
	case <-ctx.Done():
		return "", p.fail(fmt.Errorf("no output: %w", ctx.Err()))
	}
	if err := p.Wait(ctx); err != nil {
		return "", err
	}
	return "", p.fail(io.ErrUnexpectedEOF)
}

// Running returns an error when the process has ended, however it ended.
func (p *Process) Running() error {
	select {
	case <-p.done:
		return p.fail(fmt.Errorf("ended early: %v", p.cmd.ProcessState))
	default:
		return nil
	}
}

// CloseInput closes the standard input of the process, which tells a sink to
// come to its end. It is idempotent.
func (p *Process) CloseInput() {
	_ = p.input.Close() // the process may have ended: then there is nobody to tell
}

// Wait waits until the process has ended by itself, and returns an error unless
// its exit status is 0, or when ctx ends first.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		if p.err != nil {
			return p.fail(p.err)
		}
		return nil
	case <-ctx.Done():
		return p.fail(fmt.Errorf("still running: %w", ctx.Err()))
	}
}

// stopGrace is how long a process has to undo what it did; tests shorten it.
var stopGrace = 5 * time.Second

// Stop ends the process: SIGTERM, and SIGKILL when that did not do within 5
// seconds. It returns when the process is gone, with an error if it had to be
// killed. It is idempotent.
func (p *Process) Stop() error {
	p.CloseInput()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	return p.fail(fmt.Errorf("did not stop within %v and was killed", stopGrace))
}

// Usage is what a process has used since it was started.
type Usage struct {
	CPU     time.Duration // user and system time of all its threads
	PeakRSS int64         // bytes
}

// Usage reads what the process has used so far; it must not have been stopped.
func (p *Process) Usage() (Usage, error) {
	u, err := usage(p.PID())
	if err != nil {
		return Usage{}, p.fail(fmt.Errorf("read usage: %w", err))
	}
	return u, nil
}

// name is how errors call the process: program and subcommands.
func (p *Process) name() string {
	words := []string{filepath.Base(p.cmd.Args[0])}
	for _, arg := range p.cmd.Args[1:] {
		if strings.HasPrefix(arg, "-") || strings.HasPrefix(arg, "{") {
			break
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}

func (p *Process) fail(err error) error {
	if said := p.stderr.String(); said != "" {
		return fmt.Errorf("%s: %w; it said: %s", p.name(), err, said)
	}
	return fmt.Errorf("%s: %w", p.name(), err)
}

// Self returns the path of the running program, to be started again.
func Self() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", errors.New("own program file: not found, so it cannot be started again")
	}
	return path, nil
}

// tailSize is how much of standard error is kept, in bytes.
const tailSize = 2048

// tail is a writer that keeps the last bytes.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

// String returns what was kept, with the lines joined by " | ".
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(t.buf), []byte("\n"))
	return string(bytes.Join(lines, []byte(" | ")))
}
