package engine

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"

	"sixin4/encap"
	"sixin4/encap/packet"
	"sixin4/encap/packettest"
)

// behindNAT is one address with a peer of protocol 41 and two over UDP.
func behindNAT() TableConfig {
	c := hubTable(3)
	for i := range c.Peers {
		c.Peers[i].Remote = hubAddr(0)
		c.Peers[i].Port = uint16(i) * 4000
	}
	c.Hub = true
	return c
}

// overUDP is inner from a port of an address, as a wire makes it.
func overUDP(from netip.AddrPort, tos byte, inner []byte) []byte {
	b := wrapped(from.Addr(), nil)
	b[1], b[9] = tos, 17
	b = binary.BigEndian.AppendUint16(b, from.Port())
	b = binary.BigEndian.AppendUint16(b, 3653)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(inner)))
	return append(append(b, 0, 0), inner...)
}

// TestPeersOverUDP: peers behind one address are told apart by their ports, both ways.
func TestPeersOverUDP(t *testing.T) {
	bubble(t, "one address", func(t *testing.T) {
		udpWire := packettest.NewQueue()
		more := Lane{In: udpWire, Out: packettest.NewQueue(), UDP: true}
		r := newRig(t, Config{More: []Lane{more}}, behindNAT()).start(t)
		inUDP := func(b []byte) [][]byte {
			udpWire.Push(b)
			synctest.Wait()
			return drain(more.Out.(*packettest.Queue))
		}
		for i := range 3 {
			sent := udp(host6, hubHost(i), i, 200)
			got := r.out(sent)
			if len(got) != 1 {
				t.Fatalf("%d packets", len(got))
			}
			header, proto, port := encap.HeaderLen, byte(41), uint16(0)
			if i > 0 {
				header, proto, port = encap.UDPHeaderLen, 17, binary.BigEndian.Uint16(got[0][22:])
			}
			if got[0][9] != proto || port != uint16(i)*4000 || len(got[0]) != header+200 {
				t.Errorf("peer %d: % x", i, got[0][:40])
			}
			back := udp(hubHost(i), host6, i, 100)
			from := netip.AddrPortFrom(hubAddr(0), uint16(i)*4000)
			if i == 0 {
				equalPackets(t, "in", r.in(wrapped(hubAddr(0), back)), back)
			} else {
				equalPackets(t, "in", inUDP(overUDP(from, 0, back)), back)
			}
			equalPackets(t, "in from another port", inUDP(overUDP(netip.AddrPortFrom(hubAddr(0), uint16(i)*4000+1), 0, back)))
			equalPackets(t, "in with the source of another", inUDP(overUDP(netip.AddrPortFrom(hubAddr(0), 4000), 0, udp(hubHost(2), host6, 1, 100))))
			equalPackets(t, "in, Not-ECT and congested", inUDP(overUDP(netip.AddrPortFrom(hubAddr(0), 4000), 3, udp(hubHost(1), host6, 1, 100))))
		}
		wantDrops(t, r.Engine, map[encap.Drop]uint64{encap.DropNotPeer: 3, encap.DropInnerSourceNotPeers: 3, encap.DropECN: 3})
		for p := range r.Peers() {
			if p.Tx != (Count{1, 200}) || p.Rx != (Count{1, 100}) {
				t.Errorf("%+v", p)
			}
		}
		at := netip.AddrPortFrom(hubAddr(0), 4000)
		moved := behindNAT().Peers[1]
		moved.Port = 4001
		if refused := r.ChangeAt([]End{{AddrPort: at}}, []Peer{moved}); refused != nil {
			t.Fatal(refused)
		}
		equalPackets(t, "from the port before", inUDP(overUDP(at, 0, udp(hubHost(1), host6, 1, 100))))
		moves := udp(hubHost(1), host6, 1, 100)
		equalPackets(t, "from the port now", inUDP(overUDP(netip.AddrPortFrom(hubAddr(0), 4001), 0, moves)), moves)
	})
}

