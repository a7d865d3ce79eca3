package e2e

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"sixin4/encap"
	"sixin4/encap/kernelpath"
	"sixin4/encap/packettest"
	"sixin4/tun/nstest"
)

// ownEcho is the identifier of the echo requests that a path sends.
const ownEcho = 0x5117

func asking(f *kernelpath.Flow) { f.Asks = ownEcho }

// echoOf is an echo request or reply with an identifier.
func echoOf(src, dst netip.Addr, kind byte, id uint16) []byte {
	return packettest.ICMPv6(src, dst, kind, 0, []byte{byte(id >> 8), byte(id), 0, 2, 9, 9})
}

// plainUDP is plain for a tunnel in UDP, whose engine sees all of ICMPv6 but the requests
// that the kernel is to send for it.
func plainUDP(src, dst netip.Addr) (rows []innerRow) {
	for _, r := range plain(src, dst) {
		r.carried = r.carried && r.packet[6] != 58
		rows = append(rows, r)
	}
	return append(rows,
		innerRow{"own echo request", echoOf(src, dst, 128, ownEcho), true},
		innerRow{"echo request, bytes of the identifier exchanged", echoOf(src, dst, 128, ownEcho>>8|ownEcho&0xff<<8), false},
		innerRow{"echo reply to an own request", echoOf(src, dst, 129, ownEcho), false},
		innerRow{"packet too big with the same bytes", echoOf(src, dst, 2, ownEcho), false})
}

// sink is a port on which nobody reads: without it the far end would answer with errors.
func sink(t testing.TB, ns *nstest.NS, at netip.AddrPort) {
	t.Helper()
	must(t, ns.Do(func() error {
		conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		return err
	}))
}

// TestKernelUDPOut is TestKernelOut for a tunnel in UDP.
func TestKernelUDPOut(t *testing.T) {
	top := pair(t)
	ea, _ := inUDP(top)
	a := tunnel(t, ea)
	sink(t, top.B, netip.AddrPortFrom(top.AddrB, ea.farPort))
	const mtu = 1400
	path := shortcut(t, top, a, asking, func(f *kernelpath.Flow) { f.MTU = mtu })
	put := sender(t, a.ns, device, 0x86dd)
	out := listenOn(t, top.B, top.LinkB, 0x0800)
	sized := func(n int) []byte { return packettest.UDP(at(addrA, 1), at(addrB, 2), packettest.Pattern(1, n-48)) }
	leave(t, a, path, put, out, append(plainUDP(addrA, addrB),
		innerRow{"as long as the MTU", sized(mtu), true},
		innerRow{"a byte longer", sized(mtu + 1), false},
		innerRow{"as long as the engine's MTU", sized(int(a.mtu())), false}))
}

// TestKernelUDPTrial: as long as nobody knows whether what the kernel sends arrives, that is
// its own echo requests alone. On the way in it makes no difference.
func TestKernelUDPTrial(t *testing.T) {
	top := pair(t)
	ea, eb := inUDP(top)
	a, b := tunnel(t, ea), tunnel(t, eb)
	pa := shortcut(t, top, a, asking, func(f *kernelpath.Flow) { f.Trial = true })
	pb := shortcut(t, top, b)
	out := listenOn(t, top.B, top.LinkB, 0x0800)
	rows := plainUDP(addrA, addrB)
	for i, r := range rows {
		rows[i].carried = r.carried && r.packet[6] == 58
	}
	leave(t, a, pa, sender(t, a.ns, device, 0x86dd), out, rows)
	before := carried(t, pa).Rx.Packets
	datagrams(t, udp(t, b.ns, innerB, 1000), udp(t, a.ns, innerA, 2000), 10, 10, 100)
	if in := carried(t, pa).Rx.Packets - before; in != 10 {
		t.Errorf("%d of 10 datagrams came in by the kernel", in)
	}
	if sent := carried(t, pb).Tx.Packets; sent < 10 {
		t.Errorf("%d of 10 datagrams went out by the kernel", sent)
	}
}

// inUDP4 is the datagram from one end to another that carries inner, without a checksum.
// Each edit changes its headers before the one of the IPv4 header is made.
func inUDP4(from, to netip.AddrPort, inner []byte, edits ...func([]byte)) []byte {
	u := make([]byte, 8, 8+len(inner))
	binary.BigEndian.PutUint16(u, from.Port())
	binary.BigEndian.PutUint16(u[2:], to.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(8+len(inner)))
	over := func(b []byte) { b[9] = 17 }
	return packettest.Outer(from.Addr(), to.Addr(), 7, append(u, inner...), append([]func([]byte){over}, edits...)...)
}

// summed gives a datagram its checksum.
func summed(b []byte) []byte {
	pseudo := append(bytes.Clone(b[12:20]), 0, 17, b[24], b[25])
	sum := ^packettest.Sum(append(pseudo, b[20:]...))
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[26:], sum)
	return b
}

