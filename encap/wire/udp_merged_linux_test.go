package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sixin4/encap"
	"sixin4/encap/packet"
)

// withOptions puts twelve bytes of options into a TCP header.
func withOptions(b []byte) []byte {
	b = slices.Concat(b[:60], []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}, b[60:])
	b[52] = 0x80
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

// edited is b with other bytes at one place.
func edited(b []byte, at int, v ...byte) []byte { copy(b[at:], v); return b }

// TestUDPInspect: what is TCP in one piece, or has its checksum left undone, is handed
// over as that, and everything else as it came.
func TestUDPInspect(t *testing.T) {
	tcpHint := &hint{kind: gsoTCP6, size: 1380}
	const most = maxUDPPayload - 60
	for _, c := range []struct {
		name    string
		inner   []byte
		hint    *hint
		seg     int
		partial bool
		err     error
	}{
		{"TCP", tcp(1000), nil, 0, false, nil},
		{"UDP", udp(1000), nil, 0, false, nil},
		{"TCP, undone", partial(tcp(1000)), nil, 0, true, nil},
		{"TCP without data, undone", partial(tcp(0)), nil, 0, true, nil},
		{"UDP, undone", partial(udp(1000)), nil, 0, true, nil},
		{"UDP without data, undone", partial(udp(0)), nil, 0, true, nil},
		{"UDP without a checksum", edited(udp(100), 46, 0, 0), nil, 0, false, nil},
		{"TCP, undone, behind an extension header", behindOptions(partial(tcp(100))), nil, 0, true, nil},
		{"TCP, undone, said to be one", partial(tcp(1000)), &hint{}, 0, true, nil},
		{"short TCP, merged", partial(tcp(900)), &hint{kind: gsoTCP6, size: 300}, 300, true, nil},
		{"as long as the link, undone", partial(tcp(1412)), nil, 0, true, nil},
		{"a byte over it", partial(tcp(1413)), nil, 1220, true, nil},
		{"merged TCP", partial(tcp(40_000)), nil, 1220, true, nil},
		{"merged TCP, odd", partial(tcp(40_001)), tcpHint, 1380, true, nil},
		{"merged TCP with options", partial(withOptions(tcp(40_000))), nil, 1208, true, nil},
		{"merged TCP with options, said so", partial(withOptions(tcp(40_000))), tcpHint, 1380, true, nil},
		{"merged TCP with congestion experienced", partial(tcp(40_000)), &hint{kind: gsoTCP6 | gsoECN, size: 1380}, 1380, true, nil},
		{"the longest TCP", partial(tcp(most)), tcpHint, 1380, true, nil},
		{"merged TCP behind an extension header", behindOptions(partial(tcp(40_000))), nil, 1212, true, nil},
		{"merged UDP", partial(udp(40_000)), nil, 0, true, packet.ErrSegmentUnknown},
		{"long UDP, undone, said to be one", partial(udp(3000)), &hint{}, 0, true, nil},
		{"merged UDP, said so", partial(udp(3000)), &hint{kind: gsoUDP, size: 1200}, 1200, true, nil},
		{"long TCP", tcp(3000), nil, 0, false, nil},
		{"long UDP", udp(3000), nil, 0, false, nil},
		{"long UDP, right and partial", looksPartial(3000), nil, 0, true, nil},
		{"UDP, right and partial", looksPartial(300), nil, 0, false, nil},
		{"long TCP, wrong checksum", wrong(tcp(3000)), nil, 0, false, nil},
		{"long UDP, wrong checksum", wrong(udp(3000)), nil, 0, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, r := scripted(t, UDPConfig{}, c.inner)
			r.hints.complete = true // a hint that is not there is no proof
			if c.hint != nil {
				r.know(t, c.inner, *c.hint)
			}
			p := readOne(t, r)
			if p.Seg != c.seg || (p.Sum == packet.SumPartial) != c.partial || !errors.Is(p.Err, c.err) {
				t.Errorf("segments %d, partial %t, error %v; want %d, %t, %v", p.Seg, p.Sum == packet.SumPartial, p.Err, c.seg, c.partial, c.err)
			}
			if merged := u.Stats().Merged == 1; merged != (c.seg > 0 || c.err != nil) {
				t.Errorf("counted as merged: %t", merged)
			}
			sum, seg := p.Sum, p.Seg
			expectWhole(t, u, p, c.inner)
			if p.Sum != sum || p.Seg != seg {
				t.Error("Decap forgets what was found")
			}
		})
	}
}

// expectWhole expects that p is inner from peer4, and takes its outer headers off.
func expectWhole(t testing.TB, u *UDP, p *packet.Packet, inner []byte) {
	t.Helper()
	raw := p.AppendTo(nil)
	raw[6], raw[10], raw[11] = 0x40, 0, 0
	if !bytes.Equal(raw, datagram(peer4, u.LocalAddr(), 0, inner)) {
		t.Fatalf("%d bytes became % x...", len(inner), raw[:min(len(raw), 100)])
	}
	if _, port, d := encap.DecapUDP(p); d != encap.Forward || port != peer4.Port() || p.Len() != len(inner) {
		t.Errorf("Decap: %v, port %d, %d of %d bytes", d, port, p.Len(), len(inner))
	}
}

