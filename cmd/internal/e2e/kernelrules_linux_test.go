package e2e

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"sixin4/encap/kernelpath"
	"sixin4/encap/packettest"
	"sixin4/tun/nstest"
)

// sender returns what puts frames on a link, or packets of a protocol into a device
// that has no link header.
func sender(t testing.TB, ns *nstest.NS, link string, protocol uint16) func([]byte) {
	t.Helper()
	_, index := mac(t, ns, link)
	var fd int
	net16 := protocol<<8 | protocol>>8
	must(t, ns.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	}))
	f := os.NewFile(uintptr(fd), "sender")
	t.Cleanup(func() { f.Close() })
	return func(b []byte) {
		t.Helper()
		must(t, unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: index, Protocol: net16}))
	}
}

var (
	addrA = netip.MustParseAddr(innerA)
	addrB = netip.MustParseAddr(innerB)
)

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// tcpFlagged is a segment with other flags, and the checksum that goes with them.
func tcpFlagged(src, dst netip.Addr, flags byte) []byte {
	p := packettest.TCP(at(src, 1), at(dst, 2), 1, packettest.Pattern(1, 100))
	p[53], p[56], p[57] = flags, 0, 0
	binary.BigEndian.PutUint16(p[56:], ^packettest.Sum(append(packettest.PseudoHeader(p, 6), p[40:]...)))
	return p
}

// inner is what the packets of the tables begin as.
func inner(src, dst netip.Addr) []byte {
	return packettest.UDP(at(src, 1000), at(dst, 2000), packettest.Pattern(3, 100))
}

func edited(p []byte, edit func(p []byte)) []byte {
	edit(p)
	return p
}

// innerRow is a packet, and whether the kernel carries it.
type innerRow struct {
	name    string
	packet  []byte
	carried bool
}

// plain are the inner packets of both directions.
func plain(src, dst netip.Addr) []innerRow {
	echoBody := []byte{0, 1, 0, 2, 9, 9}
	other := func(a string) []byte { return inner(netip.MustParseAddr(a), dst) }
	return []innerRow{
		{"UDP", inner(src, dst), true},
		{"UDP without data", packettest.UDP(at(src, 1), at(dst, 2), nil), true},
		{"TCP", packettest.TCP(at(src, 1), at(dst, 2), 1, []byte("data")), true},
		{"TCP FIN", tcpFlagged(src, dst, 0x11), true},
		{"TCP RST", tcpFlagged(src, dst, 0x04), true},
		{"TCP SYN", tcpFlagged(src, dst, 0x02), false},
		{"TCP SYN-ACK", tcpFlagged(src, dst, 0x12), false},
		{"TCP, header beyond the packet", edited(tcpFlagged(src, dst, 0x10)[:64], func(p []byte) { p[5] = 24; p[52] = 0xf0 }), false},
		{"TCP, header too short", edited(tcpFlagged(src, dst, 0x10), func(p []byte) { p[52] = 0x40 }), false},
		{"echo request", packettest.ICMPv6(src, dst, 128, 0, echoBody), true},
		{"echo reply", packettest.ICMPv6(src, dst, 129, 0, echoBody), true},
		{"packet too big", packettest.ICMPv6(src, dst, 2, 0, append([]byte{0, 0, 5, 0}, inner(dst, src)...)), false},
		{"neighbour solicitation", packettest.ICMPv6(src, dst, 135, 0, make([]byte, 20)), false},
		{"router advertisement", packettest.ICMPv6(src, dst, 134, 0, make([]byte, 12)), false},
		{"no next header", packettest.IPv6(src, dst, 59, nil), false},
		{"protocol 41 inside", packettest.IPv6(src, dst, 41, make([]byte, 60)), false},
		{"destination options", packettest.IPv6(src, dst, 60, make([]byte, 60)), false},
		{"fragment", packettest.IPv6(src, dst, 44, make([]byte, 60)), false},
		{"version 4", edited(inner(src, dst), func(p []byte) { p[0] = 0x40 }), false},
		{"length too long", edited(inner(src, dst), func(p []byte) { p[5]++ }), false},
		{"bytes behind", append(inner(src, dst), 0), false},
		{"unique local source", other("fd00::1"), false},
		{"6to4 source", other("2002:c000:201::1"), false},
		{"site-local source", other("fec0::1"), false},
		{"link-local source", other("fe80::99"), false},
		{"mapped source", edited(inner(src, dst), func(p []byte) { copy(p[8:], netip.MustParseAddr("::ffff:192.0.2.9").AsSlice()) }), false},
		{"multicast source", other("ff0e::1"), false},
		{"unspecified source", other("::"), false},
		{"loopback source", other("::1"), false},
		{"6to4 destination", inner(src, netip.MustParseAddr("2002:c000:201::1")), false},
		{"multicast destination", inner(src, netip.MustParseAddr("ff0e::1")), false},
		{"unique local destination", inner(src, netip.MustParseAddr("fd00::1")), false},
	}
}

