package engine

import (
	"testing"

	"sixin4/encap"
	"sixin4/encap/packet"
	"sixin4/encap/packettest"
)

// fuzzLoop sends b through one loop of an engine, between two good packets, and
// checks that those passed, that what was written is sound, and that the counters
// add up.
func fuzzLoop(t *testing.T, cfg Config, table TableConfig, outer bool, good, b []byte, split int, check func(p *packet.Packet) bool) {
	wrote := 0
	out := sink(func(p *packet.Packet) error {
		if outer || !continues(p) {
			wrote++
		}
		if !check(p) {
			t.Errorf("written: % x", p.AppendTo(nil))
		}
		return nil
	})
	q := packettest.NewQueue()
	q.Split = split
	q.Push(good, b, good)
	in := source(func(dst *packet.Batch) {
		if q != nil {
			q.Read(dst)
		}
		q = nil
	})
	lane := Lane{In: in, Out: out, Back: sink(func(p *packet.Packet) error {
		if !outer && (!soundInner(p) || p.Len() > 1280) || outer && !soundOuter(1300)(p) {
			t.Errorf("answer: % x", p.AppendTo(nil))
		}
		return nil
	})}
	var e *Engine
	if outer {
		e = loops(t, cfg, table, lane, Lane{})
		e.lanes[0].inbound()
		addUp(t, e, 3, 0)
	} else {
		e = loops(t, cfg, table, Lane{}, lane)
		e.lanes[1].outbound()
		addUp(t, e, 0, 3)
	}
	s := e.Stats()
	if n := s.Tx.Packets + s.Rx.Packets; n < 2 || int(n) != wrote {
		t.Errorf("%d passed, %d written", n, wrote)
	}
}

func FuzzInbound(f *testing.F) {
	for _, b := range append(newFlood(true, hubTable(3)).valid, newFlood(true, hostTable()).valid...) {
		f.Add(b, false)
		f.Add(b[:len(b)-1], true)
	}
	f.Fuzz(func(t *testing.T, b []byte, hub bool) {
		if len(b) > 65535 {
			return
		}
		table, good := hostTable(), wrapped(peer4, echo(other6, host6))
		if hub {
			table, good = hubTable(3), wrapped(p0, echo(h0, host6))
			table.Blocked.UDP, table.Peers[0].Rate = []uint16{5000}, 1000
		}
		fuzzLoop(t, Config{}, table, true, good, b, 0, soundInner)
	})
}

func FuzzOutbound(f *testing.F) {
	for i, b := range append(newFlood(false, hubTable(3)).valid, newFlood(false, hostTable()).valid...) {
		f.Add(b, i%2 == 0, uint16(1500), uint16(1500), uint8(0))
		f.Add(append(b, b...), i%2 == 0, uint16(1280), uint16(576), uint8(i))
	}
	f.Fuzz(func(t *testing.T, b []byte, hub bool, mtu, wire uint16, split uint8) {
		if len(b) > 65535 {
			return
		}
		table, dst := hostTable(), other6
		if hub {
			table, dst = hubTable(3), h0
		}
		cfg := Config{MTU: min(max(encap.TunMTU(mtu), encap.MinTunMTU), encap.MaxTunMTU), WireMTU: encap.WireMTU(wire)}
		longest := int(cfg.MTU.Wire())
		if wire != 0 {
			longest = min(longest, max(int(wire), int(encap.MinFragmentMTU)))
		}
		fuzzLoop(t, cfg, table, false, echo(host6, dst), b, max(int(split), 60), soundOuter(longest))
	})
}
