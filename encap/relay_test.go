package encap

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

// relayed parses an ICMPv4 error and returns what AppendRelayed makes of it.
func relayed(t *testing.T, b []byte) []byte {
	t.Helper()
	e, why := ParseICMP4(b, sent)
	if why != DoubtNone {
		t.Fatal(why)
	}
	return AppendRelayed(nil, &e, router)
}

func TestRelayed(t *testing.T) {
	inner := udp6(ours6, peer6, pattern(1412), full)
	quote := outgoing(inner)
	cases := []struct {
		name       string
		kind, code byte
		want       int // code of the ICMPv6 unreachable; -1: nothing
	}{
		{"net unreachable", 3, 0, 3}, {"host unreachable", 3, 1, 3}, {"protocol unreachable", 3, 2, 3},
		{"port unreachable", 3, 3, 3}, {"prohibited", 3, 13, 1}, {"host prohibited", 3, 10, 1},
		{"time exceeded", 11, 0, 3}, {"parameter problem", 12, 0, 3}, {"source quench", 4, 0, -1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, n := range []int{60, 61, 68, 548, 1480} {
				b := relayed(t, icmp4(c.kind, c.code, [4]byte{}, quote[:n]))
				if c.want < 0 {
					if b != nil {
						t.Errorf("% x", b)
					}
					continue
				}
				checkAnswer(t, b, inner[:n-20], 1, byte(c.want), 0)
			}
			for _, n := range []int{28, 59} { // short quote: as state and to the next sender
				if b := relayed(t, icmp4(c.kind, c.code, [4]byte{}, quote[:n])); b != nil {
					t.Errorf("%d bytes quoted: % x", n, b)
				}
			}
		})
	}
}

func TestRelayedTooBig(t *testing.T) {
	for _, c := range []struct {
		name string
		size int // of the inner packet
		mtu  uint16
		want uint32 // 0: nothing
	}{
		{"fragmentation needed, 1400", 1460, 1400, 1380},
		{"1300", 1460, 1300, 1280}, {"1299", 1460, 1299, 1280}, {"1200", 1460, 1200, 1280}, {"576", 1460, 576, 1280},
		{"0 (old routers)", 1460, 0, 1280},
		{"jumbo, 0", 8980, 0, 8146},
		{"an inner packet of 1280", 1280, 1200, 0}, {"one of 1281", 1281, 1200, 1280},
		{"one that fits", 1380, 1400, 0}, {"one that does not", 1381, 1400, 1380},
	} {
		t.Run(c.name, func(t *testing.T) {
			inner := udp6(ours6, peer6, pattern(c.size-48), full)
			b := relayed(t, icmp4(3, 4, mtu4(c.mtu), outgoing(inner)[:548]))
			if c.want == 0 {
				if b != nil {
					t.Errorf("% x", b)
				}
				return
			}
			checkAnswer(t, b, inner[:528], 2, 0, c.want)
		})
	}
}

// TestRelayedSilence: RFC 4443, Section 2.4(e), on what is left of a packet.
func TestRelayedSilence(t *testing.T) {
	long := func(b []byte) []byte { // makes it long enough to be too big
		b = append(b, make([]byte, 1400-len(b))...)
		binary.BigEndian.PutUint16(b[4:], 1360)
		return b
	}
	const never, always, onlyTooBig = 0, 2, 1
	all := fakeSent{}
	for _, c := range []struct {
		name  string
		inner []byte
		quote int // bytes of the inner packet
		want  int
	}{
		{"TCP, header alone", long(tcp6(ours6, peer6, nil, full)), 40, always},
		{"echo request", long(icmpOf(128)), 48, always},
		{"an error", long(icmpOf(1)), 48, never},
		{"perhaps an error", long(icmpOf(128)), 40, never},
		{"a redirect", long(icmpOf(137)), 60, never},
		{"an error behind hop-by-hop", long(extend(icmpOf(3), 0, hopByHop...)), 80, never},
		{"extension header not quoted", long(extend(udp6(ours6, peer6, nil, full), 0, hopByHop...)), 44, never},
		{"extension header quoted", long(extend(udp6(ours6, peer6, nil, full), 0, hopByHop...)), 48, always},
		{"from unspecified", long(udp6("::", peer6, nil, full)), 100, never},
		{"from multicast", long(udp6("ff02::1", peer6, nil, full)), 100, never},
		{"to multicast", long(udp6(ours6, "ff0e::1", nil, full)), 100, onlyTooBig},
	} {
		t.Run(c.name, func(t *testing.T) {
			answers, dst := 0, []byte("as it was")
			for _, kind := range []ICMP4Kind{ICMP4FragNeeded, ICMP4HostUnreachable} {
				e := ICMP4Error{Kind: kind, MTU: 1300, Size: 1420, Inner: c.inner[:c.quote]}
				b := AppendRelayed(dst, &e, router)
				if !bytes.HasPrefix(b, dst) {
					t.Errorf("what was there: %q", b)
				}
				if len(b) != len(dst) {
					answers++
				}
			}
			if answers != c.want {
				t.Errorf("%d answers, want %d", answers, c.want)
			}
		})
	}
	e, _ := ParseICMP4(tooLong(1300, 548), all)
	if b := AppendRelayed(nil, &e, netip.MustParseAddr(router4)); b != nil {
		t.Errorf("from an IPv4 address: % x", b)
	}
}

// fakeSent is a Sent that has sent everything.
type fakeSent struct{}

func (fakeSent) SendsTo(_, _ [4]byte) bool               { return true }
func (fakeSent) Carries(_ [4]byte, _, _ netip.Addr) bool { return true }

func TestNotice(t *testing.T) {
	const s = int64(1e9)
	var n Notice
	if _, ok := n.Take(0); ok {
		t.Error("an empty notice")
	}
	for _, c := range []struct {
		name    string
		at, now int64
		code    uint8
		ok      bool
	}{
		{"to the next sender", 0, 0, UnreachableAddress, true},
		{"after a while", 5 * s, 34 * s, UnreachableProhibited, true},
		{"too late", 5 * s, 35*s + 1e6, UnreachableAddress, false},
		{"code 0", 7, 8, UnreachableNoRoute, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			n.Leave(c.at, 9)
			n.Leave(c.at, c.code)
			if code, ok := n.Take(c.now); ok != c.ok || ok && code != c.code {
				t.Errorf("%d, %v", code, ok)
			}
			if _, ok := n.Take(c.now); ok {
				t.Error("it was there twice")
			}
		})
	}
}
