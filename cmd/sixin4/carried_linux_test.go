package main

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"sixin4/cmd/internal/control"
	"sixin4/tun/nstest"
)

// The tests of tunnels in UDP that the kernel carries, from program to program through a
// NAT that gives each flow another port.

// carried is a broker behind such a NAT that is told to have its tunnels carried by the
// kernel, and what the two ends send to the NAT.
type carried struct {
	*natted
	up, down *watch
}

func newCarried(t *testing.T) *carried {
	t.Helper()
	if _, err := probe(t, nstest.Open(t)); err != nil {
		t.Skipf("kernel feature: TCX: %v", err)
	}
	c := &carried{natted: behindNAT(t, "wire", "bpf")}
	must(t, c.nat.AddNAT(nstest.NAT{Link: nstest.LinkRB, Random: true}))
	c.up, c.down = watchAt(t, c.nat, nstest.LinkRA), watchAt(t, c.nat, nstest.LinkRB)
	return c
}

// member is a client of the broker.
type member struct {
	*process
	ns             *nstest.NS
	inside, socket string
}

// join starts a client in a namespace.
func (c *carried) join(ns *nstest.NS, wire string) *member {
	c.t.Helper()
	m := &member{ns: ns, socket: socketIn(c.t, "six0")}
	m.process = start(c.t, ns, "main", "connect", "--server", c.far, "--name", "six0", "--socket", m.socket,
		"--mode", "v6udpv4", "--wire", wire, "--keepalive", "30s")
	line := strings.Fields(m.ready())
	if len(line) < 8 || line[2] != "v6udpv4" {
		c.t.Fatalf("line %q, want a tunnel in UDP", line)
	}
	m.inside = line[7]
	return m
}

// uses waits until the status of a client says that its packets go by a wire.
func (m *member) uses(wire string) {
	m.t.Helper()
	saysWire(m.t, m.socket, wire)
}

// saysWire waits for a status with this wire. While the kernel takes programs in there is
// none, which takes some time on a busy machine.
func saysWire(t testing.TB, socket, wire string) {
	t.Helper()
	nstest.Eventually(t, patience, "wire "+wire, func() bool {
		s, err := control.Get(t.Context(), socket)
		return err == nil && len(s.Tunnels) == 1 && s.Tunnels[0].Wire == wire
	})
}

// inKernel waits until both ends say that the kernel carries, and until it does, which takes
// what has words go there and back.
func (c *carried) inKernel(m *member, talk func()) {
	c.t.Helper()
	m.uses("bpf")
	saysWire(c.t, c.dir+"/tspd.sock", "bpf")
	c.up.look()
	c.down.look()
	var out, back int
	nstest.Eventually(c.t, patience, "the kernel carries TCP both ways", func() bool {
		talk()
		out, back = out+c.up.look().tcp, back+c.down.look().tcp
		return out > 0 && back > 0
	})
}

// both moves some megabytes between a client and an address at the broker or behind it,
// there and back.
func (m *member) both(there *nstest.NS, inside string) {
	m.t.Helper()
	arrives(m.t, m.ns, there, inside)
	arrives(m.t, there, m.ns, m.inside)
}

// arrives moves some megabytes by TCP to an address, and compares digests.
func arrives(t testing.TB, from, to *nstest.NS, inside string) {
	t.Helper()
	const size = 4 << 20
	type result struct {
		digest [sha256.Size]byte
		err    error
	}
	var l net.Listener
	var c net.Conn
	must(t, to.Do(func() (err error) { l, err = net.Listen("tcp6", "["+inside+"]:0"); return err }))
	defer l.Close()
	got := make(chan result, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			got <- result{err: err}
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience)) // fails only when it is closed
		all, err := io.ReadAll(conn)
		got <- result{sha256.Sum256(all), err}
	}()
	must(t, from.Do(func() (err error) {
		c, err = (&net.Dialer{Timeout: patience}).Dial("tcp6", l.Addr().String())
		return err
	}))
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(patience)))
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{6, 4}).Read(data) // never fails
	if _, err := c.Write(data); err != nil {
		t.Fatalf("to %s: %v", inside, err)
	}
	must(t, c.(*net.TCPConn).CloseWrite())
	if r := nstest.Within(t, patience, "the end of a transfer", got); r.err != nil || r.digest != sha256.Sum256(data) {
		t.Fatalf("to %s: %v, or the digest is another than that of what was sent", inside, r.err)
	}
}

// oneSession wants no tunnel to have been made anew.
func (m *member) oneSession() {
	m.t.Helper()
	if n := strings.Count(m.stderr.text(), "tunnel is up"); n != 1 {
		m.t.Errorf("%d sessions, want 1:\n%s", n, m.stderr.text())
	}
}

// end stops clients that had one session each, and then the broker.
func (c *carried) end(members ...*member) {
	c.t.Helper()
	for _, m := range members {
		m.oneSession()
		m.stop()
	}
	c.process.stop()
}

