package encap

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

const router4 = "198.51.100.7"

// tunnels is a Sent of one peer: everything goes there, from the addresses of own.
type tunnels struct{ own netip.Prefix }

func (s tunnels) SendsTo(local, to [4]byte) bool { return local == ours.As4() && to == peer.As4() }

func (s tunnels) Carries(_ [4]byte, src, dst netip.Addr) bool {
	return s.own.Contains(src) && (!dst.IsValid() || !dst.IsMulticast())
}

var sent = tunnels{netip.MustParsePrefix("2001:db8:1::/48")}

// outgoing is the packet that we have sent to the peer around inner.
func outgoing(inner []byte, edit ...func(b []byte)) []byte {
	dst := peer.As4()
	return ip4(ours4, inner, append([]func([]byte){set(16, dst[:]...)}, edit...)...)
}

// icmp4 is an ICMPv4 message of a router to us, with its checksum; rest is the 4
// bytes behind that and what is quoted.
func icmp4(kind, code byte, rest [4]byte, quote []byte) []byte {
	msg := append([]byte{kind, code, 0, 0, rest[0], rest[1], rest[2], rest[3]}, quote...)
	binary.BigEndian.PutUint16(msg[2:], ^oracleSum(msg))
	return ip4(router4, msg, set(9, protoICMP))
}

func mtu4(mtu uint16) [4]byte { return [4]byte{2: byte(mtu >> 8), 3: byte(mtu)} }

// tooLong is fragmentation needed about one of our packets, of which n bytes are
// quoted.
func tooLong(mtu uint16, n int) []byte {
	quote := outgoing(udp6(ours6, peer6, pattern(1412), full))
	return icmp4(3, 4, mtu4(mtu), quote[:min(n, len(quote))])
}

func TestICMP4Errors(t *testing.T) {
	inner := udp6(ours6, peer6, pattern(1412), full)
	quote := outgoing(inner)
	cases := []struct {
		name       string
		kind, code byte
		want       ICMP4Kind
		text       string
	}{
		{"fragmentation needed, 1400", 3, 4, ICMP4FragNeeded, "fragmentation-needed"},
		{"net unreachable", 3, 0, ICMP4NetUnreachable, "net-unreachable"},
		{"net unknown", 3, 6, ICMP4NetUnreachable, "net-unreachable"},
		{"net unreachable for this TOS", 3, 11, ICMP4NetUnreachable, "net-unreachable"},
		{"host unreachable", 3, 1, ICMP4HostUnreachable, "host-unreachable"},
		{"source route failed", 3, 5, ICMP4HostUnreachable, "host-unreachable"},
		{"host unknown", 3, 7, ICMP4HostUnreachable, "host-unreachable"},
		{"host unreachable for this TOS", 3, 12, ICMP4HostUnreachable, "host-unreachable"},
		{"protocol unreachable", 3, 2, ICMP4ProtocolUnreachable, "protocol-unreachable"},
		{"port unreachable", 3, 3, ICMP4PortUnreachable, "port-unreachable"},
		{"network prohibited", 3, 9, ICMP4Prohibited, "prohibited"},
		{"host prohibited", 3, 10, ICMP4Prohibited, "prohibited"},
		{"communication prohibited", 3, 13, ICMP4Prohibited, "prohibited"},
		{"precedence cutoff", 3, 15, ICMP4Prohibited, "prohibited"},
		{"time exceeded", 11, 0, ICMP4TimeExceeded, "time-exceeded"},
		{"reassembly time exceeded", 11, 1, ICMP4TimeExceeded, "time-exceeded"},
		{"parameter problem", 12, 0, ICMP4ParameterProblem, "parameter-problem"},
		{"source quench", 4, 0, ICMP4SourceQuench, "source-quench"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, n := range []int{28, 44, 60, 120, 548, len(quote)} {
				e, why := ParseICMP4(icmp4(c.kind, c.code, mtu4(1400), quote[:n]), sent)
				if why != DoubtNone || e.Kind != c.want || e.Kind.String() != c.text {
					t.Fatalf("%d bytes quoted: %v, %v", n, e.Kind, why)
				}
				if e.Router != netip.MustParseAddr(router4).As4() || e.Peer != peer.As4() || e.Size != len(quote) {
					t.Errorf("%d bytes quoted: %+v", n, e)
				}
				if wantMTU := WireMTU(1400); (e.Kind == ICMP4FragNeeded) != (e.MTU == wantMTU) {
					t.Errorf("MTU %d", e.MTU)
				}
				equalBytes(t, "quoted inner packet", e.Inner, inner[:n-20])
			}
		})
	}
	if s := ICMP4Kind(0).String() + ICMP4Kind(99).String(); s != "unknownunknown" {
		t.Errorf("values that are none: %q", s)
	}
}

