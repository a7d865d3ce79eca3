package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sixin4/cmd/internal/control"
	"sixin4/cmd/internal/exit"
	"sixin4/tun/nstest"
)

// socketIn returns the path of a control socket in a directory of the test.
func socketIn(t testing.TB, name string) string {
	return filepath.Join(t.TempDir(), name+".sock")
}

// ask returns the one tunnel behind a control socket.
func ask(t testing.TB, socket string) control.Tunnel {
	t.Helper()
	s, err := control.Get(context.Background(), socket)
	if err != nil || len(s.Tunnels) != 1 {
		t.Fatalf("status: %v, %v", s, err)
	}
	return s.Tunnels[0]
}

func TestUp(t *testing.T) {
	topo := pair(t)
	before := dump(t, topo.A)
	socket := socketIn(t, "six0")
	began := time.Now()
	p := start(t, topo.A, "main", "up", "--remote", "192.0.2.2", "--name", "six0", "--socket", socket,
		"--address", "2001:db8::2/64", "--address", "2001:db8:1::2/128", "--route", "::/0", "--route", "2001:db8:5::/48")
	if got, want := p.ready(), "ready: six0 192.0.2.1 -> 192.0.2.2 mtu 1480"; got != want {
		t.Errorf("ready line %q, want %q", got, want)
	}
	now := dump(t, topo.A)
	for _, want := range []string{
		"six0 tuntap mtu 1480 up|", "fe80::c000:201/64", "2001:db8::2/64", "2001:db8:1::2/128", "route ::/0 ", "route 2001:db8:5::/48 ",
	} {
		if !strings.Contains(now, want) {
			t.Errorf("no %q in\n%s", want, now)
		}
	}
	if n := strings.Count(now, "fe80::") - strings.Count(before, "fe80::"); n != 3 { // address, its local route, its prefix
		t.Errorf("%d entries with link-local addresses more than before, want 3:\n%s", n, now)
	}
	s := ask(t, socket)
	if s.Since.Before(began.Add(-time.Second)) || s.Since.After(time.Now()) {
		t.Errorf("since %v, began %v", s.Since, began)
	}
	if s.Work == nil {
		t.Error("status without the work done")
	}
	if s.ICMP == nil {
		t.Error("status without the ICMPv4 errors")
	}
	if s.Wire != "raw" && s.Wire != "packet" && s.Wire != "bpf" { // as fits this host, by default
		t.Errorf("wire %q, want raw, packet or bpf", s.Wire)
	}
	s.Wire = ""
	s.Since, s.Tx, s.Rx, s.Drops, s.Work, s.ICMP = time.Time{}, control.Count{}, control.Count{}, nil, nil, nil
	s.Peers[0].Tx, s.Peers[0].Rx = control.Count{}, control.Count{}
	if want := (control.Tunnel{
		Name: "six0", Mode: "static", State: "up", Local: "192.0.2.1", Remote: "192.0.2.2",
		Addresses: []string{"2001:db8::2/64", "2001:db8:1::2/128"}, MTU: 1480,
		Peers: []control.Peer{{Remote: "192.0.2.2", Prefixes: []string{"::/0"}, MTU: 1480}},
	}); !reflect.DeepEqual(s, want) {
		t.Errorf("status:\n got %+v\nwant %+v", s, want)
	}
	p.stop()
	sameAs(t, topo.A, before)
	if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket after the end: %v", err)
	}
	if got := p.stdout.text(); strings.Count(got, "\n") != 1 {
		t.Errorf("standard output is more than the ready line: %q", got)
	}
}

func TestSignalsUndo(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(unix.SignalName(s), func(t *testing.T) {
			topo := pair(t)
			before := dump(t, topo.A)
			p := start(t, topo.A, "main", "up", "--remote", "192.0.2.2", "--address", "2001:db8::2/64",
				"--route", "::/0", "--socket", socketIn(t, "s"))
			p.ready()
			p.signal(s)
			if code := p.code(); code != exit.OK {
				t.Errorf("exit status %d, want 0", code)
			}
			sameAs(t, topo.A, before)
		})
	}
}

// TestAnotherSignalExitsAtOnce: whoever does not want to wait for the end.
func TestAnotherSignalExitsAtOnce(t *testing.T) {
	nstest.Need(t)
	p := start(t, nstest.Open(t), "hang")
	p.ready()
	p.signal(syscall.SIGTERM)
	p.await(p.stdout, "stopping")
	ended := make(chan int)
	go func() { ended <- p.code() }()
	again := time.NewTicker(100 * time.Millisecond) // at first they are taken for the same wish
	defer again.Stop()
	for {
		select {
		case <-again.C:
			_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only when it has ended
			continue
		case code := <-ended:
			if code != exit.Failure {
				t.Errorf("exit status %d, want %d", code, exit.Failure)
			}
		}
		return
	}
}

