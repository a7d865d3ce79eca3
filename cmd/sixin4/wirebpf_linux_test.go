package main

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"sixin4/cmd/internal/control"
	"sixin4/cmd/internal/exit"
	"sixin4/encap/kernelpath"
	"sixin4/tun/nstest"
)

// probe opens a path on a namespace's loopback interface, where it carries nothing.
func probe(t *testing.T, ns *nstest.NS) (p *kernelpath.Path, err error) {
	t.Helper()
	must(t, ns.Do(func() error {
		p, err = kernelpath.Open(kernelpath.Config{Device: 1})
		return nil
	}))
	if err == nil {
		t.Cleanup(func() { must(t, p.Close()) })
	}
	return p, err
}

// fastest is what --wire auto chooses when nothing looks at packets.
func fastest(t *testing.T, ns *nstest.NS) string {
	t.Helper()
	if _, err := probe(t, ns); err != nil {
		t.Logf("no packets carried by the kernel: %v", err)
		return "packet"
	}
	return "bpf"
}

// needKernel skips the test where the kernel cannot carry packets.
func needKernel(t *testing.T, ns *nstest.NS) *kernelpath.Path {
	t.Helper()
	needFree(t, ns)
	p, err := probe(t, ns)
	if err != nil {
		t.Skipf("kernel feature: TCX: %v", err)
	}
	return p
}

// programs is how many of sixin4's programs are at a link's ingress.
func programs(t *testing.T, p *kernelpath.Path, ns *nstest.NS, link string) (n int) {
	t.Helper()
	must(t, ns.Do(func() error {
		i, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		ids, err := p.Programs(i.Index)
		n = len(ids)
		return err
	}))
	return n
}

// talk starts a TCP connection from A to B, and returns what sends n bytes over it and
// waits for them to come back, and what ends it, while there is a tunnel.
func talk(t *testing.T, topo *nstest.Topology) (exchange func(n int), hangUp func()) {
	t.Helper()
	var listener net.Listener
	var client net.Conn
	must(t, topo.B.Do(func() (err error) {
		listener, err = net.Listen("tcp6", "[2001:db8::2]:7")
		return err
	}))
	t.Cleanup(func() { listener.Close() })
	done := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, err = io.Copy(conn, conn)
			conn.Close()
		}
		done <- err
	}()
	must(t, topo.A.Do(func() (err error) {
		client, err = net.DialTimeout("tcp6", "[2001:db8::2]:7", patience)
		return err
	}))
	t.Cleanup(func() { client.Close() })
	hangUp = func() {
		t.Helper()
		must(t, client.Close())
		must(t, nstest.Within(t, patience, "the far end hangs up", done))
	}
	return func(n int) {
		t.Helper()
		must(t, client.SetDeadline(time.Now().Add(patience)))
		sent := make(chan error, 1)
		go func() {
			_, err := client.Write(make([]byte, n))
			sent <- err
		}()
		_, err := io.ReadFull(client, make([]byte, n))
		must(t, errors.Join(err, <-sent))
	}, hangUp
}

