package engine

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/encap"
	"sixin4/encap/packettest"
)

// TestMeter compares a meter with a bucket that is filled drop by drop.
func TestMeter(t *testing.T) {
	for _, c := range []struct {
		name          string
		bitsPerSecond int64
		bytes         int
		every         time.Duration
		want          int // packets that pass in ten seconds
	}{
		{"below the rate", 1_000_000, 1000, 10 * time.Millisecond, 1000},
		{"exactly the rate", 1_000_000, 1250, 10 * time.Millisecond, 1000},
		{"twice the rate", 1_000_000, 1250, 5 * time.Millisecond, 1000 + 104},      // 131072 bytes at once
		{"a flood", 8_000_000, 1000, 100 * time.Microsecond, 10_000 + 250},         // a quarter of a second at once
		{"the slowest rate", 1000, 1000, 10 * time.Millisecond, 131 + 1},           // 1250 bytes in ten seconds
		{"merged packets", 1_000_000, 65_535, 10 * time.Millisecond, 2 + 1250/65},  // 1.25 MB in ten seconds
		{"fast", 10_000_000_000, 1250, time.Microsecond / 2, 10_000_000 + 250_000}, // two a microsecond for ten seconds
		{"no byte", 1000, 0, time.Second, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m meter
			passed, r := 0, rateOf(c.bitsPerSecond)
			for now := time.Duration(0); now < 10*time.Second; now += c.every {
				if m.take(int64(now), r, c.bytes) {
					passed++
				}
			}
			if off := passed - c.want; off < -c.want/100-1 || off > c.want/100+1 {
				t.Errorf("%d packets passed, want %d", passed, c.want)
			}
		})
	}
}

// TestMeterAtOnce: several who take at a time get what one would.
func TestMeterAtOnce(t *testing.T) {
	var (
		m      meter
		wg     sync.WaitGroup
		passed [4]int
	)
	for i := range passed {
		wg.Go(func() {
			for range 1000 {
				if m.take(0, rateOf(1_000_000), 1000) {
					passed[i]++
				}
			}
		})
	}
	wg.Wait()
	if n := passed[0] + passed[1] + passed[2] + passed[3]; n != 131 {
		t.Errorf("%d packets passed, want 131", n)
	}
}

// TestPeerRate: each peer has a rate of its own in each direction.
func TestPeerRate(t *testing.T) {
	bubble(t, "hub", func(t *testing.T) {
		c := hubTable(2)
		c.Hub, c.Self = true, ours6
		c.Peers[0].Rate = 8 * burstBytes // a second for what comes at once
		r := newRig(t, Config{}, c).start(t)
		send := func(peer, n int) (out, in int) {
			for range n {
				out += len(r.out(udp(host6, hubHost(peer), 0, 1024)))
				in += len(r.in(wrapped(hubAddr(peer), udp(hubHost(peer), host6, 0, 1024))))
			}
			return out, in
		}
		for _, step := range []struct {
			peer, n, want int
			then          time.Duration
		}{
			{0, 200, 128, time.Second / 4},
			{1, 200, 200, 0},
			{0, 200, 32, time.Hour},
			{0, 200, 128, 0},
		} {
			if out, in := send(step.peer, step.n); out != step.want || in != step.want {
				t.Errorf("of %d packets to and from peer %d %d and %d passed, want %d", step.n, step.peer, out, in, step.want)
			}
			time.Sleep(step.then)
			synctest.Wait()
		}
		wantDrops(t, r.Engine, map[encap.Drop]uint64{encap.DropPeerRate: 2 * (72 + 168 + 72)})
		reply := packettest.ICMPv6(hubHost(0), ours6, 129, 0, []byte{0, 1, 0, 2})
		if n := len(r.out(echo(ours6, hubHost(0)))) + len(r.in(wrapped(hubAddr(0), reply))); n != 2 {
			t.Errorf("%d of our request and its reply passed, want both", n)
		}
		if n := len(r.out(echo(host6, hubHost(0)))); n != 0 {
			t.Error("another's request passed")
		}
		if got := r.Stats().ICMPErrors; got != 0 {
			t.Errorf("%d errors were sent, want none", got)
		}
		c.Peers[0].Rate = 0
		r.Change(nil, c.Peers[:1])
		if out, in := send(0, 10); out != 10 || in != 10 {
			t.Errorf("%d and %d passed without a rate", out, in)
		}
	})
}

// fragmentHeader is a fragment header (RFC 8200, Section 4.5).
func fragmentHeader(next byte, offset int, more bool) []byte {
	b := []byte{next, 0, byte(offset >> 8), byte(offset), 0, 0, 0, 1}
	if more {
		b[3] |= 1
	}
	return b
}

// raw6 is an IPv6 packet of peer 0 with any payload.
func raw6(next byte, payload ...[]byte) []byte {
	var all []byte
	for _, p := range payload {
		all = append(all, p...)
	}
	return packettest.IPv6(hubHost(0), other6, next, all)
}

func ports(dst uint16) []byte {
	return []byte{0x0f, 0xa0, byte(dst >> 8), byte(dst), 0, 0, 0, 0, 0, 0, 0, 0}
}