func TestErrorHalfWayUndoes(t *testing.T) {
	topo := pair(t)
	must(t, topo.A.AddRoute("2001:db8:5::/48", "lo"))
	before := dump(t, topo.A)
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	tests := []struct {
		name, want string
		args       []string
	}{
		{"route exists", "2001:db8:5::/48", []string{"--socket", socketIn(t, "s"), "--route", "2001:db8:6::/48", "--route", "2001:db8:5::/48"}},
		{"socket is a file", "sixin4: control socket " + file + ": exists and is not a socket", []string{"--socket", file, "--route", "::/0"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"up", "--remote", "192.0.2.2", "--address", "2001:db8::2/64"}, tt.args...)
			p := start(t, topo.A, "main", args...)
			if code := p.code(); code != exit.Failure {
				t.Errorf("exit status %d, want %d", code, exit.Failure)
			}
			if got := p.stderr.text(); !strings.Contains(got, tt.want) || strings.Count(got, "\nsixin4: ") > 1 {
				t.Errorf("standard error %q, want one line with %q", got, tt.want)
			}
			if p.stdout.text() != "" {
				t.Errorf("standard output %q, want none", p.stdout.text())
			}
			sameAs(t, topo.A, before)
		})
	}
}

func TestKilledAndStartedAgain(t *testing.T) {
	topo := pair(t)
	before := dump(t, topo.A)
	socket := socketIn(t, "six0")
	args := []string{"up", "--remote", "192.0.2.2", "--address", "2001:db8::2/64", "--name", "six0", "--socket", socket}
	p := start(t, topo.A, "main", args...)
	p.ready()
	p.signal(syscall.SIGKILL)
	p.code()
	sameAs(t, topo.A, before)
	if _, err := os.Lstat(socket); err != nil {
		t.Errorf("the killed process leaves its socket: %v", err)
	}
	p = start(t, topo.A, "main", args...)
	p.ready()
	ask(t, socket)

	running := dump(t, topo.A)
	second := start(t, topo.A, "main", "up", "--remote", "192.0.2.2", "--name", "six1", "--socket", socket)
	if code := second.code(); code != exit.Failure {
		t.Errorf("second process on a live socket: exit status %d, want %d", code, exit.Failure)
	}
	want := "sixin4: control socket " + socket + ": a tunnel is running on this socket already\n"
	if got := second.stderr.text(); !strings.HasSuffix(got, want) {
		t.Errorf("second process: %q, want %q", got, want)
	}
	sameAs(t, topo.A, running)
	ask(t, socket)
	p.stop()
	sameAs(t, topo.A, before)
}

func TestTwoTunnelsAtOnce(t *testing.T) {
	topo := pair(t)
	before := dump(t, topo.A)
	a := start(t, topo.A, "main", "up", "--remote", "192.0.2.2", "--address", "2001:db8::2/64", "--socket", socketIn(t, "a"))
	if got, want := a.ready(), "ready: sixin4-0 192.0.2.1 -> 192.0.2.2 mtu 1480"; got != want {
		t.Errorf("first: %q, want %q", got, want)
	}
	b := start(t, topo.A, "main", "up", "--remote", "192.0.2.3", "--address", "2001:db8:1::2/64", "--socket", socketIn(t, "b"))
	if got, want := b.ready(), "ready: sixin4-1 192.0.2.1 -> 192.0.2.3 mtu 1480"; got != want {
		t.Errorf("second: %q, want %q", got, want)
	}
	a.stop()
	b.stop()
	sameAs(t, topo.A, before)
}

func TestHub(t *testing.T) {
	topo := pair(t)
	socket := socketIn(t, "hub0")
	p := start(t, topo.A, "main", "up", "--name", "hub0", "--socket", socket, "--address", "2001:db8::1/64",
		"--peer", "192.0.2.2=2001:db8:1::/48", "--peer", "192.0.2.3=2001:db8:2::/48,2001:db8:3::/48", "--route", "2001:db8::/32")
	if got, want := p.ready(), "ready: hub0 192.0.2.1 -> 2 peers mtu 1480"; got != want {
		t.Errorf("ready line %q, want %q", got, want)
	}
	s := ask(t, socket)
	text, err := json.Marshal(s.Peers)
	must(t, err)
	zero := `"tx":{"packets":0,"bytes":0},"rx":{"packets":0,"bytes":0}`
	want := `[{"remote":"192.0.2.2","prefixes":["2001:db8:1::/48"],"mtu":1480,` + zero + `},` +
		`{"remote":"192.0.2.3","prefixes":["2001:db8:2::/48","2001:db8:3::/48"],"mtu":1480,` + zero + `}]`
	if string(text) != want || s.Remote != "" {
		t.Errorf("remote %q, peers:\n got %s\nwant %s", s.Remote, text, want)
	}
	p.stop()
}

// TestUserNamespace runs as root of a user namespace that is nobody outside.
func TestUserNamespace(t *testing.T) {
	nstest.Need(t)
	p := prepare(t, "lo-has-peer", "up", "--remote", "192.0.2.2", "--address", "2001:db8::2/64",
		"--name", "six0", "--socket", socketIn(t, "s"))
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	if err := p.cmd.Start(); err != nil {
		t.Skipf("needs user namespaces: %v", err)
	}
	if got, want := p.ready(), "ready: six0 192.0.2.1 -> 192.0.2.2 mtu 65515"; got != want {
		t.Errorf("ready line %q, want %q", got, want)
	}
	p.stop()
}