// TestUDPInspectHostile: what contradicts itself is handed over as it came, for others to
// refuse.
func TestUDPInspectHostile(t *testing.T) {
	junk := bytes.Repeat([]byte{0x66}, maxUDPPayload)
	deep := edited(bytes.Repeat([]byte{60, 0, 1, 4, 0, 0, 0, 0}, 500), 0, junk[:40]...)
	deep[6] = 60
	binary.BigEndian.PutUint16(deep[4:], uint16(len(deep)-40))
	for name, d := range map[string][]byte{
		"64 KiB of junk":                junk,
		"one byte":                      {0x60},
		"inner header cut short":        partial(tcp(0))[:39],
		"nothing behind the header":     edited(partial(tcp(0))[:40:40], 4, 0, 0),
		"TCP header cut short":          edited(partial(tcp(0))[:59:59], 4, 0, 19),
		"UDP header cut short":          edited(partial(udp(0))[:47:47], 4, 0, 7),
		"shorter than it says":          partial(tcp(40_000))[:39_000],
		"longer than it says":           append(partial(tcp(40_000)), 0),
		"longer than it says, undone":   edited(partial(edited(tcp(40_000), 4, 0x9c, 0x53)), 4, 0x9c, 0x00),
		"data offset beyond the packet": partial(edited(tcp(10), 52, 0xf0)),
		"data offset into the header":   partial(edited(tcp(40_000), 52, 0x40)),
		"UDP shorter than its place":    partial(edited(udp(3000), 44, 0x01, 0x00)),
		"UDP longer than its place":     partial(edited(udp(3000), 44, 0xff, 0xff)),
		"extension headers without end": deep,
		"a fragment":                    edited(behindOptions(partial(tcp(40_000))), 6, 44),
	} {
		t.Run(name, func(t *testing.T) {
			u, r := scripted(t, UDPConfig{}, d)
			r.know(t, junk, hint{kind: gsoTCP6, size: 1})
			p := readOne(t, r)
			if p.Seg != 0 || p.Sum != packet.SumFull || p.Err != nil || u.Stats().Merged != 0 {
				t.Errorf("segments %d, sum %d, %v, counted %+v", p.Seg, p.Sum, p.Err, u.Stats())
			}
			raw := p.AppendTo(nil)
			if !bytes.Equal(raw[UDPHeaderLen:], d) {
				t.Error("the bytes of the packet changed")
			}
		})
	}
}

// TestUDPCutIsNotInspected: what the kernel merged as datagrams is packets as they went
// over a wire.
func TestUDPCutIsNotInspected(t *testing.T) {
	one := partial(udp(100))
	u, r := scripted(t, UDPConfig{})
	r.recv = func(_ int, msgs []mmsghdr) (int, unix.Errno) {
		deliver(&msgs[0], slices.Concat(one, one, one))
		note(&msgs[0], unix.IPPROTO_UDP, unix.UDP_GRO, uint32(len(one)))
		return 1, 0
	}
	b := packet.NewBatch(BatchSize)
	if err := r.Read(b); err != nil || b.Len() != 3 {
		t.Fatalf("%d packets, %v", b.Len(), err)
	}
	for i := range b.Packets {
		p := &b.Packets[i]
		if p.Sum != packet.SumFull || p.Seg != 0 {
			t.Errorf("packet %d: sum %d, segments of %d", i, p.Sum, p.Seg)
		}
		expectWhole(t, u, p, one)
	}
}

// TestUDPReassembledIsOne: a datagram that came in fragments is one packet.
func TestUDPReassembledIsOne(t *testing.T) {
	whole := partial(udp(3000))
	u, r := scripted(t, UDPConfig{})
	r.recv = func(_ int, msgs []mmsghdr) (int, unix.Errno) {
		deliver(&msgs[0], whole)
		note(&msgs[0], unix.IPPROTO_IP, unix.IP_RECVFRAGSIZE, 1400)
		return 1, 0
	}
	p := readOne(t, r)
	if p.Seg != 0 || p.Err != nil || u.Stats().Merged != 0 {
		t.Errorf("segments of %d, %v, counted %+v", p.Seg, p.Err, u.Stats())
	}
	expectWhole(t, u, p, whole)
}

