package daemon

import (
	"errors"
	"log/slog"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"sixin4/encap"
	"sixin4/encap/packet"
	"sixin4/encap/wire"
	"sixin4/tun/ifcfg"
	"sixin4/tun/nstest"
)

// TestFollowerAndFilter sends with a real output chain that drops everything:
// packets pass it by only as long as the follower believes that nobody looks.
func TestFollowerAndFilter(t *testing.T) {
	nstest.Need(t)
	top, err := nstest.Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { top.Close() })
	in := func(ns *nstest.NS, do func() error) {
		t.Helper()
		if err := ns.Do(do); err != nil {
			t.Fatal(err)
		}
	}
	var a, b *wire.Conn
	var w wire.Writer
	in(top.B, func() (err error) { b, err = wire.Listen(wire.Config{Local: top.AddrB}); return err })
	t.Cleanup(func() { b.Close() })
	in(top.A, func() (err error) { a, err = wire.Listen(wire.Config{Local: top.AddrA, Direct: true}); return err })
	t.Cleanup(func() { a.Close() })
	in(top.A, func() (err error) { w, err = a.NewWriter(); return err })

	var seen []string
	tun := &tunnel{env: Env{Logger: slog.New(slog.DiscardHandler)}, iface: &ifcfg.Interface{}}
	tun.conn.Store(a)
	tun.now.Store(&shape{local: top.AddrA, peers: []PlannedPeer{{Remote: top.AddrB}}})
	f := tun.newFollower()
	f.egress = func() ([]string, error) { return seen, nil }
	look := func(due bool) { in(top.A, func() error { f.look(due); return nil }) }
	nstest.Eventually(t, 20*time.Second, "neighbour known", func() bool { look(true); return f.inUse() == "packet" })

	got := packet.NewBatch(1)
	send := func(when string, want error) {
		t.Helper()
		if _, err := w.Write(batchTo(t, top.AddrA, top.AddrB)); !errors.Is(err, want) {
			t.Fatalf("%s: write: %v, want %v", when, err, want)
		}
		if want != nil {
			return
		}
		if err := b.Reader().Read(got); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	chain := nstest.Chain{Family: "inet", Hook: "output", Drop: true}
	send("no chain", nil)
	if err := top.A.AddChain(chain); err != nil {
		t.Fatal(err)
	}
	send("a chain that nobody has told of", nil)
	seen = []string{"a chain"}
	look(false)
	send("a chain that was found", syscall.EPERM)
	if f.inUse() != "raw" {
		t.Errorf("with a chain: %s, want raw", f.inUse())
	}
	if err := top.A.DelChain(chain); err != nil {
		t.Fatal(err)
	}
	send("the chain is gone", nil)
	seen = nil
	look(false)
	send("and that was found", nil)
	if f.inUse() != "packet" {
		t.Errorf("without a chain: %s, want packet", f.inUse())
	}
}

// batchTo is one packet from one end of a tunnel to the other.
func batchTo(t *testing.T, from, to netip.Addr) *packet.Batch {
	t.Helper()
	h, err := encap.Outer{Src: from, Dst: to}.Header()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, packet.Headroom+encap.IPv6HeaderLen)
	inner := buf[packet.Headroom:]
	inner[0], inner[6], inner[7], inner[8], inner[24] = 0x60, 59, 64, 0x20, 0x20
	b := packet.NewBatch(1)
	b.Next().Set(buf, packet.Headroom, nil)
	h.Encap(&b.Packets[0], 1)
	return b
}
