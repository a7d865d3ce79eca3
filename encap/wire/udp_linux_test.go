package wire

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"sixin4/encap/packettest"
)

type errno = unix.Errno

// repeat is n times size.
func repeat(n, size int, more ...int) (sizes []int) {
	for range n {
		sizes = append(sizes, size)
	}
	return append(sizes, more...)
}

// trains are batches by the lengths of their inner packets, and how many messages the
// kernel is handed for them on the way from a kernel that cuts up to 128.
var trains = []struct {
	name     string
	sizes    []int
	messages int
}{
	{"one", []int{100}, 1},
	{"two alike", repeat(2, 1472), 1},
	{"a super-packet", repeat(44, 1472, 739), 1},
	{"a byte more than 64 KiB take", repeat(44, 1472, 740), 2},
	{"the last one byte short", repeat(10, 1472, 1471), 1},
	{"one byte longer", repeat(10, 1471, 1472), 2},
	{"all different", []int{60, 61, 62, 63, 64, 65}, 6},
	{"getting shorter", []int{100, 90, 80, 70, 60}, 3},
	{"odd length", repeat(30, 1281, 77), 1},
	{"more than 64", repeat(100, 60), 1},
	{"more than 128", repeat(150, 60), 2},
	{"more than 64 KiB", repeat(120, 1400), 3},
	{"the least", repeat(5, 50), 1},
	{"jumbo", repeat(7, 9000), 1},
	{"small ones between", append(repeat(4, 1472), append([]int{72}, repeat(4, 1472, 72)...)...), 2},
}

// TestUDPPassesPackets: what one end writes the other reads, byte for byte and in
// order, whether the kernel cuts and merges or not, and with any size of batch.
func TestUDPPassesPackets(t *testing.T) {
	for _, unsegmented := range []bool{false, true} {
		for _, batch := range []int{1, 7, 128} {
			t.Run(fmt.Sprintf("unsegmented %t, batch %d", unsegmented, batch), func(t *testing.T) {
				p := newUDPPair(t, UDPConfig{Unsegmented: unsegmented}, UDPConfig{Unsegmented: unsegmented})
				setMTU(t, p, 9100)
				for _, train := range trains {
					t.Run(train.name, func(t *testing.T) {
						before := p.server.Stats().Merged
						passTrain(t, p, train.sizes, batch)
						if merged := p.server.Stats().Merged > before; merged && unsegmented {
							t.Error("merged where nothing should be")
						}
					})
				}
				if s := p.server.Stats(); !unsegmented && (s.Merged < uint64(len(trains)-3) || s.LongerMTU == 0) {
					t.Errorf("%+v: this was not about merged datagrams", s)
				}
			})
		}
	}
}

func setMTU(t testing.TB, p *udpPair, mtu int) {
	t.Helper()
	if err := errors.Join(p.A.SetMTU(p.LinkA, mtu), p.B.SetMTU(p.LinkB, mtu)); err != nil {
		t.Fatal(err)
	}
}

// passTrain sends packets both ways, with a type of service that changes.
func passTrain(t *testing.T, p *udpPair, sizes []int, batch int) {
	t.Helper()
	for _, way := range []struct {
		from, to *UDP
		make     func(byte, []byte) []byte
	}{{p.client, p.server, p.up}, {p.server, p.client, p.down}} {
		got := readUDP(way.to, len(sizes), batch)
		var packets [][]byte
		for i, size := range sizes {
			packets = append(packets, way.make(0, numbered(i, size)))
		}
		write(t, way.from, packets...)
		for i, want := range packets {
			r := within(t, "packet", got)
			expectDatagram(t, i, r, want)
		}
	}
}

// expectDatagram compares what the far end made of want, whose headers are as an engine
// leaves them.
func expectDatagram(t *testing.T, i int, r received, want []byte) {
	t.Helper()
	if len(r.raw) < UDPHeaderLen || r.seg != 0 || r.part || r.err != nil {
		t.Fatalf("packet %d: %d bytes, %d %t %v", i, len(r.raw), r.seg, r.part, r.err)
	}
	if sum := packettest.Sum(r.raw[:20]); sum != 0xffff {
		t.Errorf("packet %d: the header sums up to %#x", i, sum)
	}
	r.raw[10], r.raw[11], r.raw[6] = 0, 0, 0x40
	if !bytes.Equal(r.raw, want) {
		t.Fatalf("packet %d: % x, want % x", i, r.raw[:50], want[:50])
	}
}

