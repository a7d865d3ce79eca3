package main

import (
	"bufio"
	"bytes"
	"context"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sixin4/cmd/internal/control"
	"sixin4/cmd/internal/exit"
	"sixin4/cmd/internal/programtest"
	"sixin4/tun/ifcfg"
	"sixin4/tun/nstest"
)

// beTspd makes this test binary play tspd itself.
const beTspd = "TSPD_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(beTspd) != "" {
		main()
	}
	nstest.Main(m)
}

// broker is a `tspd serve` that a test started.
type broker struct {
	t      *testing.T
	cmd    *exec.Cmd
	stderr bytes.Buffer
	stdout *bufio.Reader
	ready  string // its line
}

// serveIn starts tspd in a namespace, and waits for its line or its end.
func serveIn(t *testing.T, ns *nstest.NS, args ...string) *broker {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &broker{t: t, cmd: exec.Command(self, append([]string{"serve"}, args...)...)}
	b.cmd.Env = programtest.Environ(beTspd + "=1")
	b.cmd.Stderr = &b.stderr
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.Start(b.cmd); err != nil {
		t.Fatal(err)
	}
	hung := time.AfterFunc(time.Minute, func() { _ = b.cmd.Process.Kill() })
	t.Cleanup(func() { hung.Stop() })
	b.stdout = bufio.NewReader(out)
	b.ready, _ = b.stdout.ReadString('\n') // without one it has ended
	return b
}

// code waits for the end.
func (b *broker) code() int {
	_ = b.cmd.Wait() // the status says more
	return b.cmd.ProcessState.ExitCode()
}

// stop ends it by SIGTERM.
func (b *broker) stop() {
	b.t.Helper()
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.t.Fatal(err)
	}
	if code := b.code(); code != exit.OK {
		b.t.Errorf("exit status %d, standard error:\n%s", code, b.stderr.String())
	}
}

// namespace is one with an address and a default route.
func namespace(t *testing.T) *nstest.Topology {
	t.Helper()
	nstest.Need(t)
	topo, err := nstest.Pair()
	if err == nil {
		err = topo.B.AddRoute("0.0.0.0/0", topo.AddrA.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := topo.Close(); err != nil {
			t.Error(err)
		}
	})
	return topo
}

// queueOf is how many packets may wait for an interface.
func queueOf(t *testing.T, name string) uint32 {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(name)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFTXQLEN, r)
	}
	if err != nil {
		t.Error(err)
		return 0
	}
	return r.Uint32()
}

// TestServe: with nothing but a prefix it listens at the default route's address,
// makes its files, and the other commands work beside it.
func TestServe(t *testing.T) {
	d, topo := newDesk(t), namespace(t)
	file := d.write("tspd.toml", "state = \""+d.path("new/tspd.db")+"\"\nsocket = \""+d.path("s")+"\"\niterations = 4096\n")
	b := serveIn(t, topo.B, "--config", file, "--prefix", "2001:db8:1000::/36")
	if want := "ready: tspd " + topo.AddrB.String() + ":3653 prefix 2001:db8:1000::/36\n"; b.ready != want {
		b.code()
		t.Fatalf("line %q, want %q; standard error:\n%s", b.ready, want, b.stderr.String())
	}
	if err := topo.B.Do(func() error {
		way, err := ifcfg.RouteTo(netip.MustParseAddr("2001:db8:1fff::1"))
		if way.Interface != "tspd0" || way.Gateway != netip.MustParseAddr("fe80::1") {
			t.Errorf("the pool is routed by %+v, want tspd0 by way of one neighbour", way)
		}
		if n := queueOf(t, "tspd0"); n != 4096 {
			t.Errorf("%d packets may wait for the broker, want 4096", n)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	t.Setenv("SIXIN4_PASSWORD", password)
	code, stdout, stderr := tspd("user", "add", "alice", "--legacy-login", "--config", file)
	if code != exit.OK || !strings.HasSuffix(stdout, "encrypted with "+d.path("new/tspd.key")+"\n") {
		t.Errorf("user add: %d, %q, %s", code, stdout, stderr)
	}
	if code, stdout, _ := tspd("user", "list", "--config", file); code != exit.OK || !strings.Contains(stdout, "alice") {
		t.Errorf("user list: %d, %q", code, stdout)
	}
	status, err := control.Get(context.Background(), d.path("s"))
	if err != nil || len(status.Tunnels) != 1 || status.Tunnels[0].Name != "tspd0" {
		t.Errorf("status: %+v, %v", status, err)
	}
	for _, step := range []struct{ option, reason string }{{"--off=false", "draining: no new tunnels"}, {"--off", ""}} {
		if code, _, stderr := tspd("drain", step.option, "--socket", d.path("s")); code != exit.OK {
			t.Errorf("drain %s: %d, %s", step.option, code, stderr)
		}
		status, err := control.Get(context.Background(), d.path("s"))
		if err != nil || status.Tunnels[0].Reason != step.reason {
			t.Errorf("status after drain %s: %+v, %v; want reason %q", step.option, status, err, step.reason)
		}
	}
	b.stop()
	if code, _, stderr := tspd("drain", "--socket", d.path("s")); code != exit.NotRunning || !strings.Contains(stderr, "no broker runs") {
		t.Errorf("drain of nothing: %d, %s; want %d", code, stderr, exit.NotRunning)
	}
}

// TestServeReload: a hangup has the file read again; the users are still there.
func TestServeReload(t *testing.T) {
	d, topo := newDesk(t), namespace(t)
	const text = "prefix = \"2001:db8:1000::/36\"\niterations = 4096\n"
	more := "state = \"" + d.path("tspd.db") + "\"\nsocket = \"" + d.path("s") + "\"\n"
	file := d.write("tspd.toml", text+more)
	b := serveIn(t, topo.B, "--config", file)
	t.Setenv("SIXIN4_PASSWORD", password)
	if code, _, stderr := tspd("user", "add", "alice", "--config", file); code != exit.OK {
		t.Errorf("user add: %d, %s", code, stderr)
	}
	listen := topo.AddrB.String() + ":3700"
	d.write("tspd.toml", "listen = [\""+listen+"\"]\n"+text+more)
	if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	ready, err := b.stdout.ReadString('\n')
	if want := "ready: tspd " + listen + " prefix 2001:db8:1000::/36\n"; ready != want {
		t.Errorf("after the hangup: line %q, %v, want %q", ready, err, want)
	}
	if code, stdout, stderr := tspd("user", "list", "--config", file); code != exit.OK || !strings.Contains(stdout, "alice") {
		t.Errorf("user list: %d, %q, %s", code, stdout, stderr)
	}
	b.stop()
}

// TestServeRefused: what the configuration cannot know.
func TestServeRefused(t *testing.T) {
	d, topo := newDesk(t), namespace(t)
	d.write("file", "")
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"not an address of this host", []string{"--listen", "192.0.2.99"}, exit.Usage, "--listen 192.0.2.99: "},
		{"no database", []string{"--state", d.path("file/tspd.db")}, exit.Failure, d.path("file")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"--prefix", "2001:db8:1000::/36", "--socket", d.path("s"), "--state", d.path("tspd.db")}, tt.args...)
			b := serveIn(t, topo.B, args...)
			code := b.code()
			if code != tt.code || !strings.Contains(b.stderr.String(), tt.want) || b.ready != "" {
				t.Errorf("%d, %q, %s", code, b.ready, b.stderr.String())
			}
		})
	}
}
