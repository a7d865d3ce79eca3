package engine

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sixin4/encap"
	"sixin4/encap/packettest"
	"sixin4/encap/pathmtu"
)

var router4 = netip.MustParseAddr("198.51.100.7")

// icmp4 is an ICMPv4 message of a router to us with the first n bytes of an outer packet.
func icmp4(kind, code byte, mtu uint16, quote []byte, n int) []byte {
	msg := append([]byte{kind, code, 0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, quote[:min(n, len(quote))]...)
	binary.BigEndian.PutUint16(msg[2:], ^packettest.Sum(msg))
	return packettest.Outer(router4, ours4, 1, msg, func(b []byte) { b[9] = 1 })
}

// fragNeeded is fragmentation needed about a packet of 1480 bytes to the peer.
func fragNeeded(mtu uint16) []byte { return icmp4(3, 4, mtu, outerTo(peer4, 1480), 548) }

func outerTo(remote netip.Addr, size int) []byte {
	return packettest.Outer(ours4, remote, 1, udp(host6, other6, 1, size-20))
}

// toldMTU checks that there is one packet too big among packets, and returns its figure.
func toldMTU(t *testing.T, packets [][]byte) int {
	t.Helper()
	if len(packets) != 1 || packets[0][40] != 2 || len(packets[0]) != 1280 {
		t.Fatalf("%d answers: % x", len(packets), packets)
	}
	return int(binary.BigEndian.Uint32(packets[0][44:]))
}

// told lets the kernel send a packet and returns the answers to it.
func (r *rig) told(t *testing.T, p []byte) (sent, answers [][]byte) {
	t.Helper()
	sent = r.out(p)
	return sent, drain(r.toTUN)
}

// TestFragmentationNeeded is the rows "fragmentation needed, 1400" and "1300 / 1299 / 1200
// / 576 / 400 / 0": nothing is told at once, the next packet that is too long is, and
// 1280 bytes always pass, in fragments where the path needs them.
func TestFragmentationNeeded(t *testing.T) {
	for _, c := range []struct {
		name     string
		mtu      uint16
		tun      int // that senders are told
		fragment int // the longest IPv4 packet when 1280 bytes are sent
	}{
		{"1400", 1400, 1380, 1400}, {"1300", 1300, 1280, 1300}, {"1299", 1299, 1280, 1299}, {"1200", 1200, 1280, 1200},
		{"576", 576, 1280, 576}, {"575", 575, 1280, 576}, {"400", 400, 1280, 576}, {"296", 296, 1280, 576},
		{"0: the plateau below", 0, 1280, 1006},
	} {
		bubble(t, c.name, func(t *testing.T) {
			r := newRig(t, Config{Relay: packettest.NewQueue()}, hostTable()).start(t)
			if first, again := r.ICMP(fragNeeded(c.mtu)), r.ICMP(fragNeeded(c.mtu)); first != PathLowered || again != NoNews {
				t.Errorf("news %d, and once more %d", first, again)
			}
			if s := r.Stats(); s.ICMP.Paths[pathmtu.Lowered] != 1 || s.ICMPErrors != 0 {
				t.Fatalf("%+v", s)
			}
			sent, answers := r.told(t, udp(host6, other6, 1, 1460))
			if got := toldMTU(t, answers); got != c.tun || len(sent) != 0 {
				t.Errorf("told %d, want %d; %d sent", got, c.tun, len(sent))
			}
			m, whole := pieces{}, udp(host6, other6, 2, c.tun)
			var got []byte
			for _, b := range r.out(whole) {
				if inner := m.add(t, b, c.fragment); inner != nil {
					got = inner
				}
			}
			if !bytes.Equal(got, whole) {
				t.Errorf("%d bytes did not pass", c.tun)
			}
			wantDrops(t, r.Engine, map[encap.Drop]uint64{encap.DropTooBig: 1})
			time.Sleep(10*time.Minute + time.Second) // of the bubble's clock
			long := udp(host6, other6, 3, 1480)
			equalPackets(t, "after 10 minutes", r.out(long)[:1], packettest.Outer(ours4, peer4, uint16(2), long))
		})
	}
}

// TestPathPerPeer is the row "the same, per peer": others of a hub keep their MTU, and
// another link makes us forget.
func TestPathPerPeer(t *testing.T) {
	bubble(t, "fragmentation needed, per peer", func(t *testing.T) {
		r := newRig(t, Config{}, hubTable(2)).start(t)
		quote := packettest.Outer(ours4, hubAddr(0), 1, udp(ours6, hubHost(0), 1, 1460))
		r.ICMP(icmp4(3, 4, 1400, quote, 548))
		sent, answers := r.told(t, udp(host6, h0, 1, 1480))
		if got := toldMTU(t, answers); got != 1380 || len(sent) != 0 {
			t.Errorf("told %d, %d sent", got, len(sent))
		}
		if sent, answers := r.told(t, udp(host6, h1, 1, 1480)); len(sent) != 1 || len(answers) != 0 {
			t.Errorf("the other peer: %d sent, %d answers", len(sent), len(answers))
		}
		if mtu := r.PathMTU(hubAddr(0)); mtu != 1400 || r.PathMTU(hubAddr(1)) != 0 {
			t.Errorf("%d, %d", mtu, r.PathMTU(hubAddr(1)))
		}
		if err := r.SetMTU(1472, 1492); err != nil {
			t.Fatal(err)
		}
		if sent, _ := r.told(t, udp(host6, h0, 2, 1472)); len(sent) != 1 || r.PathMTU(hubAddr(0)) != 0 {
			t.Error("remembered what another link had")
		}
	})
}

// TestStaticMTU is the row "nopmtudisc": with DF clear routers fragment, and nothing is
// learnt.
func TestStaticMTU(t *testing.T) {
	bubble(t, "nopmtudisc: DF clear", func(t *testing.T) {
		table := hostTable()
		table.Peers[0].Outer.ClearDF = true
		r := newRig(t, Config{}, table).start(t)
		clear := packettest.Outer(ours4, peer4, 1, udp(host6, other6, 1, 1460), func(b []byte) { b[6] = 0 })
		r.ICMP(icmp4(3, 4, 1400, clear, 548))
		long := udp(host6, other6, 1, 1480)
		equalPackets(t, "sent", r.out(long), packettest.Outer(ours4, peer4, 1, long, func(b []byte) { b[6] = 0 }))
		if s := r.Stats(); s.ICMP.Doubted[encap.DoubtDF] != 1 {
			t.Errorf("%+v", s.ICMP)
		}
	})
}

// TestForgedICMP: what was not about a packet of ours, or cannot be, changes a counter
// and nothing else.
func TestForgedICMP(t *testing.T) {
	quote := outerTo(peer4, 1480)
	inner := func(src, dst netip.Addr) []byte { return packettest.Outer(ours4, peer4, 1, udp(src, dst, 1, 1460)) }
	for _, c := range []struct {
		name    string
		msg     []byte
		doubt   encap.Doubt
		verdict pathmtu.Verdict
	}{
		{"quoting a packet to somebody else", icmp4(3, 4, 1400, outerTo(other4, 1480), 548), encap.DoubtNotSent, 0},
		{"wrong addresses: from somebody else", icmp4(3, 4, 1400, packettest.Outer(other4, peer4, 1, udp(host6, other6, 1, 1460)), 548), encap.DoubtNotSent, 0},
		{"a flow we do not carry: a stranger's", icmp4(3, 4, 1400, inner(other6, peer6), 548), encap.DoubtInnerForeign, 0},
		{"a flow we do not carry: to ourselves", icmp4(3, 4, 1400, inner(host6, ours6), 548), encap.DoubtInnerForeign, 0},
		{"a flow we do not carry: from multicast", icmp4(3, 1, 0, inner(netip.MustParseAddr("ff02::1"), other6), 548), encap.DoubtInnerForeign, 0},
		{"a quote too short to judge", icmp4(3, 4, 1400, quote, 27), encap.DoubtQuoteShort, 0},
		{"quoting 28 bytes of a packet never sent", icmp4(3, 4, 1400, packettest.Outer(ours4, peer4, 1, packettest.Pattern(0, 100)), 28), encap.DoubtQuoteLength, 0},
		{"MTU 68", icmp4(3, 4, 68, quote, 548), 0, pathmtu.Implausible},
		{"MTU 295", icmp4(3, 4, 295, quote, 548), 0, pathmtu.Implausible},
		{"MTU larger than current", icmp4(3, 4, 1501, outerTo(peer4, 1500+40), 548), 0, pathmtu.NotLower},
		{"MTU not smaller than the packet", icmp4(3, 4, 1490, quote, 548), 0, pathmtu.NotSmaller},
	} {
		bubble(t, c.name, func(t *testing.T) {
			relay := packettest.NewQueue()
			r := newRig(t, Config{Relay: relay}, hostTable()).start(t)
			news := r.ICMP(c.msg)
			s := r.Stats()
			if c.doubt != 0 && s.ICMP.Doubted[c.doubt] != 1 || c.doubt == 0 && s.ICMP.Paths[c.verdict] != 1 {
				t.Errorf("%+v", s.ICMP)
			}
			long := udp(host6, other6, 1, 1480)
			equalPackets(t, "sent", r.out(long), packettest.Outer(ours4, peer4, 1, long))
			if answers := append(drain(r.toTUN), drain(relay)...); len(answers) != 0 || r.PathMTU(peer4) != 0 || len(r.log.take()) != 0 || news != NoNews {
				t.Errorf("%d answers, path %d, news %d", len(answers), r.PathMTU(peer4), news)
			}
		})
	}
}

// TestRelay is the row "host unreachable, time exceeded", and protocol, port, prohibited
// and parameter problem: the inner sender is told when its header is quoted.
func TestRelay(t *testing.T) {
	for _, c := range []struct {
		name       string
		kind, code byte
		want       byte // code of destination unreachable
		as         encap.ICMP4Kind
	}{
		{"host unreachable", 3, 1, 3, encap.ICMP4HostUnreachable}, {"net unreachable", 3, 0, 3, encap.ICMP4NetUnreachable},
		{"protocol unreachable", 3, 2, 3, encap.ICMP4ProtocolUnreachable}, {"port unreachable", 3, 3, 3, encap.ICMP4PortUnreachable},
		{"prohibited", 3, 13, 1, encap.ICMP4Prohibited}, {"time exceeded", 11, 0, 3, encap.ICMP4TimeExceeded},
		{"parameter problem", 12, 0, 3, encap.ICMP4ParameterProblem},
	} {
		bubble(t, c.name, func(t *testing.T) {
			relay := packettest.NewQueue()
			r := newRig(t, Config{Relay: relay}, hostTable()).start(t)
			inner := udp(host6, other6, 1, 100)
			r.ICMP(icmp4(c.kind, c.code, 0, packettest.Outer(ours4, peer4, 1, inner), 548))
			want := packettest.ICMPv6(ours6, host6, 1, c.want, append(make([]byte, 4), inner...))
			want[7] = 64 // hop limit
			equalPackets(t, "relayed", drain(relay), want)
			if s := r.Stats(); s.ICMP.Relayed[c.as] != 1 || s.ICMPErrors != 1 {
				t.Errorf("%+v", s)
			}
		})
		bubble(t, c.name+", a short quote: the next sender", func(t *testing.T) {
			relay := packettest.NewQueue()
			r := newRig(t, Config{Relay: relay}, hostTable()).start(t)
			r.ICMP(icmp4(c.kind, c.code, 0, packettest.Outer(ours4, peer4, 1, udp(host6, other6, 1, 100)), 28))
			next := udp(host6, other6, 2, 100)
			sent, answers := r.told(t, next)
			want := packettest.ICMPv6(ours6, host6, 1, c.want, append(make([]byte, 4), next...))
			want[7] = 64
			equalPackets(t, "told", answers, want)
			equalPackets(t, "sent all the same", sent, packettest.Outer(ours4, peer4, 1, next))
			if _, answers = r.told(t, next); len(answers) != 0 || len(drain(relay)) != 0 {
				t.Error("told twice")
			}
		})
	}
	bubble(t, "source quench: nothing", func(t *testing.T) {
		relay := packettest.NewQueue()
		r := newRig(t, Config{Relay: relay}, hostTable()).start(t)
		r.ICMP(icmp4(4, 0, 0, outerTo(peer4, 1480), 548))
		if _, answers := r.told(t, udp(host6, other6, 1, 100)); len(answers)+len(drain(relay)) != 0 {
			t.Error("answered")
		}
	})
	bubble(t, "host unreachable, rate-limited", func(t *testing.T) {
		relay := packettest.NewQueue()
		r := newRig(t, Config{Relay: relay}, hostTable()).start(t)
		for range 100 {
			r.ICMP(icmp4(3, 1, 0, outerTo(peer4, 1480), 548))
		}
		if n := len(drain(relay)); n != encap.DefaultBurst {
			t.Errorf("%d relayed", n)
		}
	})
}

// TestProtocolUnreachable is a state of the peer: said once, until it is heard.
func TestProtocolUnreachable(t *testing.T) {
	refusal := icmp4(3, 2, 0, outerTo(peer4, 200), 548)
	warned := func(r *rig) (n int) {
		for _, line := range r.log.take() {
			if strings.HasPrefix(line, "WARN the far end does not take protocol 41") {
				n++
			}
		}
		return n
	}
	refused := func(r *rig) bool { return !r.Stats().Peers[0].Refused.IsZero() }
	bubble(t, "once, until it is heard", func(t *testing.T) {
		r := newRig(t, Config{}, hostTable()).start(t)
		for i, want := range []News{PeerRefuses, NoNews, NoNews} {
			if got := r.ICMP(refusal); got != want {
				t.Errorf("message %d: news %d, want %d", i, got, want)
			}
		}
		if n := warned(r); n != 1 || !refused(r) {
			t.Errorf("warned %d times, refused %t", n, refused(r))
		}
		time.Sleep(time.Second) // of the bubble's clock
		r.in(wrapped(peer4, echo(other6, host6)))
		if refused(r) {
			t.Error("refused by who was heard")
		}
		r.ICMP(refusal) // forged, or of a moment ago
		if refused(r) || warned(r) != 0 {
			t.Error("believed of a peer that is heard")
		}
		time.Sleep(2 * time.Minute)
		r.ICMP(refusal)
		if n := warned(r); n != 1 || !refused(r) {
			t.Errorf("after a silence: warned %d times, refused %t", n, refused(r))
		}
	})
	bubble(t, "not proven yet", func(t *testing.T) {
		cfg := hostTable()
		cfg.Peers[0].Unproven = true
		r := newRig(t, Config{}, cfg).start(t)
		r.ICMP(refusal)
		if n := warned(r); n != 0 || !refused(r) {
			t.Errorf("warned %d times of one that has yet to show that it is there, refused %t", n, refused(r))
		}
	})
	bubble(t, "heard past the engine", func(t *testing.T) {
		r := newRig(t, Config{Heard: func(netip.Addr) time.Time { return time.Now() }}, hostTable()).start(t)
		r.ICMP(refusal)
		if refused(r) || warned(r) != 0 {
			t.Error("believed")
		}
	})
}

// TestICMPBehind: a router behind us may have sent the packet, if there is a way to it.
func TestICMPBehind(t *testing.T) {
	bubble(t, "routed network", func(t *testing.T) {
		relay := packettest.NewQueue()
		cfg := Config{Relay: relay, Behind: func(a netip.Addr) bool { return a == peer6 }}
		r := newRig(t, cfg, hostTable()).start(t)
		for _, src := range []netip.Addr{peer6, netip.MustParseAddr("2001:db8:5::1")} {
			r.ICMP(icmp4(3, 1, 0, packettest.Outer(ours4, peer4, 1, udp(src, other6, 1, 100)), 548))
		}
		if n := len(drain(relay)); n != 1 || r.Stats().ICMP.Doubted[encap.DoubtInnerForeign] != 1 {
			t.Errorf("%d relayed, %+v", n, r.Stats().ICMP)
		}
	})
}
