package main

import (
	"net"
	"strings"
	"syscall"
	"testing"

	"sixin4/cmd/internal/control"
	"sixin4/tun/nstest"
)

const insideA, insideB = "2001:db8::1", "2001:db8::2"

// tunnelIn starts a tunnel with an address inside; everything goes through the engine,
// so that each packet is counted by it.
func tunnelIn(t *testing.T, ns *nstest.NS, name, socket, inside, remote string, more ...string) *process {
	t.Helper()
	args := append([]string{"up", "--name", name, "--socket", socket, "--remote", remote, "--address", inside + "/64", "--wire", "raw"}, more...)
	p := start(t, ns, "main", args...)
	p.ready()
	return p
}

// two are the two ends of a tunnel between the hosts of a topology, six0 and six1.
type two struct {
	topo             *nstest.Topology
	a, b             *process
	socketA, socketB string
}

// connected starts both ends; more is for A.
func connected(t *testing.T, topo *nstest.Topology, more ...string) *two {
	t.Helper()
	w := &two{topo: topo, socketA: socketIn(t, "six0"), socketB: socketIn(t, "six1")}
	w.a = tunnelIn(t, topo.A, "six0", w.socketA, insideA, topo.AddrB.String(), more...)
	w.farEnd(t, topo.AddrA.String())
	return w
}

// farEnd starts the end at B.
func (w *two) farEnd(t *testing.T, remote string, more ...string) {
	t.Helper()
	w.b = tunnelIn(t, w.topo.B, "six1", w.socketB, insideB, remote, more...)
}

func (w *two) stream(t *testing.T) *stream {
	t.Helper()
	s := newStream(t, w.topo.A, w.topo.B, insideB)
	s.goesOn()
	return s
}

// finish ends a transfer and both ends of the tunnel, whose counters must add up.
func (w *two) finish(t *testing.T, s *stream) {
	t.Helper()
	s.end()
	addsUp(t, w.topo.A, "six0", w.socketA)
	addsUp(t, w.topo.B, "six1", w.socketB)
	w.a.stop()
	w.b.stop()
}

// TestMovesWithAddress: another local address, and the far end hears of it as from a broker.
func TestMovesWithAddress(t *testing.T) {
	topo := pair(t)
	w := connected(t, topo)
	s := w.stream(t)
	index := indexOf(t, topo.A, "six0")
	must(t, topo.A.DelAddr(topo.LinkA, "192.0.2.1/24"))
	must(t, topo.A.AddAddr(topo.LinkA, "192.0.2.9/24"))
	w.a.await(w.a.stderr, "the tunnel has moved\" name=six0 local=192.0.2.9 was=192.0.2.1")
	addsUp(t, topo.B, "six1", w.socketB)
	w.b.stop()
	w.farEnd(t, "192.0.2.9")
	s.goesOn()
	if now := indexOf(t, topo.A, "six0"); now != index {
		t.Errorf("interface index %d, want %d as before", now, index)
	}
	if text := dump(t, topo.A); !strings.Contains(text, "fe80::c000:209/64") || strings.Contains(text, "fe80::c000:201/64") {
		t.Errorf("the link-local address is not that of the new end:\n%s", text)
	}
	if st := ask(t, w.socketA); st.State != "up" || st.Local != "192.0.2.9" || st.Moves != 1 {
		t.Errorf("status: %s at %s after %d moves, want up at 192.0.2.9 after 1", st.State, st.Local, st.Moves)
	}
	w.finish(t, s)
}

func indexOf(t *testing.T, ns *nstest.NS, name string) (index int) {
	t.Helper()
	must(t, ns.Do(func() error {
		link, err := net.InterfaceByName(name)
		if err == nil {
			index = link.Index
		}
		return err
	}))
	return index
}

// uplinks gives A and B a second link, 203.0.113.1 on a1 and 203.0.113.2 on b1, and B
// the address 198.51.100.9, which is on neither.
func uplinks(t *testing.T) *nstest.Topology {
	t.Helper()
	topo := pair(t)
	must(t, nstest.Link(topo.A, "a1", topo.B, "b1"))
	must(t, topo.A.AddAddr("a1", "203.0.113.1/24"))
	must(t, topo.B.AddAddr("b1", "203.0.113.2/24"))
	must(t, topo.B.AddAddr("lo", "198.51.100.9/32"))
	must(t, topo.B.Sysctl("net/ipv4/conf/all/rp_filter", "0"))
	return topo
}

// TestMovesToAnotherLink: the interface that packets leave by goes away.
func TestMovesToAnotherLink(t *testing.T) {
	topo := uplinks(t)
	must(t, topo.A.AddRoute("198.51.100.9/32", "192.0.2.2"))
	w := &two{topo: topo, socketA: socketIn(t, "six0"), socketB: socketIn(t, "six1")}
	w.a = tunnelIn(t, topo.A, "six0", w.socketA, insideA, "198.51.100.9")
	w.farEnd(t, "192.0.2.1", "--local", "198.51.100.9")
	s := w.stream(t)
	must(t, topo.A.SetDown(topo.LinkA))
	w.a.await(w.a.stderr, "peer cannot be reached")
	must(t, topo.A.AddRoute("198.51.100.9/32", "203.0.113.2"))
	w.a.await(w.a.stderr, "the tunnel has moved\" name=six0 local=203.0.113.1 was=192.0.2.1")
	w.b.stop()
	w.farEnd(t, "203.0.113.1", "--local", "198.51.100.9")
	s.goesOn()
	w.finish(t, s)
}

