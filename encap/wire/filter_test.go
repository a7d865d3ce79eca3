package wire

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/bpf"

	"sixin4/encap/packettest"
)

var (
	outer1 = netip.MustParseAddr("192.0.2.1")
	outer2 = netip.MustParseAddr("192.0.2.2")
)

// newVM returns the filter for a machine without SKF_NET_OFF: it is run on packets
// that start with their network header.
func newVM(t *testing.T, s suspects) *bpf.VM {
	t.Helper()
	raw, err := s.filter()
	if err != nil {
		t.Fatal(err)
	}
	prog, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the filter has an instruction that the package does not know")
	}
	loads := 0
	for i, in := range prog {
		if l, ok := in.(bpf.LoadAbsolute); ok {
			if l.Off < netOff {
				t.Fatalf("instruction %d loads from %d, which depends on the link header", i, l.Off)
			}
			l.Off -= netOff
			prog[i] = l
			loads++
		}
	}
	vm, err := bpf.NewVM(prog)
	if err != nil || loads == 0 {
		t.Fatalf("%d loads: %v", loads, err)
	}
	return vm
}

func TestSuspiciousFilter(t *testing.T) {
	outer := func(inner []byte, edits ...func([]byte)) []byte {
		return packettest.Outer(outer2, outer1, 7, inner, edits...)
	}
	set := func(at int, v byte) func([]byte) { return func(b []byte) { b[at] = v } }
	for _, c := range []struct {
		name string
		pkt  []byte
		want bool
	}{
		{"TCP", outer(tcp(100)), false},
		{"UDP", outer(udp(100)), false},
		{"TCP, undone", outer(partial(tcp(100))), true},
		{"UDP, undone", outer(partial(udp(100))), true},
		{"UDP, empty, undone", outer(partial(udp(0))), true},
		{"TCP, undone, no data", outer(partial(tcp(0))), true},
		{"TCP, wrong checksum", outer(wrong(tcp(100))), false},
		{"UDP without checksum", outer(func() []byte { b := udp(9); copy(checkField(b), []byte{0, 0}); return b }()), false},
		{"TCP of the link MTU", outer(tcp(1420)), false},
		{"TCP a byte over the link MTU", outer(tcp(1421)), true},
		{"TCP, merged", outer(partial(tcp(60_000))), true},
		{"anything over the link MTU", outer(make([]byte, 1481)), true},
		{"ICMPv6", outer(packettest.ICMPv6(inner6.Addr(), inner7.Addr(), 128, 0, make([]byte, 30))), false},
		{"undone behind an extension header", outer(behindOptions(partial(tcp(100)))), true},
		{"IPv4 options", append([]byte{0x46}, outer(partial(tcp(100)))[1:]...), false},
		{"another protocol", outer(partial(tcp(100)), set(9, 17)), false},
		{"TCP cut short before its checksum", outer(partial(tcp(0))[:56]), false},
		{"nothing inside", outer(nil), false},
		{"nothing", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, err := newVM(t, suspects{linkMTU: 1500}).Run(c.pkt)
			if err != nil {
				t.Fatal(err)
			}
			if (n > 0) != c.want || n != 0 && n != snapLen {
				t.Errorf("the filter keeps %d bytes, accepted should be %t", n, c.want)
			}
		})
	}
}

