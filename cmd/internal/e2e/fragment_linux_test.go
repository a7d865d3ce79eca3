package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"sixin4/encap"
	"sixin4/encap/packettest"
	"sixin4/tun/nstest"
)

// fragment is bytes from to of the payload of an outer packet.
func fragment(whole []byte, from, to int, edits ...func([]byte)) []byte {
	to = min(to, len(whole)-20)
	b := slices.Concat(whole[:20], whole[20+from:20+to])
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	offset := uint16(from / 8)
	if to < len(whole)-20 {
		offset |= 0x2000
	}
	binary.BigEndian.PutUint16(b[6:], offset)
	for _, e := range edits {
		e(b)
	}
	fix4(b)
	return b
}

func tos(v byte) func([]byte) { return func(b []byte) { b[1] = v } }
func keepDF(b []byte)         { b[6] |= 0x40 }

// innerUDP is a datagram from port of A to B around data, of the given traffic
// class.
func innerUDP(port uint16, data []byte, class byte) []byte {
	b := packettest.UDP(netip.AddrPortFrom(netip.MustParseAddr(innerA), port), netip.AddrPortFrom(netip.MustParseAddr(innerB), 2000), data)
	b[0], b[1] = 0x60|class>>4, class<<4
	return b
}

// cutAt cuts a packet at these places of its payload.
func cutAt(at ...int) func(whole []byte) [][]byte {
	return func(w []byte) (out [][]byte) {
		for i, from := 0, 0; i <= len(at); i++ {
			to := len(w)
			if i < len(at) {
				to = at[i]
			}
			out = append(out, fragment(w, from, to))
			from = to
		}
		return out
	}
}

func reversed(f func([]byte) [][]byte) func([]byte) [][]byte {
	return func(w []byte) [][]byte { out := f(w); slices.Reverse(out); return out }
}

const ect0, ce = 2, 3

// fragments are the rows of "IPv4 fragments".
var fragments = []struct {
	name   string
	pieces func(whole []byte) [][]byte
	size   int
	inner  byte // traffic class as sent
	class  byte // as it arrives
	want   bool
	drop   encap.Drop
}{
	{"2", cutAt(800), 1200, 0, 0, true, 0},
	{"3", cutAt(400, 800), 1200, 0, 0, true, 0},
	{"reversed", reversed(cutAt(400, 800)), 1200, 0, 0, true, 0},
	{"doubled", func(w []byte) [][]byte { p := cutAt(400, 800)(w); return [][]byte{p[0], p[0], p[1], p[1], p[2]} }, 1200, 0, 0, true, 0},
	{"tiny first", cutAt(8), 1200, 0, 0, true, 0},
	{"DF set", func(w []byte) [][]byte {
		return [][]byte{fragment(w, 0, 800, keepDF), fragment(w, 800, 9999, keepDF)}
	}, 1200, 0, 0, true, 0},
	{"overlap", func(w []byte) [][]byte {
		return [][]byte{fragment(w, 0, 800), fragment(w, 792, 1000), fragment(w, 1000, 9999)}
	}, 1200, 0, 0, false, 0},
	{"inner packet longer than the tunnel MTU (1500 in two fragments)", cutAt(1000), 1452, 0, 0, true, 0},
	{"inner packet longer than the tunnel MTU (9000)", cutAt(1480, 2960, 4440, 5920, 7400, 8880), 8952, 0, 0, true, 0},
	{"ECT(0) in all", func(w []byte) [][]byte {
		return [][]byte{fragment(w, 0, 800, tos(ect0)), fragment(w, 800, 9999, tos(ect0))}
	}, 1200, ect0, ect0, true, 0},
	{"CE in one", func(w []byte) [][]byte {
		return [][]byte{fragment(w, 0, 800, tos(ect0)), fragment(w, 800, 9999, tos(ce))}
	}, 1200, ect0, ce, true, 0},
	{"CE in the first", func(w []byte) [][]byte {
		return [][]byte{fragment(w, 0, 800, tos(ce)), fragment(w, 800, 9999, tos(ect0))}
	}, 1200, ect0, ce, true, 0},
	{"CE, inner Not-ECT", func(w []byte) [][]byte {
		return [][]byte{fragment(w, 0, 800, tos(ce)), fragment(w, 800, 9999, tos(ce))}
	}, 1200, 0, 0, false, encap.DropECN},
	{"CE in one, Not-ECT in the other", func(w []byte) [][]byte {
		return [][]byte{fragment(w, 0, 800, tos(ce)), fragment(w, 800, 9999)}
	}, 1200, 0, 0, false, 0},
}

