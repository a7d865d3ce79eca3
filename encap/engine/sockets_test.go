package engine

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"

	"sixin4/encap"
	"sixin4/encap/packettest"
)

// sockets are two peers over UDP at one address and port, each with a socket of ours.
func sockets() TableConfig {
	c := hubTable(2)
	c.Hub = true
	for i := range c.Peers {
		p := &c.Peers[i]
		p.Remote, p.Port, p.Socket, p.Outer.SrcPort = hubAddr(0), 4000, uint16(i), 3653+uint16(i)
	}
	return c
}

// TestSockets: two peers at one address and port are told apart by the socket, both ways;
// what comes to the socket of the other is dropped and told, and moves nothing.
func TestSockets(t *testing.T) {
	bubble(t, "two", func(t *testing.T) {
		var lanes []Lane
		for i := range uint16(2) {
			lanes = append(lanes, Lane{In: packettest.NewQueue(), Out: packettest.NewQueue(), UDP: true, Socket: i})
		}
		var told []Stranger
		r := newRig(t, Config{More: lanes, Stranger: func(s Stranger) { told = append(told, s) }}, sockets()).start(t)
		at := netip.AddrPortFrom(hubAddr(0), 4000)
		in := func(lane int, b []byte) [][]byte {
			lanes[lane].In.(*packettest.Queue).Push(overUDP(at, 0, b))
			synctest.Wait()
			return drain(lanes[lane].Out.(*packettest.Queue))
		}
		for i := range 2 {
			got := r.out(udp(host6, hubHost(i), i, 200))
			if len(got) != 1 || binary.BigEndian.Uint16(got[0][20:]) != 3653+uint16(i) || binary.BigEndian.Uint16(got[0][22:]) != 4000 {
				t.Errorf("to peer %d: % x", i, got)
			}
			back := udp(hubHost(i), host6, i, 100)
			equalPackets(t, "by its socket", in(i, back), back)
			equalPackets(t, "by the other's", in(1-i, back))
			if want := (Stranger{From: End{at, uint16(1 - i)}, Peer: End{at, uint16(i)}, Len: 100}); len(told) != i+1 || told[i].From != want.From || told[i].Peer != want.Peer || told[i].Len != 100 {
				t.Errorf("told are %+v, want %+v", told, want)
			}
			if p, ok := r.PeerAt(End{at, uint16(i)}); !ok || p.Socket != uint16(i) || p.Rx != (Count{1, 100}) || p.Tx != (Count{1, 200}) {
				t.Errorf("peer %d: %+v", i, p)
			}
		}
		wantDrops(t, r.Engine, map[encap.Drop]uint64{encap.DropInnerSourceNotPeers: 2})
		if refused := r.ChangeAt([]End{{at, 0}}, nil); refused != nil {
			t.Fatal(refused)
		}
		equalPackets(t, "of the one that was taken out", in(0, udp(hubHost(0), host6, 1, 100)))
		stays := udp(hubHost(1), host6, 1, 100)
		equalPackets(t, "by the socket of the one that was taken out", in(0, stays))
		equalPackets(t, "of the one that stays", in(1, stays), stays)
		if len(told) != 3 || told[2].From.Socket != 0 || told[2].Peer != (End{at, 1}) {
			t.Errorf("told are %+v", told)
		}
		wantDrops(t, r.Engine, map[encap.Drop]uint64{encap.DropInnerSourceNotPeers: 2, encap.DropNotPeer: 2})
	})
}

// TestSocketTwice: no two peers are at one address and port by one socket, and protocol 41
// has none.
func TestSocketTwice(t *testing.T) {
	c := sockets()
	c.Peers[1].Socket = 0
	if _, err := NewTable(c); err == nil {
		t.Error("two peers at one end")
	}
	for i := range c.Peers {
		c.Peers[i].Port, c.Peers[i].Socket = 0, uint16(i)
	}
	if _, err := NewTable(c); err == nil {
		t.Error("two peers of protocol 41 at one address")
	}
}
