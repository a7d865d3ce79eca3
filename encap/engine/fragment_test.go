package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"sixin4/encap"
	"sixin4/encap/packettest"
)

// pieces puts IPv4 fragments together, by RFC 791, Section 3.2, knowing nothing
// of how they were made.
type pieces map[uint16]*piece

type piece struct {
	parts map[int][]byte // by offset in bytes
	total int            // 0 until the last fragment came
}

// add takes an outer packet and returns the inner one when it is complete.
func (m pieces) add(t testing.TB, b []byte, mtu int) []byte {
	t.Helper()
	flags := int(binary.BigEndian.Uint16(b[6:]))
	at, more := flags&0x1fff*8, flags&0x2000 != 0
	if len(b) > mtu || len(b) != int(binary.BigEndian.Uint16(b[2:])) || packettest.Sum(b[:20]) != 0xffff {
		t.Fatalf("%d bytes for an MTU of %d, header % x", len(b), mtu, b[:20])
	}
	if at == 0 && !more {
		return b[20:]
	}
	if flags&0x4000 != 0 || more && len(b[20:])%8 != 0 {
		t.Fatalf("bad fragment: % x", b[:20])
	}
	id := binary.BigEndian.Uint16(b[4:])
	if id == 0 {
		t.Fatal("identification 0")
	}
	p := m[id]
	if p == nil {
		p = &piece{parts: map[int][]byte{}}
		m[id] = p
	}
	if p.parts[at] = b[20:]; !more {
		p.total = at + len(b) - 20
	}
	whole := []byte{}
	for len(p.parts[len(whole)]) > 0 {
		whole = append(whole, p.parts[len(whole)]...)
	}
	if p.total == 0 || len(whole) != p.total {
		return nil
	}
	delete(m, id)
	return whole
}

// TestSmallLink: a tunnel always carries 1280 bytes, over a smaller link in
// fragments, whatever their order is when they arrive. There is one identification
// for all fragments of a packet.
func TestSmallLink(t *testing.T) {
	for _, c := range []struct {
		wire, per int // fragments for a packet of 1280 bytes
	}{{1300, 1}, {1299, 2}, {1280, 2}, {576, 3}, {552, 3}, {68, 3}} {
		for _, split := range []int{0, 60, 600} {
			bubble(t, fmt.Sprintf("link MTU under 1300: %d, head of %d bytes", c.wire, split), func(t *testing.T) {
				r := newRig(t, Config{MTU: 1280, WireMTU: encap.WireMTU(c.wire)}, hostTable())
				r.fromTUN.Split = split
				r.start(t)
				var want [][]byte
				for i := range BatchSize {
					want = append(want, udp(host6, other6, i, 1280))
				}
				want[5], want[6] = udp(host6, other6, 5, 100), udp(host6, other6, 6, 532)
				sent := r.out(want...)
				slices.Reverse(sent)
				m, got := pieces{}, [][]byte{}
				for _, b := range sent {
					if inner := m.add(t, b, max(c.wire, 552)); inner != nil {
						got = append(got, inner)
					}
				}
				slices.Reverse(got)
				equalPackets(t, "reassembled", got, want...)
				expect := uint64((BatchSize-2)*c.per + 2)
				if c.wire == 1300 {
					expect = 0 // the link needs none
				}
				s := r.Stats()
				if s.Fragments != expect || c.per > 1 && len(sent) != int(expect) {
					t.Errorf("%d fragments counted, %d outer packets sent; want %d", s.Fragments, len(sent), expect)
				}
				if s.Tx != (Count{BatchSize, (BatchSize-2)*1280 + 632}) || len(m) != 0 {
					t.Errorf("%+v; %d incomplete", s.Tx, len(m))
				}
				wantDrops(t, r.Engine, nil)
			})
		}
	}
}

// TestSmallLinkKeepsDF of packets that fit.
func TestSmallLinkKeepsDF(t *testing.T) {
	bubble(t, "576", func(t *testing.T) {
		r := newRig(t, Config{MTU: 1280, WireMTU: 576}, hostTable()).start(t)
		inner := udp(host6, other6, 1, 556)
		equalPackets(t, "sent", r.out(inner), packettest.Outer(ours4, peer4, 1, inner))
	})
}

// TestLongestOverSmallestLink: 65515 bytes, the most that a tunnel can be set to.
func TestLongestOverSmallestLink(t *testing.T) {
	bubble(t, "65515 over 552", func(t *testing.T) {
		r := newRig(t, Config{MTU: encap.MaxTunMTU, WireMTU: 552}, hostTable()).start(t)
		var want, got [][]byte
		for i := range 7 {
			want = append(want, udp(host6, other6, i, 65515-i))
		}
		m := pieces{}
		for _, b := range r.out(want...) {
			if inner := m.add(t, b, 552); inner != nil {
				got = append(got, inner)
			}
		}
		equalPackets(t, "reassembled", got, want...)
		if s := r.Stats(); s.Fragments != 7*125 || s.Tx.Packets != 7 {
			t.Errorf("%+v", s)
		}
	})
}

// TestFragmentFails: a packet that loses a fragment is lost, once, and its
// neighbours are not.
func TestFragmentFails(t *testing.T) {
	for _, offset := range []uint16{0, 552 / 8, 1104 / 8} {
		bubble(t, fmt.Sprint("fragment at ", offset), func(t *testing.T) {
			r := newRig(t, Config{MTU: 1280, WireMTU: 576}, hostTable())
			r.toWire.Fail = func(b []byte) error {
				id, at := binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])&0x1fff
				if id == 2 && at == offset {
					return syscall.ENOBUFS
				}
				return nil
			}
			r.start(t)
			m := pieces{}
			for _, b := range r.out(udp(host6, other6, 1, 1280), udp(host6, other6, 2, 1280), udp(host6, other6, 3, 1280)) {
				if inner := m.add(t, b, 576); inner != nil && (numberOf(inner) == 2 || !bytes.Equal(inner, udp(host6, other6, numberOf(inner), 1280))) {
					t.Errorf("arrived: % x", inner)
				}
			}
			wantDrops(t, r.Engine, map[encap.Drop]uint64{encap.DropSendNoBufs: 1})
			if s := r.Stats(); s.Tx != (Count{2, 2560}) || s.Peers[0].Tx != s.Tx || s.Fragments != 8 || len(m) != 1 {
				t.Errorf("%+v; %d incomplete", s, len(m))
			}
		})
	}
}