// TestBlockedPorts is about what a peer may not send, and what it is told.
func TestBlockedPorts(t *testing.T) {
	options := func(next byte) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }
	for _, c := range []struct {
		name    string
		packet  []byte
		blocked bool
	}{
		{"TCP to 25", raw6(6, ports(25)), true},
		{"TCP to 26", raw6(6, ports(26)), false},
		{"TCP to 25 * 256", raw6(6, ports(25<<8)), false},
		{"TCP from 25", raw6(6, []byte{0, 25, 0, 80, 0, 0, 0, 0}), false},
		{"UDP to 25", raw6(17, ports(25)), false},
		{"UDP to 1900", raw6(17, ports(1900)), true},
		{"TCP to 1900", raw6(6, ports(1900)), false},
		{"UDP to 65535", raw6(17, ports(65535)), true},
		{"UDP-Lite to 25", raw6(136, ports(25)), false},
		{"ICMPv6", raw6(58, []byte{128, 0, 0, 25, 0, 25, 0, 25}), false},
		{"no next header", raw6(59, ports(25)), false},
		{"behind hop-by-hop options", raw6(0, options(6), ports(25)), true},
		{"behind hop-by-hop and destination options", raw6(0, options(60), options(6), ports(25)), true},
		{"another port there", raw6(0, options(60), options(6), ports(80)), false},
		{"behind a used routing header", raw6(43, []byte{6, 0, 0, 0, 0, 0, 0, 0}, ports(25)), true},
		{"behind a routing header that is not known", raw6(43, []byte{6, 0, 0, 1, 0, 0, 0, 0}, ports(80)), true},
		{"a first fragment", raw6(44, fragmentHeader(6, 0, true), ports(25)), true},
		{"a first fragment to another port", raw6(44, fragmentHeader(6, 0, true), ports(80)), false},
		{"the only fragment", raw6(44, fragmentHeader(6, 0, false), ports(25)), true},
		{"a later fragment", raw6(44, fragmentHeader(6, 8, false), ports(25)), false},
		{"a first fragment without ports", raw6(44, fragmentHeader(6, 0, true)), true},
		{"a first fragment with half of them", raw6(44, fragmentHeader(6, 0, true), []byte{0, 1, 0}), true},
		{"a first fragment of options", raw6(44, fragmentHeader(60, 0, true), options(6)), true},
		{"a first fragment of half the options", raw6(44, fragmentHeader(60, 0, true), []byte{6, 1, 1, 4, 0, 0, 0, 0}), true},
		{"a chain that is too long", raw6(60, options(60), options(60), options(60), options(60), options(60), options(60),
			options(60), options(60), options(60), options(6), ports(80)), true},
		{"TCP that is cut off", raw6(6, []byte{0, 1, 0, 25}[:3], nil), true},
		{"SCTP", raw6(132, ports(25)), false},
	} {
		bubble(t, c.name, func(t *testing.T) {
			table := hubTable(2)
			table.Blocked = Ports{TCP: []uint16{25, 65535}, UDP: []uint16{1900, 65535}}
			r := newRig(t, Config{}, table)
			r.lanes[0].Back = r.toWire
			r.start(t)
			passed, answers := len(r.in(wrapped(hubAddr(0), c.packet))), drain(r.toWire)
			if (passed == 0) != c.blocked {
				t.Errorf("%d packets passed", passed)
			}
			if !c.blocked {
				wantDrops(t, r.Engine, nil)
				equalPackets(t, "answers", answers)
				return
			}
			wantDrops(t, r.Engine, map[encap.Drop]uint64{encap.DropBlockedPort: 1})
			r.checkProhibited(t, answers, c.packet)
		})
	}
}

// checkProhibited wants the answer to a packet of peer 0, if it may be answered: when
// it is not hidden what it is.
func (r *rig) checkProhibited(t *testing.T, answers [][]byte, about []byte) {
	t.Helper()
	_, _, ok := encap.DestinationPort(encap.IPv6(about))
	if !ok && len(answers) == 0 {
		return
	}
	if len(answers) != 1 || r.Stats().ICMPErrors != 1 {
		t.Fatalf("%d answers, want one", len(answers))
	}
	want := packettest.ICMPv6(ours6, hubHost(0), 1, 1, append(make([]byte, 4), about...))
	equalPackets(t, "answer", [][]byte{answers[0][20:]}, want)
	if b := encap.IPv4(answers[0]); b.Dst4() != hubAddr(0).As4() || b.Src4() != ours4.As4() || b.Protocol() != encap.ProtoIPv6 {
		t.Errorf("outer header % x", answers[0][:20])
	}
}

// TestBlockedFlood: a peer that tries on and on is told a few times only, and no other
// peer is.
func TestBlockedFlood(t *testing.T) {
	bubble(t, "flood", func(t *testing.T) {
		table := hubTable(2)
		table.Blocked.TCP = []uint16{25}
		table.Peers[1].Unproven, table.Self = true, ours6
		r := newRig(t, Config{}, table)
		r.lanes[0].Back = r.toWire
		r.start(t)
		for range 100 {
			r.in(wrapped(hubAddr(0), raw6(6, ports(25))))
		}
		if n := len(drain(r.toWire)); n != encap.DefaultBurst {
			t.Errorf("%d answers, want %d", n, encap.DefaultBurst)
		}
		time.Sleep(time.Minute)
		unproven := raw6(6, ports(25))
		copy(unproven[8:], hubHost(1).AsSlice())
		r.in(wrapped(hubAddr(1), unproven))
		wantDrops(t, r.Engine, map[encap.Drop]uint64{encap.DropBlockedPort: 100, encap.DropUnproven: 1})
		if n := len(drain(r.toWire)); n != 0 {
			t.Error("a peer that has not shown where it is was answered")
		}
	})
}