// TestCarriedNAT: the NAT forgets all it knows under a transfer. The tunnel moves, the
// transfer goes on, and the kernel carries at both ends as before.
func TestCarriedNAT(t *testing.T) {
	t.Parallel()
	c := newCarried(t)
	a := c.join(c.topo.A, "bpf")
	s := newStream(t, a.ns, c.topo.B, brokerInside)
	c.inKernel(a, s.goesOn)
	a.both(c.topo.B, brokerInside)
	for range 2 {
		must(t, c.nat.FlushNAT())
		c.process.await(c.process.stderr, "tunnel has moved with its client")
		s.goesOn()
		c.inKernel(a, s.goesOn)
	}
	a.both(c.topo.B, brokerInside)
	s.end()
	c.end(a)
}

// TestCarriedBrokerKilled: transfers to the broker and to a host behind it go on when the
// broker is killed and started again, and the kernel carries at both ends as before.
func TestCarriedBrokerKilled(t *testing.T) {
	t.Parallel()
	c := newCarried(t)
	third := c.behind()
	a := c.join(c.topo.A, "bpf")
	near, far := newStream(t, a.ns, c.topo.B, brokerInside), newStream(t, a.ns, third, thirdInside)
	c.inKernel(a, near.goesOn)
	far.goesOn()
	c.process.signal(syscall.SIGKILL)
	c.process.code()
	c.begin("wire", "bpf")
	near.goesOn()
	far.goesOn()
	c.inKernel(a, near.goesOn)
	near.end()
	far.end()
	a.both(third, thirdInside)
	c.end(a)
}

// swallowed is what an end says when nobody has answered its trial.
const swallowed = `level=INFO msg="datagrams without a checksum do not arrive: the kernel does not carry this tunnel"`

// TestCarriedSwallowed: a router on the way drops datagrams without a UDP checksum, and no
// packet but those of the trial is among them.
func TestCarriedSwallowed(t *testing.T) {
	for _, tt := range []struct {
		name  string
		links []string // of the NAT, at which the router drops what comes in
		wire  string   // of the client
	}{
		{"both ways", []string{nstest.LinkRA, nstest.LinkRB}, "udp"},
		{"to the client", []string{nstest.LinkRB}, "bpf"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCarried(t)
			for _, link := range tt.links {
				dropBare(t, c.nat, link)
			}
			a := c.join(c.topo.A, "bpf")
			l := c.echoes()
			talk := c.wordOver(a.ns, l)
			talk()
			c.process.await(c.process.stderr, swallowed)
			if tt.wire == "udp" {
				a.await(a.stderr, swallowed)
			}
			a.uses(tt.wire)
			a.both(c.topo.B, brokerInside)
			talk()
			a.uses(tt.wire)
			if down := c.down.look(); down.tcp > 0 || down.asks == 0 {
				t.Errorf("the broker sent %+v without a checksum, want its trial alone", down)
			}
			if up := c.up.look(); up.tcp > 0 != (tt.wire == "bpf") || up.asks == 0 {
				t.Errorf("the client sent %+v without a checksum", up)
			}
			c.end(a)
		})
	}
}

// TestCarriedTrialDuringChange: while a trial of the broker runs, its network changes, for
// which the kernel's programs are taken off again and again. Requests that the engine has
// sent meanwhile say nothing about the way, so the trial does not end by them.
func TestCarriedTrialDuringChange(t *testing.T) {
	t.Parallel()
	c := newCarried(t)
	must(t, nstest.Link(c.topo.B, "lan1", c.topo.B, "lan2"))
	lift := dropBare(t, c.nat, nstest.LinkRB) // so that its first request is waited for
	a := c.join(c.topo.A, "bpf")
	c.process.await(c.process.stderr, "packets are carried by the kernel")
	lift()
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < 2*time.Second; <-tick.C {
		must(t, c.topo.B.AddAddr("lan1", "2001:db8:e::1/64"))
		<-tick.C
		must(t, c.topo.B.DelAddr("lan1", "2001:db8:e::1/64"))
	}
	c.inKernel(a, c.wordOver(a.ns, c.echoes()))
	c.end(a)
}

// thirdInside is the address of a host on a network behind the broker.
const thirdInside = "2001:db8:e::2"

// behind makes that host, and begins anew, so that the broker's network is not about to
// change when clients come.
func (c *carried) behind() *nstest.NS {
	c.t.Helper()
	c.process.stop()
	third := nstest.Open(c.t)
	must(c.t, nstest.Link(c.topo.B, "lan1", third, "e0"))
	must(c.t, c.topo.B.Sysctl("net/ipv6/conf/all/forwarding", "1"))
	must(c.t, c.topo.B.AddAddr("lan1", "2001:db8:e::1/64"))
	must(c.t, third.AddAddr("e0", thirdInside+"/64"))
	must(c.t, third.AddRoute("::/0", "2001:db8:e::1"))
	c.begin("wire", "bpf")
	return third
}

// neighbour is another host behind the NAT, by a link of its own called c0.
func (c *carried) neighbour() *nstest.NS {
	c.t.Helper()
	host := nstest.Open(c.t)
	must(c.t, nstest.Link(host, "c0", c.nat, "rc0"))
	must(c.t, host.AddAddr("c0", "203.0.113.1/24"))
	must(c.t, c.nat.AddAddr("rc0", "203.0.113.254/24"))
	must(c.t, host.AddRoute("0.0.0.0/0", "203.0.113.254"))
	return host
}