// TestSuspiciousFilterUDP: of IPv6 in UDP to one port, and only where the datagram is one
// inner packet.
func TestSuspiciousFilterUDP(t *testing.T) {
	const linkMTU = 1500
	set := func(b []byte, at int, v ...byte) []byte { copy(b[at:], v); return b }
	outer := func(inner ...[]byte) []byte {
		b := packettest.Outer(outer2, outer1, 7, slices.Concat(append([][]byte{make([]byte, 8)}, inner...)...))
		n := len(b) - 20
		return set(b, 9, 17, b[10], b[11], b[12], b[13], b[14], b[15], b[16], b[17], b[18], b[19],
			0x20, 0x21, 0x0e, 0x45, byte(n>>8), byte(n), 0, 0)
	}
	for _, c := range []struct {
		name string
		pkt  []byte
		want bool
	}{
		{"TCP", outer(tcp(100)), false},
		{"UDP", outer(udp(100)), false},
		{"TCP, undone", outer(partial(tcp(100))), true},
		{"UDP, undone", outer(partial(udp(100))), true},
		{"UDP, empty, undone", outer(partial(udp(0))), true},
		{"TCP, wrong checksum", outer(wrong(tcp(100))), false},
		{"TCP of the link MTU", outer(tcp(linkMTU - 88)), false},
		{"TCP a byte over it", outer(tcp(linkMTU - 87)), true},
		{"TCP, merged", outer(partial(tcp(60_000))), true},
		{"TCP, merged, with a byte behind it", outer(partial(tcp(60_000)), []byte{0}), false},
		{"datagrams in one piece", outer(tcp(1000), tcp(1000), tcp(1000), tcp(9)), false},
		{"datagrams in one piece, undone", outer(partial(tcp(1000)), partial(tcp(1000))), false},
		{"less than it says", outer(partial(tcp(100))[:150]), false},
		{"undone behind an extension header", outer(behindOptions(partial(tcp(100)))), true},
		{"ICMPv6", outer(packettest.ICMPv6(inner6.Addr(), inner7.Addr(), 128, 0, make([]byte, 30))), false},
		{"another port", set(outer(partial(tcp(60_000))), 23, 0x46), false},
		{"another protocol", set(outer(partial(tcp(60_000))), 9, 6), false},
		{"IPv4 options", set(outer(partial(tcp(60_000))), 0, 0x46), false},
		{"protocol 41", packettest.Outer(outer2, outer1, 7, partial(tcp(100))), false},
		{"control", outer(set(make([]byte, 2000), 0, 0xf0)), false},
		{"nothing inside", outer(), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, err := newVM(t, suspects{linkMTU: linkMTU, port: 3653}).Run(c.pkt)
			if err != nil {
				t.Fatal(err)
			}
			if (n > 0) != c.want || n != 0 && n != snapLen {
				t.Errorf("the filter keeps %d bytes, accepted should be %t", n, c.want)
			}
		})
	}
}

// TestSuspiciousFilterFolds: carries of the pseudo-header sum in every shape.
func TestSuspiciousFilterFolds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	vm := newVM(t, suspects{linkMTU: 65535})
	for i := range 20_000 {
		b := []byte(tcp(r.IntN(64)))
		if i%2 == 1 {
			b = udp(r.IntN(64))
		}
		for at := 8; at < 40; at++ {
			b[at] = []byte{0, 0xff, byte(r.Uint32())}[r.IntN(3)]
		}
		want := r.IntN(2) == 0
		if partial(b); !want { // any other value
			f := checkField(b)
			v := binary.BigEndian.Uint16(f)
			binary.BigEndian.PutUint16(f, v+1+uint16(r.IntN(65534)))
		}
		n, err := vm.Run(packettest.Outer(outer2, outer1, 7, b))
		if err != nil || (n > 0) != want {
			t.Fatalf("% x: %d, %v, want accepted %t", b, n, err, want)
		}
	}
}

// TestAssemblyJumps: a label that is never reached would be jump 0.
func TestAssemblyJumps(t *testing.T) {
	a := &assembly{}
	a.add(bpf.LoadAbsolute{Off: 0, Size: 1})
	a.when(bpf.JumpEqual, 1, "one").unless(bpf.JumpEqual, 2, "other").jump("two")
	a.label("one")
	a.add(bpf.RetConstant{Val: 1})
	a.label("two")
	a.add(bpf.RetConstant{Val: 2})
	a.label("other")
	a.add(bpf.RetConstant{Val: 3})
	raw, err := a.assemble()
	if err != nil {
		t.Fatal(err)
	}
	prog, _ := bpf.Disassemble(raw)
	vm, err := bpf.NewVM(slices.Clone(prog))
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[byte]int{1: 1, 2: 2, 9: 3} {
		if got, err := vm.Run([]byte{in}); got != want || err != nil {
			t.Errorf("%d gives %d, %v, want %d", in, got, err, want)
		}
	}
}