// TestLaneOfBothKinds: one lane brings packets of both kinds, and a host's table that is
// replaced by one of the other kind takes no more of the kind before.
func TestLaneOfBothKinds(t *testing.T) {
	bubble(t, "a host", func(t *testing.T) {
		table := hostTable()
		r := newRig(t, Config{Inbound: Lane{UDP: true}}, table).start(t)
		at, back := netip.AddrPortFrom(table.Peers[0].Remote, 3653), udp(other6, ours6, 1, 100)
		equalPackets(t, "of the other kind", r.in(overUDP(at, 0, back)))
		table.Peers[0].Port = at.Port()
		next, err := NewTable(table)
		if err != nil {
			t.Fatal(err)
		}
		r.SetTable(next)
		equalPackets(t, "over UDP", r.in(overUDP(at, 0, back)), back)
		equalPackets(t, "of the kind before", r.in(wrapped(at.Addr(), back)))
		if got := r.out(udp(ours6, other6, 1, 200)); len(got) != 1 || got[0][9] != 17 {
			t.Errorf("% x", got)
		}
		wantDrops(t, r.Engine, map[encap.Drop]uint64{encap.DropNotPeer: 2})
	})
}

// TestMTUOverUDP: a peer over UDP gets 8 bytes less than one of protocol 41 beside it, but
// for one whose datagrams may be cut, and so does what TCP may offer.
func TestMTUOverUDP(t *testing.T) {
	bubble(t, "one link", func(t *testing.T) {
		table := behindNAT()
		table.Peers[2].Outer.ClearDF = true
		r := newRig(t, Config{}, table).start(t)
		for i, want := range []struct{ size, mss int }{{1480, 1420}, {1472, 1412}, {1480, 1420}} {
			if got := r.out(udp(host6, hubHost(i), i, want.size)); len(got) != 1 {
				t.Errorf("peer %d: %d bytes do not pass", i, want.size)
			}
			drain(r.toTUN)
			if got := r.out(udp(host6, hubHost(i), i, want.size+1)); len(got) != 0 {
				t.Errorf("peer %d: %d bytes pass", i, want.size+1)
			}
			told := drain(r.toTUN)
			if len(told) != 1 || told[0][40] != 2 || binary.BigEndian.Uint32(told[0][44:]) != uint32(want.size) {
				t.Errorf("peer %d: its sender is told % x, want %d", i, told, want.size)
			}
			got := r.out(syn(host6, hubHost(i), 1440))
			if len(got) != 1 || int(binary.BigEndian.Uint16(got[0][len(got[0])-2:])) != want.mss {
				t.Errorf("peer %d: a SYN is % x, want one of %d", i, got, want.mss)
			}
		}
	})
}

// TestReplies: echo replies that may pass are told, and passed on.
func TestReplies(t *testing.T) {
	bubble(t, "host", func(t *testing.T) {
		var told []int
		r := newRig(t, Config{Replies: func(head encap.IPv6, size int) { told = append(told, size) }}, hostTable()).start(t)
		reply := echo(other6, ours6)
		reply[40], reply[42] = 129, reply[42]-1
		foreign := append([]byte(nil), reply...)
		ours := ours6.As16()
		copy(foreign[8:], ours[:])
		equalPackets(t, "in", r.in(wrapped(peer4, reply), wrapped(peer4, echo(other6, ours6)), wrapped(peer4, foreign)), reply, echo(other6, ours6))
		if len(told) != 1 || told[0] != len(reply) {
			t.Errorf("told are %v", told)
		}
	})
}

// TestUDPHeaderOut: traffic class and hop limit go where they are configured to.
func TestUDPHeaderOut(t *testing.T) {
	o := encap.Outer{Src: ours4, Dst: hubAddr(1), InheritDSCP: true, InheritTTL: true}
	h, err := o.UDPHeader(7)
	if err != nil {
		t.Fatal(err)
	}
	inner := udp(host6, hubHost(1), 1, 100)
	inner[0], inner[1], inner[7] = 0x6b, 0x90, 9 // traffic class 0xb9
	p := new(packet.Packet)
	p.Set(append(make([]byte, packet.Headroom), inner...), packet.Headroom, nil)
	h.Encap(p)
	if b := p.Head(); b[1] != 0xb9 || b[8] != 9 || binary.BigEndian.Uint16(b[2:]) != 128 || binary.BigEndian.Uint16(b[24:]) != 108 || encap.OuterLen(p) != 28 {
		t.Errorf("% x", p.Head()[:40])
	}
	if _, err := o.UDPHeader(0); err == nil {
		t.Error("port 0")
	}
}
