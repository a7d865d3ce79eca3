package e2e

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"sixin4/encap/packettest"
)

var (
	addrOne = netip.MustParseAddr(innerOne)
	addrTwo = netip.MustParseAddr(innerTwo)
	behind2 = netip.MustParseAddr(innerC)
)

func toPort(src, dst netip.Addr, tcp bool, port uint16) []byte {
	if tcp {
		return packettest.TCP(at(src, port^1), at(dst, port), 1, []byte("data"))
	}
	return packettest.UDP(at(src, port^1), at(dst, port), []byte("data"))
}

// TestKernelHubOut: each packet goes to the peer that has its destination, by its link,
// and nothing to one that is gone.
func TestKernelHubOut(t *testing.T) {
	s := newStar(t, [3]bool{true, false, false}, func(e *end) {
		for i := range e.clients {
			e.clients[i].Outer.ClearDF, e.clients[i].Outer.TTL, e.clients[i].Outer.DSCP = true, 77, 0x20
		}
		e.outer = e.clients[0].Outer
	})
	path := s.paths[0]
	put := sender(t, s.hub.ns, device, 0x86dd)
	one, two := listenOn(t, s.one.ns, s.top.LinkB, 0x0800), listenOn(t, s.two.ns, "c0", 0x0800)
	leave(t, s.hub, path, put, one, plainUDP(addrA, addrOne))
	sized := func(dst netip.Addr, n int) []byte {
		return packettest.UDP(at(addrA, 1), at(dst, 2), packettest.Pattern(1, n-48))
	}
	leave(t, s.hub, path, put, two, []innerRow{
		{"client two", inner(addrA, addrTwo), true},
		{"behind it", inner(addrA, behind2), true},
		{"another address there", inner(addrA, netip.MustParseAddr("2001:db8:c:0:ffff::")), true},
		{"beside that", inner(addrA, netip.MustParseAddr("2001:db8:c:1::2")), false},
		{"beside the clients", inner(addrA, netip.MustParseAddr("2001:db8::103")), false},
		{"blocked only from the clients", toPort(addrA, addrTwo, true, 25), true},
		{"as long as the MTU", sized(addrTwo, int(s.hub.mtu())), true},
	})
	put(inner(addrA, behind2))
	p := two.next("to client two", func(p []byte) bool { return p[9] == 17 && bytes.Equal(p[28:], inner(addrA, behind2)) })
	want := inUDP4(s.tells[1].Local, s.tells[1].Remote, inner(addrA, behind2), func(b []byte) { b[1], b[6], b[8], b[4], b[5] = 0x20, 0, 77, p[4], p[5] })
	if !bytes.Equal(p, want) {
		t.Errorf("outer headers % x, want % x", p[:28], want[:28])
	}
	put(inner(addrA, addrOne))
	put(inner(addrA, behind2))
	q := two.next("to client two", func(q []byte) bool { return q[9] == 17 && !bytes.Equal(q[4:6], p[4:6]) })
	if id, was := binary.BigEndian.Uint16(q[4:]), binary.BigEndian.Uint16(p[4:]); id != was+1 {
		t.Errorf("identification %d follows %d: it is not client two's own", id, was)
	}
	shorter, trial := s.tells[1], s.tells[0]
	shorter.MTU, trial.Trial = 1280, true
	must(t, path.PutPeer(shorter), path.PutPeer(trial))
	leave(t, s.hub, path, put, two, []innerRow{
		{"as long as its new MTU", sized(addrTwo, 1280), true},
		{"a byte longer", sized(addrTwo, 1281), false},
	})
	leave(t, s.hub, path, put, one, []innerRow{
		{"to one on trial", inner(addrA, addrOne), false},
		{"our request to one on trial", echoOf(addrA, addrOne, 128, ownEcho), true},
	})
	trial.Trial = false
	must(t, path.RemovePeer(shorter.Local, shorter.Remote), path.PutPeer(trial))
	leave(t, s.hub, path, put, one, []innerRow{
		{"no longer on trial", inner(addrA, addrOne), true},
		{"to one that is gone", inner(addrA, addrTwo), false},
		{"behind one that is gone", inner(addrA, behind2), false},
	})
}