// TestKernelUDPIn is TestKernelIn for a tunnel in UDP.
func TestKernelUDPIn(t *testing.T) {
	top := pair(t)
	_, eb := inUDP(top)
	b := tunnel(t, eb)
	path := shortcut(t, top, b, asking)
	put := sender(t, top.A, top.LinkA, 0x0800)
	inside := listenOn(t, b.ns, device, 0x86dd)
	own, _ := mac(t, top.A, top.LinkA)
	far, _ := mac(t, top.B, top.LinkB)
	from, to := netip.AddrPortFrom(top.AddrA, eb.farPort), netip.AddrPortFrom(top.AddrB, eb.port)
	frame := func(ip []byte) []byte { return append(append(append(bytes.Clone(far), own...), 8, 0), ip...) }
	outer := func(in []byte, edits ...func([]byte)) []byte { return inUDP4(from, to, in, edits...) }
	in := inner(addrA, addrB)
	at9 := func(a netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr("192.0.2.9"), a.Port())
	}
	port9 := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), 9) }
	not := func(name string, ip []byte) frameRow { return frameRow{name, frame(ip), false, nil} }
	yes := func(name string, ip []byte, out []byte) frameRow { return frameRow{name, frame(ip), true, out} }
	var rows []frameRow
	for _, c := range plainUDP(addrA, addrB) {
		rows = append(rows, frameRow{c.name, frame(outer(c.packet)), c.carried, c.packet})
	}
	rows = append(rows,
		not("another source", inUDP4(at9(from), to, in)),
		not("another destination", inUDP4(from, at9(to), in)),
		not("another source port", inUDP4(port9(from), to, in)),
		not("another destination port", inUDP4(from, port9(to), in)),
		not("ports exchanged", inUDP4(netip.AddrPortFrom(from.Addr(), to.Port()), netip.AddrPortFrom(to.Addr(), from.Port()), in)),
		not("with its checksum", summed(outer(in))),
		not("with a wrong checksum", edited(outer(in), func(b []byte) { b[27] = 1 })),
		not("checksum of ones", edited(outer(in), func(b []byte) { b[26], b[27] = 255, 255 })),
		not("UDP length too long", edited(outer(in), func(b []byte) { b[25]++ })),
		not("UDP length too short", edited(outer(in), func(b []byte) { b[25]-- })),
		not("UDP length 0", edited(outer(in), func(b []byte) { b[24], b[25] = 0, 0 })),
		not("bytes behind the inner packet", outer(append(bytes.Clone(in), 0))),
		not("no data", outer(nil)),
		not("few data", outer(in[:47])),
		not("control", outer(append([]byte{0xf0, 0, 0, 1, 0, 0, 0, 2}, bytes.Repeat([]byte("x"), 60)...))),
		not("protocol 41", packettest.Outer(top.AddrA, top.AddrB, 7, in)),
		not("UDP-Lite", outer(in, func(b []byte) { b[9] = 136 })),
		not("first fragment", outer(in, func(b []byte) { b[6] = 0x20 })),
		not("last fragment", outer(in, func(b []byte) { b[6], b[7] = 0, 9 })),
		not("reserved flag", outer(in, func(b []byte) { b[6] = 0x80 })),
		not("header checksum wrong", edited(outer(in), func(b []byte) { b[10]++ })),
		not("options", withOptions(outer(in))),
		not("total length short", outer(in, func(b []byte) { b[3]-- })),
		not("padding", append(outer(in), 0, 0)),
		frameRow{"VLAN tag", vlan(frame(outer(in))), false, nil},
		frameRow{"another host's frame", edited(frame(outer(in)), func(b []byte) { b[5] ^= 1 }), false, nil},
		not("our own address as source", outer(inner(addrB, addrB))),
		not("to be forwarded", outer(inner(addrA, netip.MustParseAddr(innerC)))),
		yes("DF clear", outer(in, func(b []byte) { b[6] = 0 }), in),
		yes("TTL 1", outer(in, func(b []byte) { b[8] = 1 }), in),
	)
	for _, hops := range []byte{0, 1, 255} {
		p := edited(inner(addrA, addrB), func(p []byte) { p[7] = hops })
		rows = append(rows, yes("hop limit inside", outer(p), p))
	}
	for i, c := range ecnCells {
		packet := edited(packettest.UDP(at(addrA, 1), at(addrB, uint16(i)), nil), func(p []byte) { p[1] |= c.inner << 4 })
		want := edited(bytes.Clone(packet), func(p []byte) { p[1] = p[1]&0xcf | c.out<<4 })
		f := frame(outer(packet, func(b []byte) { b[1] = 0xb8 | c.outer }))
		rows = append(rows, frameRow{"ECN inside " + ecnNames[c.inner] + ", outside " + ecnNames[c.outer], f, !c.drop, want})
	}
	arrive(t, path, put, frame(outer(in)), inside, rows)

	put(frame(summed(outer(echoOf(addrA, addrB, 129, 99)))))
	inside.next("what has a checksum, by the engine", func(p []byte) bool { return bytes.Equal(p, echoOf(addrA, addrB, 129, 99)) })
	if n := b.eng.Stats().Drops[encap.DropECN]; n != 1 {
		t.Errorf("the engine dropped %d for RFC 6040, want 1", n)
	}
}