// TestKernelOut puts packets into the TUN one by one: the kernel carries those that are
// plain, the engine gets all others. What comes out of either is the same packet.
func TestKernelOut(t *testing.T) {
	top := pair(t)
	ea, _ := ends(top)
	a := tunnel(t, ea)
	path := shortcut(t, top, a)
	put := sender(t, a.ns, device, 0x86dd)
	out := listenOn(t, top.B, top.LinkB, 0x0800)
	rows := append(plain(addrA, addrB),
		innerRow{"as long as the MTU", packettest.UDP(at(addrA, 1), at(addrB, 2), packettest.Pattern(1, 1432)), true})
	leave(t, a, path, put, out, rows)
}

// leave puts packets into a TUN one by one, and looks at who carries them, and at those
// that the kernel does on the wire.
func leave(t testing.TB, from *host, path *kernelpath.Path, put func([]byte), out *tap, rows []innerRow) {
	t.Helper()
	before := carried(t, path).Tx.Packets
	seen := func() uint64 { // by the engine
		s := from.eng.Stats()
		n := s.Tx.Packets
		for _, d := range s.Drops {
			n += d
		}
		return n
	}
	engine := seen() // the kernel's own, of the interface
	for _, c := range rows {
		put(c.packet)
		var kernel uint64
		eventually(t, c.name, func() bool {
			kernel = carried(t, path).Tx.Packets - before
			return kernel > 0 || seen() > engine
		})
		before += kernel
		engine = max(engine, seen())
		if (kernel == 1) != c.carried {
			t.Errorf("%s: carried by the kernel: %t, want %t", c.name, kernel == 1, c.carried)
		}
		if c.carried {
			out.next(c.name+", the same on the wire", func(p []byte) bool {
				return p[9] == from.protocol() && [4]byte(p[12:]) == from.local.As4() && bytes.Equal(p[from.headers():], c.packet)
			})
		}
	}
}

// TestKernelIn puts frames on the link one by one, and looks at what comes out of the
// TUN.
func TestKernelIn(t *testing.T) {
	top := pair(t)
	_, eb := ends(top)
	b := tunnel(t, eb)
	path := shortcut(t, top, b)
	put := sender(t, top.A, top.LinkA, 0x0800)
	inside := listenOn(t, b.ns, device, 0x86dd)
	own, _ := mac(t, top.A, top.LinkA)
	far, _ := mac(t, top.B, top.LinkB)
	frame := func(to net.HardwareAddr, ip []byte) []byte {
		return append(append(append(bytes.Clone(to), own...), 8, 0), ip...)
	}
	outer := func(in []byte, edits ...func([]byte)) []byte {
		return packettest.Outer(top.AddrA, top.AddrB, 7, in, edits...)
	}
	var rows []frameRow
	for _, c := range plain(addrA, addrB) {
		r := frameRow{name: c.name, frame: frame(far, outer(c.packet)), carried: c.carried}
		if c.carried {
			r.out = c.packet
		}
		rows = append(rows, r)
	}
	in := inner(addrA, addrB)
	rows = append(rows,
		frameRow{"another host's frame", frame(net.HardwareAddr{2, 0, 0, 0, 0, 9}, outer(in)), false, nil},
		frameRow{"broadcast frame", frame(net.HardwareAddr{255, 255, 255, 255, 255, 255}, outer(in)), false, nil},
		frameRow{"another source", frame(far, packettest.Outer(netip.MustParseAddr("192.0.2.9"), top.AddrB, 7, in)), false, nil},
		frameRow{"another destination", frame(far, packettest.Outer(top.AddrA, netip.MustParseAddr("192.0.2.9"), 7, in)), false, nil},
		frameRow{"UDP outside", frame(far, outer(in, func(b []byte) { b[9] = 17 })), false, nil},
		frameRow{"first fragment", frame(far, outer(in, func(b []byte) { b[6] = 0x20 })), false, nil},
		frameRow{"last fragment", frame(far, outer(in, func(b []byte) { b[6], b[7] = 0, 9 })), false, nil},
		frameRow{"reserved flag", frame(far, outer(in, func(b []byte) { b[6] = 0x80 })), false, nil},
		frameRow{"DF clear", frame(far, outer(in, func(b []byte) { b[6] = 0 })), true, in},
		frameRow{"TTL 1", frame(far, outer(in, func(b []byte) { b[8] = 1 })), true, in},
		frameRow{"header checksum wrong", edited(frame(far, outer(in)), func(b []byte) { b[14+10]++ }), false, nil},
		frameRow{"options", frame(far, withOptions(outer(in))), false, nil},
		frameRow{"total length short", frame(far, outer(in, func(b []byte) { b[3]-- })), false, nil},
		frameRow{"padding", append(frame(far, outer(in)), 0, 0), false, nil},
		frameRow{"VLAN tag", vlan(frame(far, outer(in))), false, nil},
		frameRow{"our own address as source", frame(far, outer(inner(addrB, addrB))), false, nil},
		frameRow{"to be forwarded", frame(far, outer(inner(addrA, netip.MustParseAddr(innerC)))), false, nil},
	)
	for i, c := range ecnCells {
		packet := edited(packettest.UDP(at(addrA, 1), at(addrB, uint16(i)), nil), func(p []byte) { p[1] |= c.inner << 4 })
		want := edited(bytes.Clone(packet), func(p []byte) { p[1] = p[1]&0xcf | c.out<<4 })
		f := frame(far, outer(packet, func(b []byte) { b[1] = 0xb8 | c.outer }))
		rows = append(rows, frameRow{"ECN inside " + ecnNames[c.inner] + ", outside " + ecnNames[c.outer], f, !c.drop, want})
	}
	arrive(t, path, put, frame(far, outer(in)), inside, rows)
}

