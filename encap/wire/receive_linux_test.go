package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"sixin4/encap/packet"
	"sixin4/encap/packettest"
	"sixin4/tun/nstest"
)

// mergeAt makes the kernel of A merge what arrives, for five milliseconds at a
// time, and that of B send segments as they are.
func mergeAt(t *testing.T, top *nstest.Topology, features ...string) {
	t.Helper()
	nstest.NeedMachine(t)
	set := func(ns *nstest.NS, link, feature string, on bool) {
		t.Helper()
		if err := ns.SetFeature(link, feature, on); err != nil {
			t.Fatal(err)
		}
	}
	set(top.B, top.LinkB, "tso", false)
	set(top.A, top.LinkA, "gro", true)
	for _, f := range features {
		set(top.A, top.LinkA, f, true)
	}
	if err := top.A.SetGRODefer(top.LinkA, 5_000_000, 10); err != nil {
		t.Fatal(err)
	}
}

const (
	trainLen  = 20   // packets sent in one go
	trainSize = 1000 // payload bytes of each
)

// train is packets of one flow, the first with number n.
func train(n int, udpFlow bool) (packets [][]byte) {
	for i := n; i < n+trainLen; i++ {
		data := packettest.Pattern(i*trainSize, trainSize)
		inner := packettest.TCP(inner6, inner7, uint32(i*trainSize), data)
		inner[40+13] = 0x10 // PSH would end a merged packet
		binary.BigEndian.PutUint16(checkField(inner), 0)
		sum := packettest.Sum(append(packettest.PseudoHeader(inner, 6), inner[40:]...))
		binary.BigEndian.PutUint16(checkField(inner), ^sum)
		if udpFlow {
			inner = packettest.UDP(inner6, inner7, data)
		}
		packets = append(packets, fromB(uint16(i+1), inner))
	}
	return packets
}

// headers is how many bytes stand before the payload of an outer packet.
func headers(raw []byte) int {
	if raw[26] == 17 {
		return 68
	}
	return 80
}

// TestMergedPackets: the kernel merges trains of packets; Read says at which
// length to cut them again, for UDP from the second train on.
func TestMergedPackets(t *testing.T) {
	for _, c := range []struct {
		name     string
		udp      bool
		features []string
	}{
		{"TCP", false, nil},
		{"TCP by list", false, []string{"rx-gro-list"}},
		{"UDP", true, []string{"rx-udp-gro-forwarding"}},
		{"UDP by list", true, []string{"rx-gro-list"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			top := pair(t)
			mergeAt(t, top, c.features...)
			a := listen(t, top.A, Config{Local: top.AddrA})
			w := newWriter(t, top.B, listen(t, top.B, Config{Local: top.AddrB}))
			b := packet.NewBatch(BatchSize)
			exact := 0
			for round := range 5 {
				if n, err := w.Write(batchOf(train(round*trainLen, c.udp)...)); n != trainLen || err != nil {
					t.Fatalf("wrote %d, %v", n, err)
				}
				var payload []byte
				for len(payload) < trainLen*trainSize {
					if err := a.Reader().Read(b); err != nil {
						t.Fatal(err)
					}
					for i := range b.Packets {
						payload = append(payload, checkMerged(t, &b.Packets[i], round, &exact)...)
					}
				}
				var want []byte
				for _, raw := range train(round*trainLen, c.udp) {
					want = append(want, raw[headers(raw):]...)
				}
				if !bytes.Equal(payload, want) {
					t.Fatalf("round %d: payload changed", round)
				}
			}
			if s := a.Stats(); s.LongerMTU == 0 || s.Merged == 0 || exact == 0 {
				t.Errorf("%+v, %d with the exact length: this was not about merged packets", s, exact)
			}
		})
	}
}

// checkMerged judges what Read said about p and returns its payload.
func checkMerged(t *testing.T, p *packet.Packet, round int, exact *int) []byte {
	t.Helper()
	raw := p.AppendTo(nil)
	payload := raw[headers(raw):]
	isUDP := raw[26] == 17
	switch {
	case len(payload) <= trainSize:
		if p.Seg != 0 || p.Err != nil {
			t.Errorf("round %d: a single packet has segments of %d, %v", round, p.Seg, p.Err)
		}
	case round > 0 || p.Seg == trainSize:
		*exact++
		if p.Seg != trainSize || p.Sum != packet.SumPartial || p.Err != nil {
			t.Errorf("round %d: %d bytes in segments of %d, sum %d, %v", round, len(payload), p.Seg, p.Sum, p.Err)
		}
	case isUDP && !errors.Is(p.Err, packet.ErrSegmentUnknown):
		t.Errorf("the first merged UDP: segments of %d, %v", p.Seg, p.Err)
	}
	return payload
}