// TestICMP4Figures has the row of figures: what they mean is for pathmtu, but 0 is the
// next plateau here.
func TestICMP4Figures(t *testing.T) {
	for _, c := range []struct {
		name string
		mtu  uint16
		want WireMTU
	}{
		{"1400", 1400, 1400}, {"1300", 1300, 1300}, {"1299", 1299, 1299}, {"1200", 1200, 1200},
		{"576", 576, 576}, {"400", 400, 400}, {"MTU 68", 68, 68}, {"larger than the packet", 9000, 9000},
		{"0 (old routers)", 0, 1006},
	} {
		t.Run(c.name, func(t *testing.T) {
			if e, why := ParseICMP4(tooLong(c.mtu, 28), sent); why != DoubtNone || e.MTU != c.want || e.Size != 1480 {
				t.Errorf("MTU %d of %d bytes, %v; want %d", e.MTU, e.Size, why, c.want)
			}
		})
	}
}

func TestPlateau(t *testing.T) {
	for _, c := range [][2]WireMTU{
		{65535, 32000}, {32001, 32000}, {32000, 17914}, {9000, 8166}, {1500, 1492}, {1492, 1006},
		{1006, 508}, {508, 296}, {296, 68}, {68, 68}, {0, 68},
	} {
		if got := Plateau(c[0]); got != c[1] {
			t.Errorf("below %d: %d, want %d", c[0], got, c[1])
		}
	}
}

func TestICMP4NotBelieved(t *testing.T) {
	inner := udp6(ours6, peer6, pattern(100), full)
	long := tooLong(1400, 548)
	about := func(quote []byte) []byte { return icmp4(3, 4, mtu4(1400), quote) }
	other := netip.MustParseAddr("203.0.113.9").As4()
	cases := []struct {
		name string
		b    []byte
		want Doubt
	}{
		{"no bytes", nil, DoubtMalformed},
		{"IPv4 header alone", ip4(router4, nil, set(9, 1)), DoubtMalformed},
		{"7 bytes of ICMP", ip4(router4, make([]byte, 7), set(9, 1)), DoubtMalformed},
		{"cut off", long[:len(long)-1], DoubtMalformed},
		{"not ICMP", ip4(router4, long[20:], set(9, 17)), DoubtMalformed},
		{"from multicast", ip4("224.0.0.1", long[20:], set(9, 1)), DoubtMalformed},
		{"from loopback", ip4("127.0.0.1", long[20:], set(9, 1)), DoubtMalformed},
		{"a fragment", ip4(router4, long[20:], set(9, 1), set(6, 0x20, 0)), DoubtMalformed},
		{"wrong ICMP checksum", flip(tooLong(1400, 548), 40), DoubtChecksum},
		{"echo request", icmp4(8, 0, [4]byte{}, outgoing(inner)), DoubtKind},
		{"redirect", icmp4(5, 1, [4]byte{}, outgoing(inner)), DoubtKind},
		{"timestamp", icmp4(13, 0, [4]byte{}, outgoing(inner)), DoubtKind},
		{"nothing quoted", about(nil), DoubtQuoteShort},
		{"a quote too short to judge", tooLong(1400, 27), DoubtQuoteShort},
		{"quoting UDP", about(outgoing(inner, set(9, 17))), DoubtNotTunnel},
		{"quoting IPv6", about(inner), DoubtNotTunnel},
		{"quoting a packet to somebody else", about(outgoing(inner, set(16, other[:]...))), DoubtNotSent},
		{"quoting a packet from somebody else", about(outgoing(inner, set(12, other[:]...))), DoubtNotSent},
		{"wrong addresses: to us about another address of ours", ip4(router4, long[20:], set(9, 1), set(16, other[:]...)), DoubtNotSent},
		{"quoting options, which we do not send", about(withOptions(outgoing(inner), []byte{1, 1, 1, 0})), DoubtNotSent},
		{"quoting a later fragment", about(outgoing(inner, set(6, 0, 69))), DoubtQuoteFragment},
		{"quoting 28 bytes of a packet never sent: no IPv6 inside", about(outgoing(pattern(100))[:28]), DoubtQuoteLength},
		{"quoting 28 bytes of a packet never sent: lengths contradict", about(outgoing(inner, length4(400))[:28]), DoubtQuoteLength},
		{"a first fragment as long as the whole", about(outgoing(inner, set(6, 0x20, 0))), DoubtQuoteLength},
		{"a first fragment of no length", about(outgoing(inner, set(6, 0x20, 0), length4(20))), DoubtQuoteLength},
		{"a flow we do not carry: inner source", about(outgoing(udp6("2001:db8:2::1", peer6, nil, full))), DoubtInnerForeign},
		{"a flow we do not carry: inner source alone", about(outgoing(udp6("2001:db8:2::1", peer6, nil, full))[:44]), DoubtInnerForeign},
		{"a flow we do not carry: inner destination", about(outgoing(udp6(ours6, "ff0e::1", nil, full))), DoubtInnerForeign},
		{"fragmentation needed, DF clear", about(outgoing(inner, set(6, 0))), DoubtDF},
		{"fragmentation needed, about a first fragment", about(outgoing(inner, set(6, 0x20, 0), length4(116))), DoubtDF},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if e, why := ParseICMP4(c.b, sent); why != c.want {
				t.Errorf("%v, want %v: %+v", why, c.want, e)
			}
		})
	}
}

