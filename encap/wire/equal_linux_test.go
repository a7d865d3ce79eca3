package wire

import (
	"bytes"
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sixin4/tun/nstest"
)

// directly makes a connection at B that hands packets for A to the link, or, with
// direct false, one that could.
func directly(t *testing.T, top *nstest.Topology, direct bool) *Conn {
	t.Helper()
	c := listen(t, top.B, Config{Local: top.AddrB, Direct: true})
	hop := Hop{MAC: macOf(t, top.A, top.LinkA)}
	err := top.B.Do(func() error {
		hop.Link = index(t, top.LinkB)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c.SetHops(nil)
	if direct {
		c.SetHops(map[[4]byte]Hop{top.AddrA.As4(): hop})
	}
	return c
}

// full gives a link a queue that has no room for a packet.
func full(top *nstest.Topology) error {
	return top.B.Do(func() error {
		l, err := netlink.LinkByName(top.LinkB)
		if err != nil {
			return err
		}
		return netlink.QdiscAdd(&netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			Rate:       1000, Buffer: 1 << 25, Limit: 1, // bytes a second, ticks of 64 ns, bytes
		})
	})
}

// TestSocketsAgree: with nothing on this host that looks at packets, it makes no
// difference to the wire which socket sends, and each error means the same.
func TestSocketsAgree(t *testing.T) {
	drop := func(hook string) func(*nstest.Topology) error {
		return func(top *nstest.Topology) error {
			c := nstest.Chain{Family: "ip", Hook: hook, Drop: true}
			if hook == "egress" {
				c.Family, c.Link = "netdev", top.LinkB
			}
			return top.B.AddChain(c)
		}
	}
	for _, tt := range []struct {
		name        string
		prepare     func(*nstest.Topology) error
		packet      []byte
		raw, direct error
	}{
		{"small", nil, fromB(1, tcp(1)), nil, nil},
		{"as long as the link", nil, fromB(2, udp(1452-20)), nil, nil},
		{"another TOS, TTL and flags", nil, fromB(3, udp(9), func(h []byte) { h[1], h[8], h[6] = 0xb9, 3, 0x40 }), nil, nil},
		{"longer than the link", nil, fromB(4, udp(1453)), unix.EMSGSIZE, unix.EMSGSIZE},
		{"longer than the link, may be cut", nil, fromB(5, udp(1453), func(h []byte) { h[6] = 0 }), unix.EMSGSIZE, unix.EMSGSIZE},
		{"link down", func(top *nstest.Topology) error { return top.B.SetDown(top.LinkB) }, fromB(6, udp(1)), unix.ENETUNREACH, unix.ENETDOWN},
		{"link gone", func(top *nstest.Topology) error { return top.B.DelLink(top.LinkB) }, fromB(7, udp(1)), unix.ENETUNREACH, unix.ENXIO},
		{"queue full", full, fromB(8, udp(1000)), unix.ENOBUFS, unix.ENOBUFS},
		{"dropped by the link's egress chain", drop("egress"), fromB(9, udp(1)), unix.ENOBUFS, unix.ENOBUFS},
		{"dropped by an output chain", drop("output"), fromB(10, udp(1)), unix.EPERM, nil},
		{"dropped by a postrouting chain", drop("postrouting"), fromB(11, udp(1)), unix.EPERM, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, direct := range []bool{false, true} {
				top := pair(t)
				a := listen(t, top.A, Config{Local: top.AddrA})
				b := directly(t, top, direct)
				w := newWriter(t, top.B, b)
				got := collector(a, 2)
				if n, err := w.Write(batchOf(fromB(1000, udp(1)))); n != 1 {
					t.Fatal(err)
				}
				within(t, "first packet, which waited for the neighbour", got)
				if tt.prepare != nil {
					if err := tt.prepare(top); err != nil {
						t.Fatal(err)
					}
				}
				want := tt.raw
				if direct {
					want = tt.direct
				}
				batch := batchOf(tt.packet)
				n, err := w.Write(batch)
				if !errors.Is(err, want) || (n == 1) != (want == nil) || !errors.Is(batch.Packets[0].Err, want) {
					t.Errorf("direct %t: wrote %d, %v, of the packet %v; want %v", direct, n, err, batch.Packets[0].Err, want)
				}
				if want != nil {
					continue
				}
				if r := within(t, "packet", got); !bytes.Equal(r.raw, tt.packet) {
					t.Errorf("direct %t: % x\nwant % x", direct, r.raw, tt.packet)
				}
			}
		})
	}
}
