package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sixin4/cmd/internal/config"
	"sixin4/cmd/internal/daemon"
	"sixin4/cmd/internal/exit"
	"sixin4/cmd/internal/program"
	"sixin4/cmd/internal/programtest"
	"sixin4/tsp/tsptest"
	"sixin4/tun/nstest"
)

// roleVariable makes this test binary play another part: tspc itself, the far end of a
// tunnel, or what a template script calls. runVariable is the directory that tspc has
// for /run.
const (
	roleVariable = "SIXIN4_TEST_ROLE"
	runVariable  = "SIXIN4_TEST_RUN"
)

var roles = map[string]func() error{
	"alone":      alone,
	"lose-admin": loseAdmin,
	"main":       func() error { main(); return nil },
	"far-end":    farEnd,
	"template":   template,
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		err := roles[role]()
		if err == nil {
			os.Exit(exit.OK)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exit.Failure)
	}
	nstest.Main(m)
}

// alone becomes tspc with a /run of its own, where its sockets and state are, and
// without the host's logs.
func alone() error {
	runtime.LockOSThread()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	err = errors.Join(
		unix.Unshare(unix.CLONE_NEWNS),
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount(os.Getenv(runVariable), "/run", "", unix.MS_BIND, ""),
		unix.Mount("none", "/var/log", "tmpfs", 0, ""),
		os.Setenv(roleVariable, "main"))
	if err != nil {
		return err
	}
	return syscall.Exec(self, os.Args, os.Environ())
}

// loseAdmin is alone, and without a capability.
func loseAdmin() error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_NET_ADMIN, 0, 0, 0); err != nil {
		return err
	}
	return alone()
}

// farEnd is the other end of the tunnel that the scripted broker gives.
func farEnd() error {
	ctx, stop := program.UntilSignal(context.Background())
	defer stop()
	raw := make(config.Raw)
	raw.Set(config.Remote, "192.0.2.2")
	raw.Set(config.Address, "2001:db8:aa::1/128")
	raw.Set(config.Route, "2001:db8:aa::2/128")
	raw.Set(config.Name, "far0")
	raw.Set(config.Socket, filepath.Join(os.Getenv(runVariable), "far0.sock"))
	cfg, err := config.Check(raw)
	if err != nil {
		return err
	}
	return daemon.Up(ctx, cfg, daemon.Env{Out: os.Stdout, Logger: program.NewLogger(os.Stderr, false, true), SocketDirs: program.SocketDirs()})
}

// template does what a template script does: the address of the tunnel, a route into
// it, and something on another interface, which nobody takes away by itself.
func template() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	mark, err := netlink.ParseAddr("2001:db8:77::1/128")
	if err != nil {
		return err
	}
	if os.Getenv("TSP_OPERATION") == "TSP_TUNNEL_TEARDOWN" {
		return netlink.AddrDel(lo, mark)
	}
	tunnel, err := netlink.LinkByName(os.Getenv("TSP_TUNNEL_INTERFACE"))
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(os.Getenv("TSP_CLIENT_ADDRESS_IPV6") + "/" + os.Getenv("TSP_TUNNEL_PREFIXLEN"))
	if err != nil {
		return err
	}
	addr.Flags = unix.IFA_F_NODAD
	all, err := netlink.ParseIPNet("2000::/3")
	if err != nil {
		return err
	}
	fmt.Println("template has", addr.IPNet)
	return errors.Join(netlink.AddrAdd(lo, mark), netlink.AddrAdd(tunnel, addr),
		netlink.RouteAdd(&netlink.Route{LinkIndex: tunnel.Attrs().Index, Dst: all}))
}

// patience bounds every wait; a machine under load takes its time.
const patience = 30 * time.Second

// network is two hosts on one link: tspc is on B, 192.0.2.2, its broker on A, 192.0.2.1.
type network struct {
	*nstest.Topology
	t   testing.TB
	run string // the directory for /run of B
}

func newNetwork(t testing.TB) *network {
	t.Helper()
	return &network{programtest.Pair(t), t, t.TempDir()}
}

// broker serves on an address of A until the test ends.
func (n *network) broker(addr string, c tsptest.Config) *tsptest.Broker {
	n.t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr(addr), config.DefaultPort)
	var stream net.Listener
	var packets net.PacketConn
	must(n.t, n.A.Do(func() (err error) {
		if stream, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at)); err != nil {
			return err
		}
		packets, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		return err
	}))
	b := tsptest.New(c)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { check(n.t, b.Serve(ctx, stream)) })
	wg.Go(func() { check(n.t, b.ServePackets(ctx, packets)) })
	n.t.Cleanup(func() { cancel(); wg.Wait() })
	return b
}

