package netstack

import (
	"errors"
	"slices"
	"syscall"
	"testing"

	"sixin4/encap/packet"
	"sixin4/encap/packettest"
)

// TestUnreachable: a connect ends when a router says, for whatever reason, that it will
// not get there.
func TestUnreachable(t *testing.T) {
	for code := range byte(7) {
		d := newDevice(t, Config{}, addrA)
		ended := make(chan error, 1)
		go func() {
			c, err := d.DialContext(ctx(t), "tcp", at(addrB, 25))
			if err == nil {
				_ = c.Close()
			}
			ended <- err
		}()
		b := packet.NewBatch(1)
		if err := d.Reader().Read(b); err != nil {
			t.Fatal(err)
		}
		syn := append(slices.Clone(b.Packets[0].Head()), b.Packets[0].Payload...)
		b.Reset()
		set(b.Next(), packettest.ICMPv6(addrB.Next(), addrA, 1, code, append(make([]byte, 4), syn...)), 0)
		if n, err := d.NewWriter().Write(b); n != 1 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		want := syscall.ENETUNREACH
		if code == 4 {
			want = syscall.ECONNREFUSED
		}
		if err := <-ended; !errors.Is(err, want) {
			t.Errorf("code %d: %v, want %v", code, err, want)
		}
	}
}

// TestSimplify: nothing but the code and its checksum is touched, in a copy, of the
// messages that are meant.
func TestSimplify(t *testing.T) {
	quoted := append(make([]byte, 4), segment(0, 100)...)
	for kind := range byte(5) {
		for code := range byte(9) {
			in := packettest.ICMPv6(addrB, addrA, kind, code, quoted)
			want := in
			if kind == 1 && code < 7 && code != 4 {
				want = packettest.ICMPv6(addrB, addrA, kind, 0, quoted)
			}
			l, r := record()
			b := packet.NewBatch(1)
			set(b.Next(), in, 0)
			if _, err := (&Writer{l: l}).Write(b); err != nil || !slices.Equal(b.Packets[0].Head(), in) {
				t.Errorf("type %d, code %d: %v, or the packet was changed", kind, code, err)
			}
			if !slices.Equal(r.seen[0].bytes, want) {
				t.Errorf("type %d, code %d: % x", kind, code, r.seen[0].bytes[40:44])
			}
		}
	}
	short := packettest.ICMPv6(addrB, addrA, 1, 1, make([]byte, 3))
	was := slices.Clone(short)
	if simplify(short); !slices.Equal(short, was) {
		t.Error("a message without its header was touched")
	}
	b := packettest.ICMPv6(addrB, addrA, 1, 1, quoted)
	if n := testing.AllocsPerRun(100, func() { b[41] = 1; simplify(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