// TestWireSwitch: one connection goes on while the wire changes under it, there and back.
func TestWireSwitch(t *testing.T) {
	topo := pair(t)
	needKernel(t, topo.A)
	socket := socketIn(t, "a")
	a := start(t, topo.A, "main", "up", "-v", "--remote", "192.0.2.2", "--address", "2001:db8::1/64", "--socket", socket)
	b := start(t, topo.B, "main", "up", "--remote", "192.0.2.1", "--address", "2001:db8::2/64", "--socket", socketIn(t, "b"))
	a.ready()
	b.ready()
	input, output := nstest.Chain{Family: "ip", Hook: "input"}, nstest.Chain{Family: "ip", Hook: "output"}
	exchange, hangUp := talk(t, topo)
	for _, step := range []struct {
		name   string
		change func(*nstest.NS) error
		kernel bool
	}{
		{"free", func(*nstest.NS) error { return nil }, true},
		{"chain at input", func(ns *nstest.NS) error { return ns.AddChain(input) }, false},
		{"and at output", func(ns *nstest.NS) error { return ns.AddChain(output) }, false},
		{"at output alone", func(ns *nstest.NS) error { return ns.DelChain(input) }, false},
		{"free again", func(ns *nstest.NS) error { return ns.DelChain(output) }, true},
	} {
		must(t, step.change(topo.A))
		exchange(1 << 20) // while it changes
		before := askUntil(t, socket, func(s control.Tunnel) bool { return (s.Wire == "bpf") == step.kernel })
		exchange(1 << 20)
		s := askUntil(t, socket, func(s control.Tunnel) bool { return s.Tx.Bytes >= before.Tx.Bytes+1<<20 })
		if s.Rx.Bytes < before.Rx.Bytes+1<<20 {
			t.Errorf("%s: %d bytes received, want a million more than %d", step.name, s.Rx.Bytes, before.Rx.Bytes)
		}
	}
	hangUp()
	a.stop()
	b.stop()
}

// TestWireKilled: nothing is left at the link when the process is killed.
func TestWireKilled(t *testing.T) {
	topo := pair(t)
	path := needKernel(t, topo.A)
	socket := socketIn(t, "a")
	a := start(t, topo.A, "main", "up", "--remote", "192.0.2.2", "--socket", socket)
	a.ready()
	askUntil(t, socket, func(s control.Tunnel) bool { return s.Wire == "bpf" })
	if n := programs(t, path, topo.A, topo.LinkA); n != 1 {
		t.Errorf("%d programs at the link while it runs, want 1", n)
	}
	a.kill()
	nstest.Eventually(t, patience, "nothing at the link", func() bool { return programs(t, path, topo.A, topo.LinkA) == 0 })
}

// TestWireTwice: two tunnels over one link do not take each other for somebody who looks.
func TestWireTwice(t *testing.T) {
	topo := pair(t)
	path := needKernel(t, topo.A)
	must(t, topo.B.AddAddr(topo.LinkB, "192.0.2.3/24"))
	for _, remote := range []string{"192.0.2.2", "192.0.2.3"} {
		socket := socketIn(t, remote)
		p := start(t, topo.A, "main", "up", "-v", "--remote", remote, "--socket", socket)
		p.ready()
		askUntil(t, socket, func(s control.Tunnel) bool { return s.Wire == "bpf" })
		defer func() {
			p.stop()
			if log := p.stderr.text(); strings.Contains(log, "any more") {
				t.Errorf("it did not stay so:\n%s", log)
			}
		}()
	}
	if n := programs(t, path, topo.A, topo.LinkA); n != 2 {
		t.Errorf("%d programs at the link, want 2", n)
	}
}

// TestWireBPF: whoever asks for it has it past every rule, or a clear error.
func TestWireBPF(t *testing.T) {
	topo := pair(t)
	needKernel(t, topo.A)
	must(t, topo.A.AddChain(nstest.Chain{Family: "ip", Hook: "output", Drop: true}))
	socket := socketIn(t, "a")
	args := []string{"up", "--wire", "bpf", "--remote", "192.0.2.2", "--address", "2001:db8::1/64", "--socket", socket}
	a := start(t, topo.A, "main", args...)
	b := start(t, topo.B, "main", "up", "--remote", "192.0.2.1", "--address", "2001:db8::2/64", "--socket", socketIn(t, "b"))
	a.ready()
	b.ready()
	askUntil(t, socket, func(s control.Tunnel) bool { return s.Wire == "bpf" })
	echo(t, topo, 1000)
	a.stop()
	b.stop()

	refused := start(t, topo.A, "lose-bpf", args...)
	if code, text := refused.code(), refused.stderr.text(); code != exit.Unavailable ||
		!strings.Contains(text, "--wire bpf is not possible here (auto uses what is)") || !strings.Contains(text, "CAP_BPF") {
		t.Errorf("without the capability: exit %d, %q", code, text)
	}
}
