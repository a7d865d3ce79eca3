package netstack

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"sixin4/encap/packet"
	"sixin4/encap/packettest"
)

// recorder is in the place of the stack.
type recorder struct {
	l    *link
	seen []delivered
}

type delivered struct {
	bytes    []byte
	verified bool
}

func (r *recorder) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, p *stack.PacketBuffer) {
	r.seen = append(r.seen, delivered{flatten(nil, p), r.l.Capabilities()&stack.CapabilityRXChecksumOffload != 0})
}

func (*recorder) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

var (
	portA = netip.AddrPortFrom(addrA, 1000)
	portB = netip.AddrPortFrom(addrB, 80)
)

// segment is a TCP segment without PSH, unless edited otherwise before its checksum
// is put right again.
func segment(seq uint32, n int, edits ...func(b []byte)) []byte {
	b := packettest.TCP(portA, portB, seq, packettest.Pattern(int(seq), n))
	b[40+tcpFlags] = tcpACK
	for _, edit := range edits {
		edit(b)
	}
	b[40+tcpCheck], b[40+tcpCheck+1] = 0, 0
	sum := packettest.Sum(append(packettest.PseudoHeader(b, protoTCP), b[40:]...))
	binary.BigEndian.PutUint16(b[40+tcpCheck:], ^sum)
	return b
}

func push(b []byte)      { b[40+tcpFlags] |= tcpPSH }
func congested(b []byte) { b[1] |= 0x30 }
func otherPort(b []byte) { b[41]++ }
func window(b []byte)    { b[40+tcpWindow]++ }

// corrupt changes a byte of data.
func corrupt(b []byte) []byte {
	b[len(b)-1] ^= 1
	return b
}

func TestJoin(t *testing.T) {
	long := func(n int) (all [][]byte) {
		for i := range n {
			all = append(all, segment(uint32(i*1400), 1400))
		}
		return all
	}
	for _, tt := range []struct {
		name string
		in   [][]byte
		want []int // payload bytes of what the stack gets
		bad  uint64
	}{
		{"in order", [][]byte{segment(0, 100), segment(100, 100), segment(200, 50)}, []int{250}, 0},
		{"one", [][]byte{segment(7, 100)}, []int{100}, 0},
		{"pushed", [][]byte{segment(0, 100), segment(100, 100, push), segment(200, 100)}, []int{200, 100}, 0},
		{"gap", [][]byte{segment(0, 100), segment(101, 100)}, []int{100, 100}, 0},
		{"again", [][]byte{segment(0, 100), segment(0, 100)}, []int{100, 100}, 0},
		{"behind a short one", [][]byte{segment(0, 100), segment(100, 50), segment(150, 50)}, []int{150, 50}, 0},
		{"longer than the first", [][]byte{segment(0, 100), segment(100, 101)}, []int{100, 101}, 0},
		{"congestion experienced", [][]byte{segment(0, 100), segment(100, 100, congested)}, []int{100, 100}, 0},
		{"another connection", [][]byte{segment(0, 100), segment(100, 100, otherPort)}, []int{100, 100}, 0},
		{"another window", [][]byte{segment(0, 100), segment(100, 100, window)}, []int{100, 100}, 0},
		{"wrong checksum", [][]byte{segment(0, 100), corrupt(segment(100, 100)), segment(200, 100)}, []int{100, 100}, 1},
		{"more than a packet holds", long(48), []int{46 * 1400, 2 * 1400}, 0},
		{"no data", [][]byte{segment(0, 100), segment(100, 0)}, []int{100, 0}, 0},
	} {
		for _, split := range []int{0, 60, 70} { // how the packet lies in memory
			t.Run(fmt.Sprint(tt.name, " ", split), func(t *testing.T) {
				l, r := record()
				b := packet.NewBatch(len(tt.in))
				for _, in := range tt.in {
					set(b.Next(), in, split)
				}
				n, err := (&Writer{l: l}).Write(b)
				if n != len(tt.in) || err != nil {
					t.Fatalf("%d, %v", n, err)
				}
				var got []int
				for _, d := range r.seen {
					got = append(got, len(d.bytes)-60)
					checkJoined(t, d)
				}
				if !slices.Equal(got, tt.want) || l.badSum.Load() != tt.bad {
					t.Errorf("%v, %d with a wrong checksum, want %v and %d", got, l.badSum.Load(), tt.want, tt.bad)
				}
			})
		}
	}
}

