package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

// Command is a program that is to use the proxy.
type Command struct {
	Args           []string // the program and its arguments; at least one
	SOCKS5, HTTP   net.Addr // of the server; nil for none
	User, Password string   // as in Config
}

// Exit statuses of shells for a program that cannot be run, and, with the number of the
// signal added, for one that a signal has ended.
const (
	notExecutable = 126
	notFound      = 127
	Signalled     = 128
)

// notProxied is what does not go through the proxy: this host itself.
const notProxied = "localhost,127.0.0.1,127.0.0.0/8,::1"

// Variables are the environment variables that programs find their proxy by, in lower
// and upper case, since there is no standard. socks5h leaves names to the proxy.
func (c Command) Variables() []string {
	socks, web := c.url("socks5h", c.SOCKS5), c.url("http", c.HTTP)
	if web == "" {
		web = socks
	}
	if socks == "" {
		socks = web
	}
	var all []string
	for _, v := range []struct{ name, value string }{
		{"all_proxy", socks}, {"http_proxy", web}, {"https_proxy", web}, {"no_proxy", notProxied},
	} {
		all = append(all, v.name+"="+v.value, strings.ToUpper(v.name)+"="+v.value)
	}
	return all
}

// url is where a program on this host finds a server.
func (c Command) url(scheme string, at net.Addr) string {
	t, ok := at.(*net.TCPAddr)
	if !ok {
		return ""
	}
	host := *t
	if host.IP.IsUnspecified() {
		if host.IP = net.IPv4(127, 0, 0, 1); t.IP.To4() == nil {
			host.IP = net.IPv6loopback
		}
	}
	u := url.URL{Scheme: scheme, Host: host.String()}
	if c.User != "" {
		u.User = url.UserPassword(c.User, c.Password)
	}
	return u.String()
}

// Run runs the command with our standard streams and returns its exit status: its
// own, 128 and the number of the signal that ended it, or 126 or 127 with an error when
// it could not be started. Signals that we get are passed on, but for those that a
// terminal sends to it as well. When ctx ends it gets SIGTERM, and Run goes on waiting.
// On Linux it gets SIGTERM too when this process is killed.
func (c Command) Run(ctx context.Context) (status int, err error) {
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Env = append(os.Environ(), c.Variables()...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	runtime.LockOSThread() // see endWithUs
	defer runtime.UnlockOSThread()
	endWithUs(cmd)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, passedOn...)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			return notFound, fmt.Errorf("run %s: %w", c.Args[0], withoutName(err))
		}
		return notExecutable, fmt.Errorf("run %s: %w", c.Args[0], withoutName(err))
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop := ctx.Done()
	for {
		select {
		case err := <-ended:
			return statusOf(cmd.ProcessState, err)
		case sig := <-signals:
			if !fromTerminal(sig) {
				_ = cmd.Process.Signal(sig) // it may have ended just now
			}
		case <-stop:
			stop = nil
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
	}
}

// passedOn are the signals that are the command's business when they are sent to us.
var passedOn = []os.Signal{
	syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2,
}

// statusOf is the exit status of a process that has ended.
func statusOf(p *os.ProcessState, err error) (int, error) {
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		return notExecutable, err
	}
	if w, ok := p.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return Signalled + int(w.Signal()), nil
	}
	return p.ExitCode(), nil
}

// withoutName takes off the name of the program, which the message has already.
func withoutName(err error) error {
	var e *exec.Error
	var p *os.PathError
	switch {
	case errors.As(err, &e):
		return e.Err
	case errors.As(err, &p):
		return p.Err
	}
	return err
}
