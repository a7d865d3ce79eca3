package engine

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"sixin4/encap"
	"sixin4/encap/packettest"
)

// syn is a TCP SYN that offers an MSS.
func syn(src, dst netip.Addr, mss uint16) []byte {
	tcp := make([]byte, 24)
	binary.BigEndian.PutUint16(tcp, 4000)
	binary.BigEndian.PutUint16(tcp[2:], 80)
	tcp[12], tcp[13], tcp[20], tcp[21] = 6<<4, 2, 2, 4
	binary.BigEndian.PutUint16(tcp[22:], mss)
	b := packettest.IPv6(src, dst, 6, tcp)
	binary.BigEndian.PutUint16(b[56:], ^packettest.Sum(append(packettest.PseudoHeader(b, 6), b[40:]...)))
	return b
}

// TestClampMSS both ways, of SYNs and no others, and counted.
func TestClampMSS(t *testing.T) {
	for _, c := range []struct {
		name  string
		clamp Clamp
		mtu   encap.TunMTU
		offer uint16
		want  uint16
	}{
		{"auto, 1480", Clamp{}, 1480, 1440, 1420},
		{"auto, 1280", Clamp{}, 1280, 1440, 1220},
		{"auto, a jumbo link", Clamp{}, 8980, 8940, 8940},
		{"auto, 1500", Clamp{}, 1500, 1440, 1440},
		{"never raised", Clamp{}, 1480, 1000, 1000},
		{"1300", Clamp{MSS: 1300}, 1480, 1440, 1300},
		{"1300 on a jumbo link", Clamp{MSS: 1300}, 8980, 8940, 1300},
		{"off", Clamp{Off: true}, 1480, 1440, 1440},
	} {
		bubble(t, c.name, func(t *testing.T) {
			r := newRig(t, Config{MTU: c.mtu, ClampMSS: c.clamp}, hostTable()).start(t)
			out, in := syn(host6, other6, c.offer), wrapped(peer4, syn(other6, host6, c.offer))
			equalPackets(t, "out", r.out(out), packettest.Outer(ours4, peer4, 1, syn(host6, other6, c.want)))
			equalPackets(t, "in", r.in(in), syn(other6, host6, c.want))
			want := uint64(0)
			if c.want != c.offer {
				want = 2
			}
			if s := r.Stats(); s.Clamped != want || s.Tx.Packets != 1 || s.Rx.Packets != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestClampLearnt: what was learnt about the path to a peer counts too, even where the
// tunnel's MTU alone asks for nothing; not with Off.
func TestClampLearnt(t *testing.T) {
	for _, c := range []struct {
		name  string
		clamp Clamp
		mtu   encap.TunMTU
		want  uint16
	}{
		{"auto", Clamp{}, 1480, 1320}, {"auto, a jumbo link", Clamp{}, 8980, 1320},
		{"1400", Clamp{MSS: 1400}, 1480, 1320}, {"1300", Clamp{MSS: 1300}, 1480, 1300}, {"off", Clamp{Off: true}, 1480, 1440},
	} {
		bubble(t, c.name, func(t *testing.T) {
			table := hubTable(2)
			r := newRig(t, Config{MTU: c.mtu, ClampMSS: c.clamp}, table).start(t)
			r.ICMP(icmp4(3, 4, 1400, packettest.Outer(ours4, hubAddr(0), 1, udp(ours6, h0, 1, 1460)), 548))
			equalPackets(t, "out", r.out(syn(host6, h0, 1440)), packettest.Outer(ours4, hubAddr(0), 1, syn(host6, h0, c.want)))
			equalPackets(t, "in", r.in(wrapped(p0, syn(h0, host6, 1440))), syn(h0, host6, c.want))
			other := r.out(syn(host6, h1, 1300))
			if len(other) != 1 || !bytes.Equal(other[0][20:], syn(host6, h1, 1300)) {
				t.Errorf("the other peer: % x", other)
			}
		})
	}
}
