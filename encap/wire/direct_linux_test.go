package wire

import (
	"net"
	"net/netip"
	"testing"

	"sixin4/encap"
	"sixin4/encap/packet"
	"sixin4/tun/nstest"
)

// outerPacket is an IPv6 packet without payload in an IPv4 header.
func outerPacket(t *testing.T, src, dst string) packet.Packet {
	t.Helper()
	h, err := encap.Outer{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst)}.Header()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, packet.Headroom+encap.IPv6HeaderLen)
	inner := buf[packet.Headroom:]
	inner[0], inner[6], inner[7] = 0x60, 59, 64 // no next header
	inner[8], inner[24] = 0x20, 0x20
	var p packet.Packet
	p.Set(buf, packet.Headroom, nil)
	h.Encap(&p, 1)
	return p
}

// TestDirect sends to an address that has no route, which only the packet socket
// can do, and to one that has no hop, which only the raw socket can do, in one
// batch.
func TestDirect(t *testing.T) {
	nstest.Need(t)
	topo, err := nstest.Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { topo.Close() })
	do := func(ns *nstest.NS, f func() error) {
		t.Helper()
		if err := ns.Do(f); err != nil {
			t.Fatal(err)
		}
	}
	const unrouted = "203.0.113.9"
	do(topo.B, func() error { return topo.B.AddAddr(topo.LinkB, unrouted+"/32") })

	var out *Conn
	var in [2]*Conn
	hop := Hop{}
	do(topo.B, func() (err error) {
		l, err := net.InterfaceByName(topo.LinkB)
		if err != nil {
			return err
		}
		hop.MAC = l.HardwareAddr
		if in[0], err = Listen(Config{Local: netip.MustParseAddr(unrouted)}); err != nil {
			return err
		}
		in[1], err = Listen(Config{Local: topo.AddrB})
		return err
	})
	var w Writer
	do(topo.A, func() (err error) {
		l, err := net.InterfaceByName(topo.LinkA)
		if err != nil {
			return err
		}
		hop.Link = l.Index
		if out, err = Listen(Config{Local: topo.AddrA, Direct: true}); err != nil {
			return err
		}
		w, err = out.NewWriter()
		return err
	})
	for _, c := range []*Conn{out, in[0], in[1]} {
		t.Cleanup(func() { c.Close() })
	}
	out.SetHops(map[[4]byte]Hop{netip.MustParseAddr(unrouted).As4(): hop})

	b := packet.NewBatch(4)
	for _, dst := range []string{unrouted, topo.AddrB.String(), unrouted, "198.51.100.99"} {
		*b.Next() = outerPacket(t, topo.AddrA.String(), dst)
	}
	n, err := w.Write(b)
	if n != 3 || err == nil || b.Packets[3].Err == nil {
		t.Fatalf("wrote %d packets, %v, last %v; want 3, and the last to fail for want of a route", n, err, b.Packets[3].Err)
	}
	for i, want := range []int{2, 1} {
		got := packet.NewBatch(4)
		for n := 0; n < want; n += got.Len() {
			if err := in[i].Reader().Read(got); err != nil {
				t.Fatal(err)
			}
			if src, d := encap.Decap(&got.Packets[0]); d != encap.Forward || src != topo.AddrA.As4() {
				t.Errorf("packet from %v: %v", src, d)
			}
		}
	}
}

// TestConnRefusesUDP: what was made for a wire of the other kind, which is replaced while
// packets are on the way, does not leave as it is.
func TestConnRefusesUDP(t *testing.T) {
	top := pair(t)
	w := newWriter(t, top.A, listen(t, top.A, Config{Local: top.AddrA}))
	from, to := netip.AddrPortFrom(top.AddrA, 0), netip.AddrPortFrom(top.AddrB, 3653)
	b := batchOf(datagram(from, to, 0, numbered(1, 100)), datagram(from, to, 0, numbered(2, 100)))
	if n, err := w.Write(b); n != 0 || err == nil || b.Packets[1].Err == nil {
		t.Errorf("%d written, %v, %v", n, err, b.Packets[1].Err)
	}
}
