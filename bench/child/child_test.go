package child

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain makes the test program behave as one of the children below.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "child" {
		os.Exit(behave(os.Args[2]))
	}
	os.Exit(m.Run())
}

func behave(how string) int {
	switch how {
	case "fail":
		fmt.Fprintln(os.Stderr, "first line\nno such thing")
		return 3
	case "echo":
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			fmt.Println("got", in.Text())
		}
		fmt.Println("end")
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		<-time.After(time.Minute) // not for ever, should the test die
	case "busy":
		for start := time.Now(); time.Since(start) < 100*time.Millisecond; {
		}
		fmt.Println("ready")
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // until the parent ends it
	}
	return 0
}

func start(t *testing.T, how string) *Process {
	t.Helper()
	self, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Start(Here{}, self, "child", how)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() }) // a test that failed half way
	return p
}

func TestLineSaysWhy(t *testing.T) {
	p := start(t, "fail")
	_, err := p.Line(t.Context())
	for _, want := range []string{"child fail", "exit status 3", "first line | no such thing"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if err := p.Running(); err == nil {
		t.Error("it is said to be running")
	}
	if err := p.Stop(); err != nil {
		t.Errorf("stop of what has ended: %v", err)
	}
}

func TestInputEndsTheChild(t *testing.T) {
	p := start(t, "echo")
	if err := p.Running(); err != nil {
		t.Fatal(err)
	}
	p.CloseInput()
	p.CloseInput()
	if line, err := p.Line(t.Context()); line != "end" || err != nil {
		t.Fatalf("got %q, %v, want its last line", line, err)
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := p.Line(t.Context()); err == nil {
		t.Error("a line after the end")
	}
}

func TestWaitsEnd(t *testing.T) {
	p := start(t, "busy")
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := p.Line(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := p.Line(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("line: %v, want %v", err, context.Canceled)
	}
	if err := p.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v, want %v", err, context.Canceled)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
}

func TestStopKills(t *testing.T) {
	defer func(d time.Duration) { stopGrace = d }(stopGrace)
	stopGrace = 50 * time.Millisecond
	p := start(t, "stubborn")
	if _, err := p.Line(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("error %v, want one that says it was killed", err)
	}
}

func TestUsage(t *testing.T) {
	p := start(t, "busy")
	if _, err := p.Line(t.Context()); err != nil {
		t.Fatal(err)
	}
	u, err := p.Usage()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("needs /proc")
	}
	if err != nil {
		t.Fatal(err)
	}
	if u.CPU <= 0 || u.PeakRSS < 1<<20 {
		t.Errorf("got %+v, want processor time and a megabyte at least", u)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Usage(); err == nil {
		t.Error("usage of a process that is gone")
	}
}

func TestTail(t *testing.T) {
	var w tail
	for i := range 1000 {
		fmt.Fprintf(&w, "line %d\n", i)
	}
	got := w.String()
	if !strings.HasSuffix(got, "| line 998 | line 999") || len(got) > 2*tailSize {
		t.Errorf("got %d bytes that end in %q", len(got), got[max(0, len(got)-30):])
	}
}
