package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sixin4/cmd/internal/exit"
	"sixin4/tun/nstest"
)

// TestReload: a hangup has the file read again. What is wrong in it changes nothing, and
// with what does not work here the tunnel is as it was.
func TestReload(t *testing.T) {
	topo := pair(t)
	before := dump(t, topo.A)
	file := filepath.Join(t.TempDir(), "six.toml")
	write := func(text string) { must(t, os.WriteFile(file, []byte(text), 0o600)) }
	const always = "remote = \"192.0.2.2\"\naddress = [\"2001:db8::2/64\"]\nroute = [\"::/0\"]\n"
	write(always + "mtu = 1400\n")
	p := start(t, topo.A, "main", "up", "--config", file, "--name", "six0", "--socket", socketIn(t, "s"))
	p.await(p.stdout, "mtu 1400")

	write(always + "mtu = 1300\n")
	p.signal(syscall.SIGHUP)
	p.await(p.stderr, "the configuration has changed")
	p.await(p.stdout, "mtu 1300")

	p.signal(syscall.SIGHUP)
	p.await(p.stderr, "nothing in it has changed")

	write(always + "mtu = 12\n")
	p.signal(syscall.SIGHUP)
	if line := p.await(p.stderr, "the configuration stays as it was"); !strings.Contains(line, "mtu") || !strings.Contains(line, "12") {
		t.Errorf("the log does not name what is wrong: %s", line)
	}

	write(always + "local = \"198.51.100.77\"\n") // no address of this host
	p.signal(syscall.SIGHUP)
	p.await(p.stderr, "the one before is used again")
	p.await(p.stdout, "mtu 1300")

	p.stop()
	sameAs(t, topo.A, before)
}

// TestNoHangup: what nohup started outlives its terminal.
func TestNoHangup(t *testing.T) {
	nstest.Need(t)
	self, err := os.Executable()
	must(t, err)
	p := prepare(t, "hang")
	p.cmd.Args = []string{"sh", "-c", `trap "" HUP; exec "$0"`, self}
	p.cmd.Path = "/bin/sh"
	must(t, nstest.Open(t).Start(p.cmd))
	p.ready()
	p.signal(syscall.SIGHUP)
	p.signal(syscall.SIGTERM)
	p.await(p.stdout, "stopping")
	must(t, p.cmd.Process.Kill())
	if code := p.code(); code == exit.OK {
		t.Error("the program that hangs ended by itself")
	}
}