// TestUDPMessages: as few messages as may be are handed to the kernel.
func TestUDPMessages(t *testing.T) {
	for _, c := range trains {
		t.Run(c.name, func(t *testing.T) {
			p := newUDPPair(t, UDPConfig{}, UDPConfig{})
			setMTU(t, p, 9100)
			messages := 0
			w, _ := fate(t, p.client, func(*mmsghdr) error { messages++; return nil })
			var packets [][]byte
			for i, size := range c.sizes {
				packets = append(packets, p.up(0, numbered(i, size)))
			}
			if n, err := w.Write(batchOf(packets...)); n != len(packets) || err != nil {
				t.Fatal(n, err)
			}
			if p.client.segments.Load() == maxSegments && messages != c.messages {
				t.Errorf("%d messages, want %d", messages, c.messages)
			}
		})
	}
}

// TestUDPOnTheWire: the kernel really cuts: on a link without such an offload there
// are as many frames as packets, with their own headers, and the far kernel merges
// them again where it is told to.
func TestUDPOnTheWire(t *testing.T) {
	p := newUDPPair(t, UDPConfig{}, UDPConfig{})
	if err := p.A.SetFeature(p.LinkA, "tx-udp-segmentation", false); err != nil {
		t.Fatal(err)
	}
	const n = 40
	write(t, p.client, p.up(0, numbered(0, 60))) // resolves the neighbour
	<-readUDP(p.server, 1, 1)
	before, err := p.B.LinkStats(p.LinkB)
	if err != nil {
		t.Fatal(err)
	}
	passTrain(t, p, repeat(n, 1400), 128)
	after, err := p.B.LinkStats(p.LinkB)
	if err != nil {
		t.Fatal(err)
	}
	if frames := after.RxPackets - before.RxPackets; frames < n {
		t.Errorf("%d frames for %d packets", frames, n)
	}
}

// TestUDPReceiveMerged: datagrams that come one by one over the link are merged by the
// kernel when that has GRO, and cut by views.
func TestUDPReceiveMerged(t *testing.T) {
	p := newUDPPair(t, UDPConfig{}, UDPConfig{Unsegmented: true})
	mergeAt(t, p.Topology)
	const n = 30
	got := readUDP(p.client, n, 128)
	var packets [][]byte
	for i := range n {
		packets = append(packets, p.down(0, numbered(i, 1300)))
	}
	write(t, p.server, packets...)
	for i, want := range packets {
		expectDatagram(t, i, within(t, "packet", got), want)
	}
	if s := p.client.Stats(); s.Merged == 0 || s.LongerMTU == 0 || s.Merged >= n {
		t.Errorf("%+v: this was not about merged datagrams", s)
	}
}

// TestUDPTOS: the ECN and DSCP bits of each packet arrive with it, and packets that
// differ in them do not share a message.
func TestUDPTOS(t *testing.T) {
	p := newUDPPair(t, UDPConfig{}, UDPConfig{})
	var packets [][]byte
	for i := range 64 {
		tos := byte(i / 4 % 4) // runs of four
		if i >= 32 {
			tos = byte(i * 4)
		}
		packets = append(packets, p.up(tos, numbered(i, 200)))
	}
	got := readUDP(p.server, len(packets), 128)
	write(t, p.client, packets...)
	for i, want := range packets {
		expectDatagram(t, i, within(t, "packet", got), want)
	}
}

// sniff returns a function that waits for the next IPv4 packet with data at the link of
// a client's host, as it came over the wire.
func (p *udpPair) sniff(t *testing.T) func() []byte {
	t.Helper()
	var fd int
	err := p.B.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(networkOrder(unix.ETH_P_IP)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func() []byte {
		t.Helper()
		b := make([]byte, 70000)
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
			t.Fatal(err)
		}
		for {
			n, from, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				t.Fatal(err)
			}
			if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype != unix.PACKET_OUTGOING {
				return b[:n]
			}
		}
	}
}