// TestKernelHubIn: a peer may send from its prefixes, to this host, and not to blocked ports.
func TestKernelHubIn(t *testing.T) {
	s := newStar(t, [3]bool{true, false, false})
	path := s.paths[0]
	putOne, putTwo := sender(t, s.one.ns, s.top.LinkB, 0x0800), sender(t, s.two.ns, "c0", 0x0800)
	inside := listenOn(t, s.hub.ns, device, 0x86dd)
	a0, _ := mac(t, s.hub.ns, s.top.LinkA)
	h1, _ := mac(t, s.hub.ns, "h1")
	hub, one, two := s.tells[0].Local, s.tells[0].Remote, s.tells[1].Remote
	port9 := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), 9) }
	from := func(dst []byte, ip []byte) []byte {
		return append(append(bytes.Clone(dst), 2, 0, 0, 0, 0, 9, 8, 0), ip...)
	}
	row := func(name string, from, to netip.AddrPort, in []byte, carried bool) frameRow {
		return frameRow{name, append(append(bytes.Clone(a0), 2, 0, 0, 0, 0, 9, 8, 0), inUDP4(from, to, in)...), carried, in}
	}
	good := inner(addrOne, addrA)
	rows := []frameRow{
		row("another source, of client two", one, hub, inner(addrTwo, addrA), false),
		row("the address beside", one, hub, inner(netip.MustParseAddr("2001:db8::100"), addrA), false),
		row("our own source", one, hub, inner(addrA, addrA), false),
		row("another port of the client", port9(one), hub, good, false),
		row("the port of client two", netip.AddrPortFrom(one.Addr(), two.Port()), hub, good, false),
		row("another port here", one, port9(hub), good, false),
		row("another address here", one, netip.MustParseAddrPort("198.51.100.1:3653"), good, false),
		row("to client two", one, hub, inner(addrOne, addrTwo), false),
		row("to be forwarded", one, hub, inner(addrOne, netip.MustParseAddr(innerE)), false),
		row("blocked port of TCP", one, hub, toPort(addrOne, addrA, true, 25), false),
		row("blocked port of UDP", one, hub, toPort(addrOne, addrA, false, 19), false),
		row("the same of UDP", one, hub, toPort(addrOne, addrA, false, 25), true),
		row("the same of TCP", one, hub, toPort(addrOne, addrA, true, 19), true),
		row("from a blocked port", one, hub, toPort(addrOne, addrA, true, 25^1), true),
		row("bytes of the port exchanged", one, hub, toPort(addrOne, addrA, true, 25<<8), true),
		{"with its checksum", from(a0, summed(inUDP4(one, hub, good))), false, nil},
		{"protocol 41", from(a0, packettest.Outer(one.Addr(), hub.Addr(), 7, good)), false, nil},
	}
	for _, c := range plainUDP(addrOne, addrA) {
		rows = append(rows, row(c.name, one, hub, c.packet, c.carried))
	}
	arrive(t, path, putOne, from(a0, inUDP4(one, hub, good)), inside, rows)

	second := func(in []byte) []byte { return from(h1, inUDP4(two, hub, in)) }
	goodTwo := second(inner(addrTwo, addrA))
	arrive(t, path, putTwo, goodTwo, inside, []frameRow{
		{"client two", goodTwo, true, inner(addrTwo, addrA)},
		{"behind it", second(inner(behind2, addrA)), true, inner(behind2, addrA)},
		{"beside that", second(inner(netip.MustParseAddr("2001:db8:c:1::2"), addrA)), false, nil},
		{"from a network of ours behind it", second(inner(netip.MustParseAddr("2001:db8:c:0:1::9"), addrA)), false, nil},
		{"from the address of client one", second(good), false, nil},
	})
	if rx := s.of(t, 1).Rx; rx.Packets != 5 {
		t.Errorf("%d packets of client two, want 5", rx.Packets)
	}
	must(t, path.RemovePeer(hub, one))
	before := carried(t, path).Rx.Packets
	putOne(from(a0, inUDP4(one, hub, good)))
	arrive(t, path, putTwo, goodTwo, inside, []frameRow{{"after one that is gone", goodTwo, true, inner(addrTwo, addrA)}})
	if n := carried(t, path).Rx.Packets - before; n != 1 {
		t.Errorf("%d packets carried, want 1: a peer that is gone may still send", n)
	}
}