// tspc starts tspc on B, in the directory of its configuration file.
func (n *network) tspc(file string, args ...string) *running {
	n.t.Helper()
	return n.as("alone", file, args...)
}

func (n *network) as(role, file string, args ...string) *running {
	n.t.Helper()
	return n.start(n.B, role, filepath.Dir(file), append(args, "-f", filepath.Base(file))...)
}

// farEnd starts the other end of the tunnel on A.
func (n *network) farEnd() *running {
	n.t.Helper()
	p := n.start(n.A, "far-end", n.t.TempDir())
	p.await(&p.stdout, "ready: far0")
	return p
}

func (n *network) start(ns *nstest.NS, role, dir string, args ...string) *running {
	n.t.Helper()
	self, err := os.Executable()
	must(n.t, err)
	p := &running{t: n.t, cmd: exec.Command(self, args...), ended: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Env = programtest.Environ(config.PasswordVariable+"=", roleVariable+"="+role, runVariable+"="+n.run)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	must(n.t, ns.Start(p.cmd))
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // its state says how it ended
	}()
	n.t.Cleanup(p.kill)
	return p
}

// running is a process that a test started.
type running struct {
	t              testing.TB
	cmd            *exec.Cmd
	ended          chan struct{}
	stdout, stderr output
}

// output is what a process has written.
type output struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.String()
}

// kill ends the process if it still runs.
func (p *running) kill() {
	_ = p.cmd.Process.Kill() // fails only when it has ended
	<-p.ended
	if p.t.Failed() {
		p.t.Logf("%s:\n%s\nstandard error:\n%s", strings.Join(p.cmd.Args[1:], " "), &p.stdout, &p.stderr)
	}
}

// await waits until the process has written part.
func (p *running) await(o *output, part string) {
	p.t.Helper()
	nstest.Eventually(p.t, patience, part, func() bool { return strings.Contains(o.String(), part) || p.over() })
	if !strings.Contains(o.String(), part) {
		p.t.Fatalf("it ended without %q", part)
	}
}

func (p *running) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// awaitUp waits until the tunnel is up.
func (p *running) awaitUp() {
	p.t.Helper()
	p.await(&p.stdout, "Tunnel is up, staying in the foreground\n")
}

func (p *running) signal(s os.Signal) {
	p.t.Helper()
	must(p.t, p.cmd.Process.Signal(s))
}

// code waits for the end and returns the exit status, -1 after a signal.
func (p *running) code() int {
	p.t.Helper()
	nstest.Within(p.t, patience, "the end of "+p.cmd.Args[0], p.ended)
	return p.cmd.ProcessState.ExitCode()
}

// ends expects an exit status, and that the last line says so.
func (p *running) ends(status int) {
	p.t.Helper()
	if got := p.code(); got != status {
		p.t.Errorf("exit status %d, want %d", got, status)
	}
	if want := fmt.Sprintf("\nExiting with return code : %d (0 = no error)\n", status); !strings.HasSuffix(p.stdout.String(), want) {
		p.t.Errorf("the last line is not %q:\n%s", want, &p.stdout)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// check is must for other goroutines than that of the test.
func check(t testing.TB, err error) {
	if err != nil {
		t.Error(err)
	}
}

// dump describes links, addresses and routes of B, for people and to compare.
func (n *network) dump() string {
	n.t.Helper()
	var all []string
	must(n.t, n.B.Do(func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			a := l.Attrs()
			all = append(all, fmt.Sprintf("link %s %s mtu %d %v", a.Name, l.Type(), a.MTU, a.Flags))
		}
		addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			all = append(all, fmt.Sprintf("address %s on %d", a.IPNet, a.LinkIndex))
		}
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		for _, r := range routes {
			all = append(all, fmt.Sprintf("route %v via %v on %d type %d table %d protocol %d metric %d",
				r.Dst, r.Gw, r.LinkIndex, r.Type, r.Table, r.Protocol, r.Priority))
		}
		return err
	}))
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// sameAs fails when B is not as it was dumped before.
func (n *network) sameAs(before string) {
	n.t.Helper()
	if after := n.dump(); after != before {
		n.t.Errorf("the host is not as it was:\nbefore\n%s\nafter\n%s", before, after)
	}
}

// has fails when B lacks one of parts.
func (n *network) has(parts ...string) {
	n.t.Helper()
	now := n.dump()
	for _, part := range parts {
		if !strings.Contains(now, part) {
			n.t.Errorf("no %q in\n%s", part, now)
		}
	}
}