// TestUDPHeadersOnTheWire: DF, time to live and type of service, as the link sees them.
func TestUDPHeadersOnTheWire(t *testing.T) {
	for _, clearDF := range []bool{false, true} {
		t.Run(fmt.Sprintf("clear DF %t", clearDF), func(t *testing.T) {
			p := newUDPPair(t, UDPConfig{ClearDF: clearDF, TTL: 77}, UDPConfig{})
			next := p.sniff(t)
			check := func(what string, df bool, ttl, tos byte) {
				t.Helper()
				ip := next()
				if got := ip[6]&0x40 != 0; got != df || ip[8] != ttl || ip[1] != tos {
					t.Errorf("%s: DF %t, TTL %d, TOS %d; want %t, %d, %d", what, got, ip[8], ip[1], df, ttl, tos)
				}
			}
			ownTTL := func(ttl byte, b []byte) []byte { b[8] = ttl; return b }
			write(t, p.client, ownTTL(77, p.up(1, numbered(0, 100))), ownTTL(77, p.up(1, numbered(1, 100))))
			check("of the socket", !clearDF, 77, 1)
			write(t, p.client, ownTTL(9, p.up(0x2a, numbered(0, 100))))
			check("of the packet", !clearDF, 9, 0x2a)
			if err := p.client.SetDF(clearDF); err != nil {
				t.Fatal(err)
			}
			write(t, p.client, ownTTL(77, p.up(0, numbered(0, 100))))
			check("DF changed", clearDF, 77, 0)
		})
	}
}

// TestUDPForeignDatagrams: a connected socket hears nobody else, and a listening one
// tells who it is.
func TestUDPForeignDatagrams(t *testing.T) {
	p := newUDPPair(t, UDPConfig{}, UDPConfig{})
	if err := p.B.AddAddr(p.LinkB, "192.0.2.3/24"); err != nil {
		t.Fatal(err)
	}
	got := readUDP(p.client, 1, 128)
	for _, from := range []string{"192.0.2.3:3653", "192.0.2.2:3654"} {
		stranger := openUDP(t, p.B, netip.MustParseAddrPort(from), netip.AddrPort{}, UDPConfig{})
		write(t, stranger, datagram(stranger.LocalAddr(), p.client.LocalAddr(), 0, numbered(6, 100)))
	}
	write(t, p.server, p.down(0, numbered(7, 100)))
	expectDatagram(t, 0, within(t, "packet", got), p.down(0, numbered(7, 100)))

	at := readUDP(p.server, 2, 128)
	for i := range 2 {
		other := openUDP(t, p.A, anyPort4, serverPort, UDPConfig{})
		out := datagram(other.LocalAddr(), serverPort, 0, numbered(i, 100))
		write(t, other, out)
		expectDatagram(t, i, within(t, "packet", at), out)
	}
}

// TestUDPReplySource: a socket that is bound to no address answers from the one that
// was asked.
func TestUDPReplySource(t *testing.T) {
	top := pair(t)
	if err := top.B.AddAddr(top.LinkB, "192.0.2.3/24"); err != nil {
		t.Fatal(err)
	}
	server := openUDP(t, top.B, netip.MustParseAddrPort("0.0.0.0:3653"), netip.AddrPort{}, UDPConfig{})
	for _, asked := range []string{"192.0.2.3:3653", "192.0.2.2:3653"} {
		at := netip.MustParseAddrPort(asked)
		client := openUDP(t, top.A, anyPort4, at, UDPConfig{})
		in := readUDP(server, 1, 128)
		out := datagram(client.LocalAddr(), at, 0, numbered(1, 100))
		write(t, client, out)
		expectDatagram(t, 0, within(t, "question", in), out)
		back := readUDP(client, 2, 128)
		answer := datagram(at, client.LocalAddr(), 0, numbered(2, 100))
		write(t, server, answer, answer)
		expectDatagram(t, 1, within(t, "answer", back), answer)
	}
}
