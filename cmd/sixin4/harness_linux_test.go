package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sixin4/cmd/internal/exit"
	"sixin4/cmd/internal/program"
	"sixin4/cmd/internal/programtest"
	"sixin4/tun/nstest"
)

// roleVariable makes this test binary play another part: that of sixin4 itself,
// or of a process that prepares something and then becomes sixin4.
const roleVariable = "SIXIN4_TEST_ROLE"

var roles = map[string]func() error{
	"main":        func() error { main(); return nil },
	"lose-admin":  func() error { return withoutCapabilities(unix.CAP_NET_ADMIN) },
	"lose-raw":    func() error { return withoutCapabilities(unix.CAP_NET_RAW) },
	"lose-both":   func() error { return withoutCapabilities(unix.CAP_NET_ADMIN, unix.CAP_NET_RAW) },
	"lose-bpf":    func() error { return withoutCapabilities(unix.CAP_BPF, unix.CAP_SYS_ADMIN) },
	"lose-tun":    withoutTUN,
	"lo-has-peer": withPeerOnLoopback,
	"hang":        hangAfterSignal,
	"broker":      beBroker,
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		fmt.Fprintln(os.Stderr, roles[role]())
		os.Exit(exit.Failure)
	}
	flag.Parse()
	// Tests that say t.Parallel wait for timers most of the time, in namespaces of their own.
	if set := flag.Lookup("test.parallel"); set.Value.String() == set.DefValue {
		_ = set.Value.Set("4") // fails only for what is no number
	}
	nstest.Main(m)
}

// becomeMain replaces the process by sixin4, with what is special about the
// calling thread: its capabilities and namespaces.
func becomeMain() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Setenv(roleVariable, "main"); err != nil {
		return err
	}
	return syscall.Exec(self, os.Args, os.Environ())
}

func withoutCapabilities(caps ...uintptr) error {
	runtime.LockOSThread()
	for _, c := range caps {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return err
		}
	}
	return becomeMain()
}

// withoutTUN hides /dev/net/tun in a mount namespace of its own.
func withoutTUN() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("none", "/dev/net", "tmpfs", 0, ""); err != nil {
		return err
	}
	return becomeMain()
}

// withPeerOnLoopback gives a fresh network namespace an address and a route to
// 192.0.2.2 on the only link that it has.
func withPeerOnLoopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr("192.0.2.1/32")
	if err != nil {
		return err
	}
	peer, err := netlink.ParseIPNet("192.0.2.2/32")
	if err != nil {
		return err
	}
	err = errors.Join(netlink.LinkSetUp(lo), netlink.AddrAdd(lo, addr),
		netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: peer}))
	if err != nil {
		return err
	}
	return becomeMain()
}

// hangAfterSignal is a program whose end takes for ever.
func hangAfterSignal() error {
	ctx, stop := program.UntilSignal(context.Background())
	defer stop()
	fmt.Println("ready")
	<-ctx.Done()
	fmt.Println("stopping")
	select {}
}

// patience bounds every wait; a machine under load takes its time.
const patience = 30 * time.Second

// process is a sixin4 that a test started.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdout *lines
	stderr *lines
}

// start starts sixin4 inside ns, in a role; it is killed when the test ends.
func start(t testing.TB, ns *nstest.NS, role string, args ...string) *process {
	t.Helper()
	p := prepare(t, role, args...)
	if err := ns.Start(p.cmd); err != nil {
		t.Fatal(err)
	}
	return p
}

// prepare is start without the start.
func prepare(t testing.TB, role string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(self, args...), stdout: newLines(), stderr: newLines()}
	p.cmd.Env = programtest.Environ(roleVariable + "=" + role)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	t.Cleanup(p.kill)
	return p
}

// kill ends the process if it still runs.
func (p *process) kill() {
	if p.cmd.Process != nil && p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill() // fails only when it has ended
		_ = p.cmd.Wait()         // says that it was killed
	}
	if p.t.Failed() {
		p.t.Logf("standard error of sixin4 %s:\n%s", strings.Join(p.cmd.Args[1:], " "), p.stderr.text())
	}
}

// ready returns the first line of standard output.
func (p *process) ready() string {
	p.t.Helper()
	return p.await(p.stdout, "")
}

// await returns the first line not awaited before that holds part.
func (p *process) await(l *lines, part string) string {
	p.t.Helper()
	line, err := l.next(part)
	if err != nil {
		p.t.Fatalf("waiting for %q: %v; standard error:\n%s", part, err, p.stderr.text())
	}
	return line
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// code waits for the end and returns the exit status, -1 after a signal.
func (p *process) code() int {
	p.t.Helper()
	timer := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	err := p.cmd.Wait()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		p.t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// stop ends the process by SIGTERM and expects that this goes well.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != exit.OK {
		p.t.Errorf("exit status %d after SIGTERM, want 0; standard error:\n%s", code, p.stderr.text())
	}
}

// lines is a writer whose lines can be waited for.
type lines struct {
	mu   sync.Mutex
	all  bytes.Buffer
	pipe *io.PipeWriter
	ch   chan string
}

func newLines() *lines {
	r, w := io.Pipe()
	l := &lines{pipe: w, ch: make(chan string, 1<<16)}
	go func() {
		for s := bufio.NewScanner(r); s.Scan(); {
			l.ch <- s.Text()
		}
	}()
	return l
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	l.all.Write(b)
	l.mu.Unlock()
	return l.pipe.Write(b)
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

func (l *lines) next(part string) (string, error) {
	timeout := time.After(patience)
	for {
		select {
		case line := <-l.ch:
			if strings.Contains(line, part) {
				return line, nil
			}
		case <-timeout:
			return "", errors.New("no such line")
		}
	}
}

// pair makes two hosts on one link without IPv6, closed when the test ends.
func pair(t testing.TB) *nstest.Topology {
	t.Helper()
	return programtest.Pair(t)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dump describes links, addresses and routes of ns, for people and to compare.
func dump(t testing.TB, ns *nstest.NS) string {
	t.Helper()
	var all []string
	must(t, ns.Do(func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			a := l.Attrs()
			all = append(all, fmt.Sprintf("link %d %s %s mtu %d %v", a.Index, a.Name, l.Type(), a.MTU, a.Flags))
		}
		addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			all = append(all, fmt.Sprintf("address %d %s scope %d", a.LinkIndex, a.IPNet, a.Scope))
		}
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		for _, r := range routes {
			all = append(all, fmt.Sprintf("route %v via %v link %d table %d protocol %d metric %d",
				r.Dst, r.Gw, r.LinkIndex, r.Table, r.Protocol, r.Priority))
		}
		return err
	}))
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// sameAs fails when ns is not as it was dumped before.
func sameAs(t testing.TB, ns *nstest.NS, before string) {
	t.Helper()
	if after := dump(t, ns); after != before {
		t.Errorf("the namespace is not as it was:\nbefore\n%s\nafter\n%s", before, after)
	}
}

// linkCalled makes a link of this name in ns.
func linkCalled(ns *nstest.NS, name string) error { return nstest.Link(ns, name, ns, name+"-peer") }