// TestFragments: the stack puts IPv4 fragments together, which came through a router,
// before a raw socket sees them, row by row.
func TestFragments(t *testing.T) {
	for _, c := range fragments {
		t.Run("IPv4 fragments: "+c.name, func(t *testing.T) {
			top := routed(t)
			_, eb := ends(top)
			b := tunnel(t, eb)
			tap, send := listenOn(t, b.ns, device, 0x86dd), raw(t, top.A)
			socket := udp(t, b.ns, innerB, 2000)
			inner := innerUDP(1000, datagram(1, c.size), c.inner)
			send(c.pieces(outerPacket(top.AddrA, top.AddrB, 700, inner))...)
			last := innerUDP(1001, datagram(2, 5), 0)          // another flow, or both might be joined
			send(outerPacket(top.AddrA, top.AddrB, 701, last)) // what comes after tells what did not come
			udpOnly := func(b []byte) bool { return b[6] == 17 }
			got := tap.next("packet", udpOnly)
			if c.want {
				want := bytes.Clone(inner)
				want[1] = want[1]&0x0f | c.class<<4
				if !bytes.Equal(got, want) {
					t.Errorf("%d bytes, class %#02x; want %d, %#02x", len(got), got[1], len(want), want[1])
				}
				got = tap.next("packet", udpOnly)
			}
			if !bytes.Equal(got, last) {
				t.Errorf("a packet of %d bytes arrived that should not", len(got))
			}
			buf := make([]byte, 1<<16)
			if n, _, err := socket.ReadFrom(buf); err != nil || c.want && n != c.size || !c.want && n != 5 {
				t.Errorf("a socket got %d bytes, %v", n, err)
			}
			s := b.wire.Stats()
			if whole := c.want || c.drop != 0; whole != (s.Reassembled == 1) {
				t.Errorf("%d packets reassembled", s.Reassembled)
			}
			if c.drop != 0 && b.eng.Stats().Drops[c.drop] != 1 {
				t.Errorf("%d counted as %v", b.eng.Stats().Drops[c.drop], c.drop)
			}
			b.drops(t, c.drop)
		})
	}
}

// TestSmallLink is the row "link MTU under 1300": the tunnel still carries 1280
// bytes, in two IPv4 fragments with DF clear, which a router passes on.
func TestSmallLink(t *testing.T) {
	for _, ports := range []bool{false, true} {
		t.Run(fmt.Sprintf("link MTU under 1300, portable %t", ports), func(t *testing.T) {
			top := routed(t)
			must(t, top.A.SetMTU(top.LinkA, 1280), top.B.SetMTU(top.LinkB, 1280),
				top.R.SetMTU(nstest.LinkRA, 1280), top.R.SetMTU(nstest.LinkRB, 1280))
			ea, eb := ends(top)
			ea.linkMTU, eb.linkMTU = 1280, 1280
			ea.ports = ports
			a, b := tunnel(t, ea), tunnel(t, eb)
			tap := listenOn(t, top.B, top.LinkB, 0x0800)
			from, to := udp(t, a.ns, innerA, 1000), udp(t, b.ns, innerB, 2000)
			datagrams(t, from, to, 1, 1, 1280-48)
			outer := func(p []byte) bool {
				return p[9] == 41 && p[len(p)-1] != 0 && binary.BigEndian.Uint16(p[6:])&0x3fff != 0
			}
			first, second := tap.next("fragment", outer), tap.next("fragment", outer)
			if len(first)+len(second) != 1280+2*20 || first[6]&0x40 != 0 || second[6]&0x40 != 0 || !bytes.Equal(first[4:6], second[4:6]) || first[4]|first[5] == 0 {
				t.Errorf("fragments of %d and %d bytes: % x, % x", len(first), len(second), first[:20], second[:20])
			}
			transfer(t, a.ns, b.ns, innerB, medium()/50)
			transfer(t, b.ns, a.ns, innerA, medium()/50)
			if s := a.eng.Stats(); s.Fragments < 2 {
				t.Errorf("%d fragments counted", s.Fragments)
			}
			if s := b.wire.Stats(); s.Reassembled == 0 {
				t.Errorf("%+v", s)
			}
			a.drops(t)
			b.drops(t)
		})
	}
}