// TestPartialChecksums: a peer on this machine leaves the checksum to be done,
// in packets that were never merged.
func TestPartialChecksums(t *testing.T) {
	top := pair(t)
	a := listen(t, top.A, Config{Local: top.AddrA})
	syn := tcp(0)
	syn[53] = 2
	sent := [][]byte{
		fromB(1, partial(syn)), fromB(2, partial(tcp(1420))), fromB(3, partial(udp(33))),
		fromB(4, partial(udp(1))), fromB(5, partial(udp(0))), fromB(6, partial(tcp(999))),
	}
	got := collector(a, 2*len(sent))
	mac := macOf(t, top.A, top.LinkA)
	for range 2 { // before and after the kernel is asked
		inject(t, top.B, top.LinkB, mac, 60, sent...)
		for i, want := range sent {
			r := within(t, "packet", got)
			if !bytes.Equal(r.raw, want) || !r.part || r.seg != 0 || r.err != nil {
				t.Errorf("packet %d: %d bytes, partial %t, segments of %d, %v", i, len(r.raw), r.part, r.seg, r.err)
			}
		}
	}
	if s := a.Stats(); s.Merged != 0 || s.LongerMTU != 0 {
		t.Errorf("counted %+v", s)
	}
}

// TestReassembled: the kernel puts fragments together; a packet longer than the
// link is one packet then.
func TestReassembled(t *testing.T) {
	top := pair(t)
	a := listen(t, top.A, Config{Local: top.AddrA})
	w := newWriter(t, top.B, listen(t, top.B, Config{Local: top.AddrB}))
	whole := fromB(77, udp(2000))
	cut := func(from, to int, more byte) []byte {
		at := (from - 20) / 8
		return fromB(77, whole[from:to], func(h []byte) { h[6], h[7] = more|byte(at>>8), byte(at) })
	}
	got := collector(a, 2)
	b := batchOf(cut(20, 20+1200, 0x20), cut(20+1200, len(whole), 0), fromB(78, udp(5)))
	if n, err := w.Write(b); n != 3 || err != nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
	r := within(t, "packet", got)
	if !bytes.Equal(r.raw[20:], whole[20:]) || r.seg != 0 || r.part || r.err != nil {
		t.Errorf("%d bytes, partial %t, segments of %d, %v; want %d bytes", len(r.raw), r.part, r.seg, r.err, len(whole))
	}
	within(t, "packet", got)
	if s := a.Stats(); s.Reassembled != 1 || s.LongerMTU != 1 || s.Merged != 0 {
		t.Errorf("counted %+v, want 1 reassembled, longer than the link", s)
	}
}

// TestInspectLeavesStrangers: what Decap will refuse is handed over as it came.
func TestInspectLeavesStrangers(t *testing.T) {
	r := &mmsgReader{c: &Conn{cfg: Config{LinkMTU: 1500}}}
	r.hints.failed = true
	good := fromB(1, partial(tcp(2000)))
	for name, raw := range map[string][]byte{
		"nothing": {}, "outer header cut short": good[:19], "total length too long": good[:1000],
		"another protocol":       fromB(1, partial(tcp(2000)), func(h []byte) { h[9] = 17 }),
		"inner header cut short": fromB(1, tcp(0)[:39]), "inner version": fromB(1, slices.Concat([]byte{0x40}, tcp(2000)[1:])),
		"inner length": fromB(1, tcp(2000)[:1900]),
	} {
		p := newPacket(raw)
		r.inspect(p, false)
		if p.Off != packet.Headroom || p.Seg != 0 || p.Err != nil || !bytes.Equal(p.AppendTo(nil), raw) {
			t.Errorf("%s: %d bytes became %d at %d, segments of %d, %v", name, len(raw), p.Len(), p.Off, p.Seg, p.Err)
		}
	}
	if s := r.c.counters.stats(); s != (Stats{}) {
		t.Errorf("counted %+v", s)
	}
}