// frameRow is a frame, and whether the kernel carries what is in it.
type frameRow struct {
	name    string
	frame   []byte
	carried bool
	out     []byte // what comes out when the kernel carries it
}

// arrive puts frames on the link one by one, and looks at what comes out of the TUN. The
// kernel carries the good frame.
func arrive(t testing.TB, path *kernelpath.Path, put func([]byte), good []byte, inside *tap, rows []frameRow) {
	t.Helper()
	total := carried(t, path).Rx.Packets
	for _, c := range rows {
		put(c.frame)
		if !c.carried {
			put(good) // which shows that the one before has passed
		}
		total++
		eventually(t, c.name, func() bool { return carried(t, path).Rx.Packets >= total })
		if got := carried(t, path).Rx.Packets; got != total {
			t.Errorf("%s: the kernel carried %d packets more than it may", c.name, got-total)
			total = got
		}
		if c.carried {
			inside.next(c.name+", the same inside", func(p []byte) bool { return bytes.Equal(p, c.out) })
		}
	}
	if got := carried(t, path).Rx.Packets; got != total {
		t.Errorf("%d packets carried, want %d", got, total)
	}
}

var ecnNames = [...]string{"Not-ECT", "ECT(1)", "ECT(0)", "CE"}

// ecnCells are those of RFC 6040, Section 4.2, Figure 4.
var ecnCells = []struct {
	inner, outer, out byte
	drop              bool
}{
	{0, 0, 0, false}, {0, 1, 0, false}, {0, 2, 0, false}, {0, 3, 0, true},
	{1, 0, 1, false}, {1, 1, 1, false}, {1, 2, 1, false}, {1, 3, 3, false},
	{2, 0, 2, false}, {2, 1, 1, false}, {2, 2, 2, false}, {2, 3, 3, false},
	{3, 0, 3, false}, {3, 1, 3, false}, {3, 2, 3, false}, {3, 3, 3, false},
}

// withOptions puts four bytes of options behind the header of p.
func withOptions(p []byte) []byte {
	long := append(append(bytes.Clone(p[:20]), 1, 1, 1, 0), p[20:]...)
	long[0] = 0x46
	binary.BigEndian.PutUint16(long[2:], uint16(len(long)))
	long[10], long[11] = 0, 0
	binary.BigEndian.PutUint16(long[10:], ^packettest.Sum(long[:24]))
	return long
}

// vlan puts a tag into a frame.
func vlan(f []byte) []byte { return append(append(bytes.Clone(f[:12]), 0x81, 0, 0, 5), f[12:]...) }
