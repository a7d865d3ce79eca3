package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/encap"
	"sixin4/encap/packet"
	"sixin4/encap/packettest"
)

// unreachable and tooBig are the answers to b, built anew.
func unreachable(b []byte) []byte { return answerTo(b, 1, 0) }

func tooBig(b []byte, mtu uint32) []byte { return answerTo(b, 2, mtu) }

func answerTo(b []byte, kind byte, arg uint32) []byte {
	body := binary.BigEndian.AppendUint32(nil, arg)
	body = append(body, b[:min(len(b), 1280-48)]...)
	return packettest.ICMPv6(ours6, netip.AddrFrom16([16]byte(b[8:24])), kind, 0, body)
}

// TestOutboundDrops has a row for each packet that does not leave, with what its
// sender is told.
func TestOutboundDrops(t *testing.T) {
	hub := hubTable(3)
	big := udp(host6, h0, 1, 1481)
	short := udp(host6, h0, 1, 100)
	broken := udp(host6, h0, 1, 100)
	broken[5]++
	redirect := packettest.ICMPv6(host6, other6, 137, 0, make([]byte, 36))
	bigError := packettest.ICMPv6(host6, h0, 3, 0, make([]byte, 1500))
	unspecified := netip.IPv6Unspecified()
	multicast := addr("ff0e::1")
	behind := packettest.IPv6(host6, other6, 60, append([]byte{58, 0, 1, 4, 0, 0, 0, 0}, packettest.ICMPv6(host6, other6, 1, 0, make([]byte, 60))[40:]...))
	for _, c := range []struct {
		name   string
		table  TableConfig
		packet []byte
		want   encap.Drop
		answer []byte
	}{
		{"no peer", hub, echo(host6, other6), encap.DropNoPeer, unreachable(echo(host6, other6))},
		{"no peer, long", hub, udp(host6, other6, 1, 1480), encap.DropNoPeer, unreachable(udp(host6, other6, 1, 1480))},
		{"no peer, over the MTU too", hub, udp(host6, other6, 1, 9000), encap.DropNoPeer, unreachable(udp(host6, other6, 1, 9000))},
		{"no peer, sent by a peer", hub, echo(h0, other6), encap.DropNoPeer, unreachable(echo(h0, other6))},
		{"no peer, an ICMPv6 error", hub, packettest.ICMPv6(host6, other6, 1, 0, make([]byte, 60)), encap.DropNoPeer, nil},
		{"no peer, an ICMPv6 error behind options", hub, behind, encap.DropNoPeer, nil},
		{"no peer, a redirect", hub, redirect, encap.DropNoPeer, nil},
		{"no peer, multicast", hub, udp(host6, multicast, 1, 100), encap.DropNoPeer, nil},
		{"no peer, from nobody", hub, echo(unspecified, other6), encap.DropNoPeer, nil},
		{"no peer, from multicast", hub, echo(multicast, other6), encap.DropNoPeer, nil},
		{"unproven peer, from elsewhere", doubtful(), echo(other6, h0), encap.DropUnproven, nil},
		{"unproven peer, from another peer", doubtful(), echo(h1, h0), encap.DropUnproven, nil},
		{"unproven peer, data of ours", doubtful(), udp(ours6, h0, 1, 100), encap.DropUnproven, nil},
		{"unproven peer, an echo reply of ours", doubtful(), packettest.ICMPv6(ours6, h0, 129, 0, make([]byte, 20)), encap.DropUnproven, nil},
		{"unproven peer, its link-local address", doubtful(), echo(linkLocal4(ours4), linkLocal4(p0)), encap.DropUnproven, nil},
		{"packet over the MTU, by one byte", hub, big, encap.DropTooBig, tooBig(big, 1480)},
		{"over the MTU, an ICMPv6 error", hub, bigError, encap.DropTooBig, nil},
		{"over the MTU, multicast", hostTable(), udp(host6, multicast, 1, 1481), encap.DropTooBig, tooBig(udp(host6, multicast, 1, 1481), 1480)},
		{"over the MTU, from nobody", hub, udp(unspecified, h0, 1, 2000), encap.DropTooBig, nil},
		{"hairpin: reachable only through the tunnel it came from", hub, echo(h0, netip.AddrFrom16(hubPrefix(0).Addr().As16())), encap.DropHairpin, nil},
		{"hairpin, over the MTU", hub, udp(h0, h0, 1, 2000), encap.DropHairpin, nil},
		{"empty", hub, nil, encap.DropInnerShort, nil},
		{"39 bytes", hub, short[:39], encap.DropInnerShort, nil},
		{"IPv4", hub, wrapped(ours4, short), encap.DropInnerVersion, nil},
		{"length longer than the packet", hub, broken, encap.DropInnerLength, nil},
	} {
		for _, split := range []int{0, 62} {
			bubble(t, fmt.Sprintf("%s, head of %d bytes", c.name, split), func(t *testing.T) {
				r := newRig(t, Config{}, c.table)
				r.fromTUN.Split = split
				r.start(t)
				dst := hubHost(2)
				if sent := r.out(udp(host6, dst, 1, 80), c.packet, udp(host6, dst, 2, 80)); len(sent) != 2 || numberOf(sent[0][20:]) != 1 || numberOf(sent[1][20:]) != 2 {
					t.Errorf("the neighbours have become % x", sent)
				}
				var want [][]byte
				if c.answer != nil {
					want = append(want, c.answer)
				}
				equalPackets(t, "answer", drain(r.toTUN), want...)
				wantDrops(t, r.Engine, map[encap.Drop]uint64{c.want: 1})
				if s := r.Stats(); s.ICMPErrors != uint64(len(want)) || s.Tx != (Count{2, 160}) || s.Rx != (Count{}) {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

func TestOutboundPasses(t *testing.T) {
	exact := udp(host6, h0, 1, 1480)
	padded := append(udp(host6, h0, 1, 1480), make([]byte, 5)...)
	for _, c := range []struct {
		name         string
		table        TableConfig
		packet, want []byte
		to           netip.Addr
	}{
		{"exactly the MTU", hubTable(3), exact, exact, p0},
		{"exactly the MTU, and padding", hubTable(3), padded, exact, p0},
		{"to an unproven peer, our echo request", doubtful(), echo(ours6, h0), echo(ours6, h0), p0},
		{"from one peer to another", hubTable(3), echo(h1, h0), echo(h1, h0), p0},
		{"from our address inside a peer's prefix", attached(), echo(h0, hubPrefix(0).Addr()), echo(h0, hubPrefix(0).Addr()), p0},
		{"between a prefix and one inside", nested(), echo(h0, h1), echo(h0, h1), p1},
		{"link-local to the default peer", uplinkTable(), echo(linkLocal4(ours4), linkLocal4(p0)), echo(linkLocal4(ours4), linkLocal4(p0)), p0},
		{"from us to the default peer", uplinkTable(), echo(ours6, other6), echo(ours6, other6), p0},
		{"from a peer to the default peer", uplinkTable(), echo(h1, other6), echo(h1, other6), p0},
	} {
		bubble(t, c.name, func(t *testing.T) {
			r := newRig(t, Config{}, c.table).start(t)
			sent := r.out(c.packet)
			if len(sent) != 1 || encap.IPv4(sent[0]).Dst() != c.to || !bytes.Equal(sent[0][20:], c.want) {
				t.Errorf("% x", sent)
			}
			wantDrops(t, r.Engine, nil)
			if answers := r.toTUN.Drain(); len(answers) != 0 {
				t.Errorf("answered with % x", answers[0].Bytes)
			}
		})
	}
}

// TestSetSource: errors come from the new address from the next packet on, and an
// address that is none changes nothing.
func TestSetSource(t *testing.T) {
	big := udp(host6, h0, 1, 1481)
	bubble(t, "while it runs", func(t *testing.T) {
		r := newRig(t, Config{}, hubTable(1)).start(t)
		for _, step := range []struct {
			to   netip.Addr
			fail bool
			want netip.Addr
		}{
			{ours6, false, ours6},
			{other6, false, other6},
			{p0, true, other6},
			{netip.Addr{}, true, other6},
			{netip.AddrFrom16(p0.As16()), true, other6},
		} {
			if err := r.SetSource(step.to); (err != nil) != step.fail {
				t.Errorf("SetSource(%v): %v", step.to, err)
			}
			r.out(big)
			if got := drain(r.toTUN); len(got) != 1 || encap.IPv6(got[0]).Src() != step.want {
				t.Errorf("after SetSource(%v): % x, want an error from %v", step.to, got, step.want)
			}
		}
	})
}

func TestOutboundReaderErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{}, hostTable()).start(t)
		good := echo(host6, other6)
		r.fromTUN.PushEntries(packettest.Entry{Bytes: good, Err: packet.ErrMalformed}, packettest.Entry{Bytes: good})
		if sent := r.out(); len(sent) != 1 || !bytes.Equal(sent[0][20:], good) {
			t.Errorf("% x", sent)
		}
		wantDrops(t, r.Engine, map[encap.Drop]uint64{encap.DropTunMalformed: 1})
	})
}

// TestAnswersAreLimited: ten at once at most, then ten a second; all are counted
// as drops whether they are answered or not, and what may not be answered takes
// no share.
func TestAnswersAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{}, hubTable(1)).start(t)
		silent := packettest.ICMPv6(host6, other6, 1, 0, make([]byte, 60))
		answers := func(p []byte, n int) (got int) {
			for range n {
				r.out(p)
				got += len(r.toTUN.Drain())
			}
			return got
		}
		for _, step := range []struct {
			after  time.Duration
			packet []byte
			want   int
		}{
			{0, silent, 0}, {0, echo(host6, other6), 10}, {0, udp(host6, h0, 1, 2000), 0},
			{99 * time.Millisecond, echo(host6, other6), 0}, {time.Millisecond, udp(host6, h0, 1, 2000), 1},
			{time.Second, echo(host6, other6), 10}, {time.Hour, echo(host6, other6), 10},
		} {
			<-time.After(step.after)
			if got := answers(step.packet, 50); got != step.want {
				t.Errorf("%v later: %d answers, want %d", step.after, got, step.want)
			}
		}
		wantDrops(t, r.Engine, map[encap.Drop]uint64{encap.DropNoPeer: 250, encap.DropTooBig: 100})
		if n := r.Stats().ICMPErrors; n != 31 {
			t.Errorf("%d errors counted", n)
		}
	})
}

