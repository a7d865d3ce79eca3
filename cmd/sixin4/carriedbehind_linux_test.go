package main

import (
	"encoding/binary"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sixin4/cmd/internal/control"
	"sixin4/tun/nstest"
)

// datagramPair opens a UDP socket in each of two hosts.
func datagramPair(t testing.TB, from, to *nstest.NS, source, inside string) (out, in *net.UDPConn) {
	t.Helper()
	for _, end := range []struct {
		ns *nstest.NS
		at string
		c  **net.UDPConn
	}{{from, source, &out}, {to, inside, &in}} {
		must(t, end.ns.Do(func() (err error) {
			*end.c, err = net.ListenUDP("udp6", &net.UDPAddr{IP: net.ParseIP(end.at)})
			return err
		}))
		t.Cleanup(func() { (*end.c).Close() })
	}
	return out, in
}

// datagram is number i, whose bytes all depend on it.
func datagram(i, size int) []byte {
	b := make([]byte, size)
	for k := range b {
		b[k] = byte(i*31 + k)
	}
	binary.BigEndian.PutUint32(b, uint32(i))
	return b
}

// eachArrives sends datagrams from one address to another, a few at a time, each few when
// those before have arrived, and wants each once and as it was sent.
func eachArrives(t testing.TB, from, to *nstest.NS, source, inside string) {
	t.Helper()
	const burst, bursts = 20, 10
	out, in := datagramPair(t, from, to, source, inside)
	must(t, in.SetReadDeadline(time.Now().Add(patience)))
	buf := make([]byte, 2048)
	for b := range bursts {
		size := []int{4, 1000, 1400}[b%3]
		missing := make(map[string]bool)
		for i := range burst {
			d := datagram(b*burst+i, size)
			missing[string(d)] = true
			if _, err := out.WriteTo(d, in.LocalAddr()); err != nil {
				t.Fatalf("from %s to %s: %v", source, inside, err)
			}
		}
		for len(missing) > 0 {
			n, _, err := in.ReadFrom(buf)
			if err != nil || !missing[string(buf[:n])] {
				t.Fatalf("from %s to %s, %d missing: %d bytes of none of them, or %v", source, inside, len(missing), n, err)
			}
			delete(missing, string(buf[:n]))
		}
	}
}

// TestCarriedBehind: a host behind the broker and two clients, of which the kernel carries
// both or one. Everybody hears everybody.
func TestCarriedBehind(t *testing.T) {
	for _, wire := range []string{"bpf", "raw"} { // of the second
		t.Run("bpf and "+wire, func(t *testing.T) {
			t.Parallel()
			c := newCarried(t)
			third := c.behind()
			one, two := c.join(c.topo.A, "bpf"), c.join(c.neighbour(), wire)
			c.inKernel(one, c.wordOver(one.ns, c.echoes()))
			two.uses(map[string]string{"bpf": "bpf", "raw": "udp"}[wire])
			for _, m := range []*member{one, two} {
				arrives(t, m.ns, third, thirdInside)
				arrives(t, third, m.ns, m.inside)
				eachArrives(t, m.ns, third, m.inside, thirdInside)
				c.down.look()
				nstest.Eventually(t, patience, "the kernel carries UDP that is forwarded", func() bool {
					eachArrives(t, third, m.ns, thirdInside, m.inside)
					return c.down.look().udp > 0 == (m == one || wire == "bpf")
				})
			}
			arrives(t, one.ns, two.ns, two.inside)
			arrives(t, two.ns, one.ns, one.inside)
			eachArrives(t, one.ns, two.ns, one.inside, two.inside)
			eachArrives(t, two.ns, one.ns, two.inside, one.inside)
			c.end(one, two)
		})
	}
}

// TestCarriedUnmerged: a client that does not say that it takes merged TCP is sent no
// datagram without a checksum, not even one on trial, while another client is.
func TestCarriedUnmerged(t *testing.T) {
	t.Parallel()
	c := newCarried(t)
	one, two := c.join(c.topo.A, "bpf"), c.join(c.neighbour(), "raw")
	toTwo := watchAt(t, two.ns, "c0")
	c.inKernel(one, c.wordOver(one.ns, c.echoes()))
	two.both(c.topo.B, brokerInside)
	eachArrives(t, c.topo.B, two.ns, brokerInside, two.inside)
	if s := toTwo.look(); s != (seen{}) {
		t.Errorf("the client was sent %+v without a checksum", s)
	}
	two.uses("udp")
	c.end(one, two)
}

// full is how many datagrams a host has lost because the queue of a socket was full.
func full(t testing.TB, ns *nstest.NS) (n int) {
	t.Helper()
	var text []byte
	must(t, ns.Do(func() (err error) { text, err = os.ReadFile("/proc/thread-self/net/snmp"); return err }))
	var names []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if fields[0] != "Udp:" {
			continue
		}
		if names == nil { // the line before that of the figures
			names = fields
			continue
		}
		n, err := strconv.Atoi(fields[slices.Index(names, "RcvbufErrors")])
		must(t, err)
		return n
	}
	t.Fatalf("no counters of UDP:\n%s", text)
	return 0
}

// manyDatagrams are more than the queue of a broker that stands still has room for.
const manyDatagrams = 25_000

// overrun sends so many to a host behind the broker while that stands still.
func (c *carried) overrun(from *nstest.NS) {
	c.t.Helper()
	thaw := c.process.freeze()
	flood(c.t, from, thirdInside, manyDatagrams, never)
	thaw()
	if full(c.t, c.topo.B) == 0 {
		c.t.Fatal("the broker had room for all that came, so nothing was tested")
	}
}

// TestCarriedFlood: far more comes than the broker takes, and then TCP from where it comes
// works, that of before too.
func TestCarriedFlood(t *testing.T) {
	t.Parallel()
	c := newCarried(t)
	third := c.behind()
	a := c.join(c.topo.A, "bpf")
	s := newStream(t, a.ns, third, thirdInside)
	c.inKernel(a, c.wordOver(a.ns, c.echoes()))
	s.goesOn()
	c.overrun(a.ns)
	arrives(t, a.ns, third, thirdInside)
	s.goesOn()
	flood(t, a.ns, thirdInside, manyDatagrams, never)
	arrives(t, a.ns, third, thirdInside)
	s.end()
	eachArrives(t, a.ns, third, a.inside, thirdInside)
	c.end(a)
}

// TestCarriedOverflowCounted: what a broker's UDP socket has lost is in its status.
func TestCarriedOverflowCounted(t *testing.T) {
	t.Parallel()
	c := newCarried(t)
	c.behind()
	a := c.join(c.topo.A, "bpf")
	c.inKernel(a, c.wordOver(a.ns, c.echoes()))
	c.overrun(a.ns)
	askUntil(t, c.dir+"/tspd.sock", func(s control.Tunnel) bool { return s.Drops["wire-overflow"] > 0 })
	c.end(a)
}
