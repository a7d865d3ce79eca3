package e2e

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"sixin4/encap"
)

// TestOuterHeader captures at the far end what the rows of "Outbound" say about
// the outer header, and that the inner one stays as it was.
func TestOuterHeader(t *testing.T) {
	for _, c := range []struct {
		name  string
		outer encap.Outer
		class byte // inner traffic class
		hops  byte // inner hop limit
		tos   byte
		ttl   byte
		df    bool
	}{
		{"default", encap.Outer{}, 0, 64, 0, 64, true},
		{"default, inner DSCP stays inside", encap.Outer{}, 0xb8, 9, 0, 64, true},
		{"ECN copied", encap.Outer{}, 0xba, 9, 2, 64, true},
		{"CE copied", encap.Outer{}, 3, 9, 3, 64, true},
		{"tos inherit", encap.Outer{InheritDSCP: true}, 0xbb, 9, 0xbb, 64, true},
		{"tos fixed", encap.Outer{DSCP: 0x20}, 0xba, 9, 0x22, 64, true},
		{"ttl inherit", encap.Outer{InheritTTL: true}, 0, 17, 0, 17, true},
		{"ttl fixed", encap.Outer{TTL: 200}, 0, 17, 0, 200, true},
		{"static MTU: DF clear", encap.Outer{ClearDF: true}, 0, 64, 0, 64, false},
	} {
		header := func(t *testing.T, kernel bool) {
			top := pair(t)
			ea, eb := ends(top)
			ea.outer = c.outer
			a, b := tunnel(t, ea), tunnel(t, eb)
			if kernel {
				path := shortcut(t, top, a)
				defer func() {
					if s := carried(t, path); s.Tx.Packets != 5 {
						t.Errorf("the kernel carried %d of 5 packets", s.Tx.Packets)
					}
				}()
			}
			tap, inside := listenOn(t, top.B, top.LinkB, 0x0800), listenOn(t, top.B, device, 0x86dd)
			from, to := udp(t, a.ns, innerA, 1000), udp(t, b.ns, innerB, 2000)
			option(t, from, unix.IPV6_TCLASS, int(c.class))
			option(t, from, unix.IPV6_UNICAST_HOPS, int(c.hops))
			last := uint16(0)
			for i := range 5 {
				datagrams(t, from, to, 1, 1, 100+i)
				p := tap.next("outer packet", func(p []byte) bool { return p[9] == 41 && len(p) == 20+48+100+i })
				if p[0] != 0x45 || p[1] != c.tos || p[8] != c.ttl || (p[6] == 0x40) != c.df || p[6]&0xbf != 0 || p[7] != 0 || [4]byte(p[12:]) != a.local.As4() || [4]byte(p[16:]) != b.local.As4() {
					t.Errorf("outer header % x", p[:20])
				}
				sum := [2]byte(p[10:])
				if fix4(p); sum != [2]byte(p[10:]) {
					t.Errorf("outer checksum % x, want % x", sum, p[10:12])
				}
				id := binary.BigEndian.Uint16(p[4:])
				if id == 0 || last != 0 && id <= last {
					t.Errorf("identification %d after %d", id, last)
				}
				last = id
				for _, inner := range [][]byte{p[20:], inside.next("inner packet", func(p []byte) bool { return p[6] == 17 })} {
					if class := inner[0]<<4 | inner[1]>>4; class != c.class || inner[7] != c.hops {
						t.Errorf("inner class %#02x, hop limit %d", class, inner[7])
					}
				}
			}
		}
		t.Run(c.name, func(t *testing.T) { header(t, false) })
		t.Run(c.name+", by the kernel", func(t *testing.T) { header(t, true) })
	}
}