// TestUDPInspectSources: the kernel's word about a datagram of one peer is none about
// another's, nor about the next one.
func TestUDPInspectSources(t *testing.T) {
	d := partial(tcp(5000))
	_, r := scripted(t, UDPConfig{}, d)
	for _, c := range []struct {
		from netip.AddrPort
		seg  int
	}{
		{netip.MustParseAddrPort("192.0.2.78:4077"), 1220}, {netip.MustParseAddrPort("192.0.2.77:4078"), 1220}, {peer4, 1400},
	} {
		r.know(t, d, hint{kind: gsoTCP6, size: 1400})
		e := &r.hints.ring[r.hints.next-1]
		e.key.set(datagram(c.from, r.u.LocalAddr(), 0, d), UDPHeaderLen)
		for _, want := range []int{c.seg, 1220} {
			if p := readOne(t, r); p.Seg != want {
				t.Errorf("known of %v: segments of %d, want %d", c.from, p.Seg, want)
			}
		}
	}
}

// TestUDPWithoutHints: a host that lets nobody ask is told of once, in the debug log.
func TestUDPWithoutHints(t *testing.T) {
	var book logBook
	_, r := scripted(t, UDPConfig{Logger: book.debugLogger()}, partial(tcp(40_000)), partial(tcp(40_000)), partial(udp(9)))
	book.lines = nil
	r.hints.close()
	r.hints.failed, r.hints.err = false, errNoCapability
	b := packet.NewBatch(BatchSize)
	for range 3 {
		if err := r.Read(b); err != nil || b.Len() != 3 || b.Packets[1].Seg != 1220 || b.Packets[2].Sum != packet.SumPartial {
			t.Fatalf("%d packets, %v", b.Len(), err)
		}
	}
	if len(book.lines) != 1 || !strings.Contains(book.lines[0], "level=DEBUG") || !strings.Contains(book.lines[0], "1280") {
		t.Errorf("log %q", book.lines)
	}
}

var errNoCapability error = unix.EPERM

// TestUDPMergedWhole: the kernel hands over TCP in one piece, with its word about it from
// the second packet on, and checksums that were left undone.
func TestUDPMergedWhole(t *testing.T) {
	p := newUDPPair(t, UDPConfig{}, UDPConfig{})
	send := virtualLink(t, p.B)
	from := netip.MustParseAddrPort("198.51.100.7:4077")
	for round, want := range []int{1220, 1400, 1400} {
		got := readUDP(p.server, 4, BatchSize)
		for _, c := range []struct {
			inner     []byte
			seg, read int
			partial   bool
		}{
			{partial(tcp(60_000 - round)), 1400, want, true},
			{partial(udp(700 + round)), 0, 0, true},
			{partial(tcp(1000 + round)), 400, 400, true},
			{tcp(900 + round), 0, 0, false},
		} {
			sent := datagram(from, serverPort, 0, c.inner)
			send(sent, c.partial, c.seg)
			r := within(t, "packet", got)
			if r.seg != c.read || r.part != c.partial || r.err != nil || !bytes.Equal(r.raw[UDPHeaderLen:], c.inner) {
				t.Errorf("round %d: %d of %d bytes, partial %t, segments of %d, %v; want segments of %d", round, len(r.raw), len(sent), r.part, r.seg, r.err, c.read)
			}
		}
	}
	if s := p.server.Stats(); s.Merged == 0 || s.LongerMTU != 3 {
		t.Errorf("counted %+v", s)
	}
}

// FuzzUDPInspect: whatever datagram comes alone, its bytes are handed over, what is said to
// be merged is whole TCP or UDP whose headers the head holds, and nothing fails.
func FuzzUDPInspect(f *testing.F) {
	for _, d := range [][]byte{partial(tcp(3000)), partial(udp(3000)), behindOptions(partial(tcp(3000))), tcp(9), partial(tcp(0))} {
		f.Add(d, uint16(1400))
	}
	var d []byte
	u, r := scripted(f, UDPConfig{})
	r.recv = func(_ int, msgs []mmsghdr) (int, unix.Errno) {
		deliver(&msgs[0], d)
		return 1, 0
	}
	b := packet.NewBatch(1)
	f.Fuzz(func(t *testing.T, data []byte, size uint16) {
		if len(data) == 0 || len(data) > maxUDPPayload || kindOf(data) != udpData {
			t.Skip()
		}
		d = data
		r.hints.failed = true
		if size > 0 && len(d) >= 48 {
			r.know(t, d, hint{kind: gsoTCP6, size: int(size)})
		}
		if err := r.Read(b); err != nil || b.Len() != 1 {
			t.Fatalf("%d packets, %v", b.Len(), err)
		}
		p := &b.Packets[0]
		if !bytes.Equal(p.AppendTo(nil)[UDPHeaderLen:], d) {
			t.Fatal("the bytes of the packet changed")
		}
		if p.Seg == 0 && p.Sum == packet.SumFull && p.Err == nil {
			return
		}
		if _, _, drop := encap.DecapUDP(p); drop == encap.Forward {
			if _, headers, ok := encap.Transport(p); !ok || headers > len(p.Head()) || p.Sum != packet.SumPartial {
				t.Errorf("%d bytes of headers, %t, sum %d, segments of %d", headers, ok, p.Sum, p.Seg)
			}
		}
	})
	u.Close()
}
