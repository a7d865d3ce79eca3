package load

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"sixin4/tsp"
)

var (
	testServer = netip.MustParseAddrPort("192.0.2.2:3653")
	inner      = netip.MustParseAddr("2001:db8:1::2")
	other      = netip.MustParseAddr("2001:db8:1::3")
	world      = netip.MustParseAddr("2001:db8:f::1")
)

// one is a crowd of two of which the second has a tunnel.
func one() (*Crowd, *Tunnel) {
	c := &Crowd{cfg: Config{Server: testServer, First: netip.MustParseAddr("198.18.0.1")}, slots: make([]slot, 2)}
	return c, c.enter(1, &tsp.Tunnel{Client6: inner, Server6: netip.MustParseAddr("2001:db8:1::1")})
}

// back is a packet of the broker to a client.
func back(kind byte, to netip.Addr, outer string) []byte {
	t := &Tunnel{outer: testServer.Addr(), broker: netip.MustParseAddr(outer), Inner: world}
	p := t.request(to, requestLen, 7)
	p[outerLen+innerLen] = kind
	binary.BigEndian.PutUint16(p[outerLen+innerLen+2:], 0)
	binary.BigEndian.PutUint16(p[outerLen+innerLen+2:], checksum(p[outerLen:]))
	return p
}

func TestTake(t *testing.T) {
	for _, tt := range []struct {
		name             string
		packet           []byte
		proofs, received int64
	}{
		{"a request", back(echoRequest, inner, "198.18.0.2"), 1, 0},
		{"a reply", back(echoReply, inner, "198.18.0.2"), 0, 1},
		{"to another address inside", back(echoRequest, other, "198.18.0.2"), 0, 0},
		{"to a client without a tunnel", back(echoRequest, inner, "198.18.0.1"), 0, 0},
		{"to nobody", back(echoRequest, inner, "198.18.0.3"), 0, 0},
		{"something else", back(135, inner, "198.18.0.2"), 0, 0},
		{"cut off", back(echoRequest, inner, "198.18.0.2")[:outerLen+innerLen], 0, 0},
		{"nothing", nil, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, tunnel := one()
			answer := c.take(tt.packet)
			if tunnel.Proofs.Load() != tt.proofs || tunnel.Received.Load() != tt.received || (answer != nil) != (tt.proofs == 1) {
				t.Errorf("%d proofs, %d received, answer %x", tunnel.Proofs.Load(), tunnel.Received.Load(), answer)
			}
			select {
			case <-tunnel.Proven():
				if tt.proofs == 0 {
					t.Error("shown to be there")
				}
			default:
				if tt.proofs == 1 {
					t.Error("not shown to be there")
				}
			}
		})
	}
}

// TestReply: an answer goes back where the request came from, and is right.
func TestReply(t *testing.T) {
	c, _ := one()
	for _, length := range []int{48, 64, 1280} {
		asked := &Tunnel{outer: testServer.Addr(), broker: netip.MustParseAddr("198.18.0.2"), Inner: world}
		p := asked.request(inner, length, 7)
		p[outerLen+length-1] ^= 0xff // so that checksums carry over
		binary.BigEndian.PutUint16(p[outerLen+innerLen+2:], 0)
		binary.BigEndian.PutUint16(p[outerLen+innerLen+2:], checksum(p[outerLen:]))
		r := c.take(p)
		if netip.AddrFrom4([4]byte(r[12:])).String() != "198.18.0.2" || netip.AddrFrom4([4]byte(r[16:])) != testServer.Addr() {
			t.Errorf("outer addresses %v", r[12:20])
		}
		in := r[outerLen:]
		if netip.AddrFrom16([16]byte(in[8:])) != inner || netip.AddrFrom16([16]byte(in[24:])) != world || in[innerLen] != echoReply {
			t.Errorf("inside %x", in[:innerLen+icmpLen])
		}
		if sum := checksum(in); sum != 0 {
			t.Errorf("%d bytes: the checksum is wrong by %#x", length, sum)
		}
	}
}

func TestDatagram(t *testing.T) {
	from := netip.MustParseAddrPort("198.18.0.9:1234")
	p := datagram(from, testServer, []byte("abc"))
	if n := binary.BigEndian.Uint16(p[2:]); int(n) != len(p) || len(p) != 31 || binary.BigEndian.Uint16(p[24:]) != 11 || string(p[28:]) != "abc" {
		t.Errorf("%x", p)
	}
	if binary.BigEndian.Uint16(p[20:]) != 1234 || binary.BigEndian.Uint16(p[22:]) != 3653 || p[9] != 17 {
		t.Errorf("%x", p)
	}
}

// TestBadMessages are what they are meant to be.
func TestBadMessages(t *testing.T) {
	bomb := entities()
	if strings.Count(bomb, "<!ENTITY") != 10 || !strings.Contains(bomb, strings.Repeat("&e8;", 10)) {
		t.Error(bomb)
	}
	if n := len(badMessages()); n < 8 {
		t.Errorf("%d", n)
	}
}

func TestLoss(t *testing.T) {
	for _, tt := range []struct {
		c    Carried
		want float64
	}{{Carried{}, 0}, {Carried{Sent: 10, Received: 10}, 0}, {Carried{Sent: 10, Received: 5}, 0.5}, {Carried{Sent: 4}, 1}} {
		if got := tt.c.Loss(); got != tt.want {
			t.Errorf("%+v: %v, want %v", tt.c, got, tt.want)
		}
	}
}