// TestAnswersOfOneBatch: a batch full of packets without a way is answered within
// the limit, each answer about its own packet.
func TestAnswersOfOneBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{}, hubTable(1)).start(t)
		var batch [][]byte
		for i := range BatchSize {
			batch = append(batch, udp(host6, other6, i, 100+i))
		}
		r.out(batch...)
		got := drain(r.toTUN)
		if len(got) != errorBatch {
			t.Fatalf("%d answers", len(got))
		}
		for i := range got {
			equalPackets(t, "answer", got[i:i+1], unreachable(batch[i]))
		}
	})
}

// TestIdentificationCounts: by one for each packet of a peer, for every peer by
// itself, and past the end without 0, which the kernel would replace.
func TestIdentificationCounts(t *testing.T) {
	const n = 70_000
	sent, last := 0, [3]uint16{}
	inner := [][]byte{udp(host6, hubHost(0), 0, 60), udp(host6, hubHost(1), 0, 60), udp(host6, hubHost(2), 0, 60), echo(host6, other6)}
	k := 0
	in := source(feed(n, func(dst []byte) []byte { k++; return append(dst, inner[k*k%7%4]...) }))
	out := sink(func(p *packet.Packet) error {
		b := encap.IPv4(p.Head())
		i := b.Dst4()[3]
		want := last[i] + 1
		if want == 0 {
			want = 1
		}
		if b.ID() != want || !b.DF() || b.Check() != encap.Forward {
			t.Fatalf("packet %d: header % x, want identification %d", sent, b[:20], want)
		}
		last[i] = want
		sent++
		return nil
	})
	e := loops(t, Config{}, hubTable(3), Lane{}, Lane{In: in, Out: out})
	e.lanes[1].outbound()
	if e.Stats().Drops[encap.DropNoPeer]+uint64(sent) != n || last[0] == 0 || last[1] == 0 || last[2] == 0 {
		t.Errorf("%d sent, last identifications %d", sent, last)
	}
	if s := e.Stats(); s.Peers[0].Tx.Packets < 20_000 {
		t.Errorf("too few: %+v", s)
	}
}