// checkJoined compares a packet with its sequence number, which says what data it
// has.
func checkJoined(t *testing.T, d delivered) {
	t.Helper()
	b := d.bytes
	if int(binary.BigEndian.Uint16(b[4:]))+40 != len(b) {
		t.Errorf("length %d in a packet of %d bytes", binary.BigEndian.Uint16(b[4:]), len(b))
	}
	if len(b) > 60 && !d.verified {
		t.Error("the stack is to verify the checksum again")
	}
	seq := int(binary.BigEndian.Uint32(b[44:]))
	first := min(len(b)-60, 50)
	if !slices.Equal(b[60:60+first], packettest.Pattern(seq, 100)[:first]) {
		t.Errorf("wrong data at %d", seq)
	}
}

func record() (*link, *recorder) {
	l := newLink(Config{})
	r := &recorder{l: l}
	l.Attach(r)
	return l, r
}

// set makes p the packet whose first at bytes are its head; 0 means all.
func set(p *packet.Packet, b []byte, at int) {
	if at == 0 || at > len(b) {
		at = len(b)
	}
	p.Set(append(make([]byte, packet.Headroom), b[:at]...), packet.Headroom, slices.Clone(b[at:]))
}

func TestWriteOthers(t *testing.T) {
	datagrams := packettest.UDP(portA, portB, packettest.Pattern(0, 250))
	for _, tt := range []struct {
		name     string
		in       []byte
		seg      int
		sum      packet.Sum
		want     []int // bytes of what the stack gets
		verified bool
		err      error
	}{
		{"merged TCP", corrupt(segment(0, 5000)), 1000, packet.SumPartial, []int{5060}, true, nil},
		{"TCP of this machine", corrupt(segment(0, 500)), 0, packet.SumPartial, []int{560}, true, nil},
		{"merged UDP", datagrams, 100, packet.SumPartial, []int{148, 148, 98}, true, nil},
		{"UDP", datagrams, 0, packet.SumFull, []int{298}, false, nil},
		{"UDP of this machine", corrupt(datagrams), 0, packet.SumPartial, []int{298}, true, nil},
		{"SYN", segment(0, 0, func(b []byte) { b[40+tcpFlags] = 2 }), 0, packet.SumFull, []int{60}, false, nil},
		{"ICMPv6", packettest.ICMPv6(addrA, addrB, 128, 0, make([]byte, 20)), 0, packet.SumFull, []int{64}, false, nil},
		{"trailing bytes", append(segment(0, 100), 0, 0), 0, packet.SumFull, []int{162}, false, nil},
		{"IPv4", make([]byte, 60), 0, packet.SumFull, nil, false, packet.ErrMalformed},
		{"cut short", segment(0, 0)[:39], 0, packet.SumFull, nil, false, packet.ErrMalformed},
		{"merged UDP cut short", datagrams[:44], 100, packet.SumPartial, nil, false, packet.ErrMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, r := record()
			b := packet.NewBatch(1)
			set(b.Next(), tt.in, 0)
			b.Packets[0].Seg, b.Packets[0].Sum = tt.seg, tt.sum
			if _, err := (&Writer{l: l}).Write(b); err != tt.err || b.Packets[0].Err != tt.err {
				t.Errorf("error %v", err)
			}
			var got []int
			for _, d := range r.seen {
				got = append(got, len(d.bytes))
				if d.verified != tt.verified {
					t.Errorf("verified %v", d.verified)
				}
				if next := d.bytes[6]; next == protoUDP && int(binary.BigEndian.Uint16(d.bytes[44:]))+40 != len(d.bytes) {
					t.Error("UDP length")
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}
