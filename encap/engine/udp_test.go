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
		if refused := r.ChangeAt([]netip.AddrPort{at}, []Peer{moved}); refused != nil {
			t.Fatal(refused)
		}
		equalPackets(t, "from the port before", inUDP(overUDP(at, 0, udp(hubHost(1), host6, 1, 100))))
		moves := udp(hubHost(1), host6, 1, 100)
		equalPackets(t, "from the port now", inUDP(overUDP(netip.AddrPortFrom(hubAddr(0), 4001), 0, moves)), moves)
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