// TestOuterHeader: what the table says is what goes onto the wire.
func TestOuterHeader(t *testing.T) {
	inner := udp(host6, other6, 1, 200)
	inner[0], inner[1], inner[7] = 0x6b, 0x91, 7 // class 0xb9: ECT(1)
	for _, c := range []struct {
		name         string
		outer        encap.Outer
		tos, df, ttl byte
	}{
		{"default", encap.Outer{}, 0x01, 0x40, 64},
		{"outer TTL and tos fixed", encap.Outer{TTL: 9, DSCP: 0x28}, 0x29, 0x40, 9},
		{"outer TTL and tos inherit", encap.Outer{InheritTTL: true, InheritDSCP: true}, 0xb9, 0x40, 7},
		{"nopmtudisc: DF clear", encap.Outer{ClearDF: true}, 0x01, 0, 64},
	} {
		bubble(t, c.name, func(t *testing.T) {
			table := hostTable()
			c.outer.Src = ours4
			table.Peers[0].Outer = c.outer
			r := newRig(t, Config{}, table).start(t)
			want := packettest.Outer(ours4, peer4, 1, inner, func(b []byte) { b[1], b[6], b[8] = c.tos, c.df, c.ttl })
			equalPackets(t, "sent", r.out(inner), want)
		})
	}
}