// TestFixedLocalWaits: an address that was given is the one and only.
func TestFixedLocalWaits(t *testing.T) {
	t.Parallel()
	topo := pair(t)
	w := connected(t, topo, "--local", "192.0.2.1")
	s := w.stream(t)
	must(t, topo.A.AddAddr(topo.LinkA, "192.0.2.9/24"))
	must(t, topo.A.DelAddr(topo.LinkA, "192.0.2.1/24"))
	w.a.await(w.a.stderr, "192.0.2.1 is no address of this host any more")
	s.stalls()
	if st := ask(t, w.socketA); st.State != "down" || st.Local != "192.0.2.1" {
		t.Errorf("status: %s at %s; want down at 192.0.2.1", st.State, st.Local)
	}
	must(t, topo.A.AddAddr(topo.LinkA, "192.0.2.1/24"))
	w.a.await(w.a.stderr, "peer can be reached again")
	s.goesOn()
	w.finish(t, s)
}

// TestPeerRestart: the far end is killed, and comes back.
func TestPeerRestart(t *testing.T) {
	t.Parallel()
	topo := pair(t)
	w := connected(t, topo)
	s := w.stream(t)
	w.b.signal(syscall.SIGKILL)
	w.b.code()
	s.stalls()
	w.farEnd(t, topo.AddrA.String())
	s.goesOn()
	w.finish(t, s)
}

// TestLinkDown: the link is away for as long as TCP needs to notice, twice.
func TestLinkDown(t *testing.T) {
	t.Parallel()
	topo := pair(t)
	w := connected(t, topo)
	s := w.stream(t)
	must(t, topo.A.SetDown(topo.LinkA))
	w.a.await(w.a.stderr, "peer cannot be reached")
	s.stalls()
	must(t, topo.A.SetUp(topo.LinkA))
	w.a.await(w.a.stderr, "peer can be reached again")
	s.goesOn()
	w.finish(t, s)
}

// TestQueueOverflow: the queues of either end run over while its process is stopped.
func TestQueueOverflow(t *testing.T) {
	topo := pair(t)
	w := connected(t, topo)
	s := w.stream(t)
	thaw := w.a.freeze()
	flood(t, topo.A, insideB, 3000, func() bool {
		k, err := topo.A.LinkStats("six0")
		must(t, err)
		return k.TxDropped > 0
	})
	thaw()
	s.goesOn()
	thaw = w.b.freeze()
	flood(t, topo.A, insideB, 100_000, never)
	thaw()
	s.goesOn()
	askUntil(t, w.socketB, func(s control.Tunnel) bool { return s.Drops["wire-overflow"] > 0 })
	w.finish(t, s)
}

// flood sends up to n datagrams to an address in the tunnel, until enough is true.
func flood(t testing.TB, ns *nstest.NS, inside string, n int, enough func() bool) {
	t.Helper()
	var c net.Conn
	must(t, ns.Do(func() (err error) { c, err = net.Dial("udp6", "["+inside+"]:9"); return err }))
	defer c.Close()
	data := make([]byte, 1000)
	for i := range n {
		_, _ = c.Write(data) // the queue is full, sooner or later: that is what is wanted
		if i%100 == 0 && enough() {
			return
		}
	}
}

func never() bool { return false }

// TestBindInterface: two ways out, of which only the one is used that the routes would not
// choose; and it may be made anew.
func TestBindInterface(t *testing.T) {
	topo := uplinks(t)
	must(t, topo.A.AddRoute("198.51.100.9/32", "192.0.2.2"))
	must(t, topo.A.AddRoute("198.51.100.0/24", "203.0.113.2"))
	w := &two{topo: topo, socketA: socketIn(t, "six0"), socketB: socketIn(t, "six1")}
	w.a = tunnelIn(t, topo.A, "six0", w.socketA, insideA, "198.51.100.9", "--bind-interface", "a1")
	if st := ask(t, w.socketA); st.Local != "203.0.113.1" {
		t.Fatalf("the tunnel is at %s, want 203.0.113.1", st.Local)
	}
	w.farEnd(t, "203.0.113.1", "--local", "198.51.100.9")
	before, err := topo.A.LinkStats(topo.LinkA)
	must(t, err)
	s := w.stream(t)
	after, err := topo.A.LinkStats(topo.LinkA)
	must(t, err)
	if n := after.TxPackets - before.TxPackets; n > 20 {
		t.Errorf("%d packets left by the other interface", n)
	}
	must(t, topo.A.DelLink("a1"))
	w.a.await(w.a.stderr, "peer cannot be reached")
	must(t, nstest.Link(topo.A, "a1", topo.B, "b1"))
	must(t, topo.A.AddAddr("a1", "203.0.113.1/24"))
	must(t, topo.B.AddAddr("b1", "203.0.113.2/24"))
	must(t, topo.A.AddRoute("198.51.100.0/24", "203.0.113.2"))
	w.a.await(w.a.stderr, "the interface is a new one")
	s.goesOn()
	w.finish(t, s)
}