// TestICMP4SloppyRouters: what routers get wrong and what is no reason to doubt.
func TestICMP4SloppyRouters(t *testing.T) {
	inner := udp6(ours6, peer6, pattern(1412), full)
	cases := []struct {
		name  string
		quote []byte
		size  int
	}{
		{"TTL and checksum as they were there", outgoing(inner, set(8, 1))[:60], 1480},
		{"quoted checksum not updated", flip(outgoing(inner), 10)[:60], 1480},
		{"another DSCP and ECN", outgoing(inner, set(1, 0xbb))[:60], 1480},
		{"total length a header more", outgoing(inner, length4(1500))[:60], 1480},
		{"total length a header less", outgoing(inner, length4(1460))[:60], 1480},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e, why := ParseICMP4(icmp4(3, 4, mtu4(0), c.quote), sent)
			if why != DoubtNone || e.Size != c.size || e.MTU != 1006 {
				t.Errorf("%v, %+v", why, e)
			}
		})
	}
	t.Run("host unreachable about a first fragment", func(t *testing.T) {
		quote := outgoing(udp6(ours6, peer6, pattern(1232), full), set(6, 0x20, 0), length4(572))[:572]
		if e, why := ParseICMP4(icmp4(3, 1, [4]byte{}, quote), sent); why != DoubtNone || e.Size != 572 || len(e.Inner) != 552 {
			t.Errorf("%v, %d bytes, %d of the inner packet", why, e.Size, len(e.Inner))
		}
	})
}

// extensionObject is an extension structure with one object of an MPLS label stack.
func extensionObject() []byte {
	b := []byte{0x20, 0, 0, 0, 0, 8, 1, 1, 0x12, 0x34, 0x51, 1}
	binary.BigEndian.PutUint16(b[2:], ^oracleSum(b))
	return b
}

// TestICMP4Extensions: messages with extensions are understood, and these are not taken
// for bytes of the packet (RFC 4884).
func TestICMP4Extensions(t *testing.T) {
	long, short := outgoing(udp6(ours6, peer6, pattern(1412), full)), outgoing(udp6(ours6, peer6, pattern(12), full))
	padded := append(bytes.Clone(short), make([]byte, 128-len(short))...)
	noise := pattern(12)
	cases := []struct {
		name  string
		rest  [4]byte
		quote []byte
		inner []byte
	}{
		{"with a length", [4]byte{1: 32}, append(bytes.Clone(long[:128]), extensionObject()...), long[20:128]},
		{"with a longer length", [4]byte{1: 64}, append(bytes.Clone(long[:256]), extensionObject()...), long[20:256]},
		{"without a length, as before RFC 4884", [4]byte{}, append(bytes.Clone(long[:128]), extensionObject()...), long[20:128]},
		{"a short packet, padded", [4]byte{1: 32}, append(bytes.Clone(padded), extensionObject()...), short[20:]},
		{"no extensions behind 128 bytes", [4]byte{}, append(bytes.Clone(long[:128]), noise...), append(bytes.Clone(long[20:128]), noise...)},
		{"wrong checksum of extensions", [4]byte{}, append(bytes.Clone(long[:128]), flip(extensionObject(), 9)...), append(bytes.Clone(long[20:128]), flip(extensionObject(), 9)...)},
		{"a length beyond the message", [4]byte{1: 255}, long[:200], long[20:200]},
		{"a length below 128", [4]byte{1: 5}, long[:200], long[20:200]},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e, why := ParseICMP4(icmp4(11, 0, c.rest, c.quote), sent)
			if why != DoubtNone {
				t.Fatal(why)
			}
			equalBytes(t, "inner packet", e.Inner, c.inner)
		})
	}
}

func TestDoubtNames(t *testing.T) {
	seen := map[string]bool{"": true, "unknown": true, "believed": true}
	for d := range Doubts() {
		if seen[d.String()] {
			t.Errorf("%d is %q", d, d)
		}
		seen[d.String()] = true
	}
	if len(seen) != NumDoubts+2 || DoubtNone.String() != "believed" || Doubt(NumDoubts).String() != "unknown" {
		t.Errorf("%d names", len(seen))
	}
	for range Doubts() {
		break // a loop may end early
	}
}

// FuzzICMP4 parses anything: what is believed names a tunnel of ours and a plausible
// packet, and is relayed as a sound ICMPv6 error or not at all.
func FuzzICMP4(f *testing.F) {
	inner := udp6(ours6, peer6, pattern(1412), full)
	for _, kind := range []byte{3, 4, 5, 11, 12} {
		for code := range byte(5) {
			f.Add(icmp4(kind, code, mtu4(1300), outgoing(inner)[:100]))
		}
	}
	f.Add(tooLong(0, 28))
	f.Add(icmp4(11, 0, [4]byte{1: 32}, append(outgoing(inner)[:128:128], extensionObject()...)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 28 { // mutation alone never gets past the checksums
			header := int(b[0]&15) * 4
			if header >= 20 && len(b) >= header+8 {
				total := min(max(int(b[2])<<8+int(b[3]), header+8), len(b))
				binary.BigEndian.PutUint16(b[2:], uint16(total))
				fix4(b)
				b[header+2], b[header+3] = 0, 0
				binary.BigEndian.PutUint16(b[header+2:], ^oracleSum(b[header:total]))
			}
		}
		before := bytes.Clone(b)
		e, why := ParseICMP4(b, sent)
		equalBytes(t, "message", b, before)
		if why != DoubtNone {
			return
		}
		if e.Peer != peer.As4() || len(e.Inner) < 8 || len(e.Inner) > e.Size-20 || e.Inner[0]>>4 != 6 || e.Kind == 0 {
			t.Fatalf("%+v", e)
		}
		if (e.MTU != 0) != (e.Kind == ICMP4FragNeeded) {
			t.Fatalf("%v with MTU %d", e.Kind, e.MTU)
		}
		answer := AppendRelayed(nil, &e, router)
		if answer == nil {
			return
		}
		kind, code, arg := byte(1), byte(3), uint32(0)
		switch e.Kind {
		case ICMP4FragNeeded:
			kind, code, arg = 2, 0, uint32(max(e.MTU-20, 1280))
		case ICMP4Prohibited:
			code = 1
		}
		checkAnswer(t, answer, e.Inner, kind, code, arg)
		if oracleIsError(e.Inner) {
			t.Errorf("an error is answered: % x", e.Inner)
		}
	})
}
