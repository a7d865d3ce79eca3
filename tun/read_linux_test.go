package tun

import (
	"errors"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"sixin4/encap/packet"
)

// feed makes a reader and a socket whose messages it reads as a TUN's.
func feed(t testing.TB) (*vnetReader, func(h vnetHdr, pkt []byte)) {
	t.Helper()
	r, raw := feedRaw(t)
	return r, func(h vnetHdr, pkt []byte) {
		t.Helper()
		b := append(make([]byte, vnetLen), pkt...)
		h.encode(b)
		raw(b)
	}
}

// feedRaw is feed for messages with a header of their own.
func feedRaw(t testing.TB) (*vnetReader, func(b []byte)) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := newTestDevice(t)
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	return newVnetReader(d, fds[0]), func(b []byte) {
		t.Helper()
		if _, err := unix.Write(fds[1], b); err != nil {
			t.Fatal(err)
		}
	}
}

// collect reads with batches of size until n packets came, and checks that each
// has its headroom.
func collect(t *testing.T, r *vnetReader, size, n int) (out [][]byte) {
	t.Helper()
	b := packet.NewBatch(size)
	for len(out) < n {
		if err := r.Read(b); err != nil {
			t.Fatal(err)
		}
		if b.Len() == 0 {
			t.Fatal("an empty batch")
		}
		for i := range b.Packets {
			p := &b.Packets[i]
			clear(p.Push(packet.Headroom)) // must not hit a neighbour
			p.Pull(packet.Headroom)
		}
		for i := range b.Packets {
			if p := &b.Packets[i]; p.Err != nil {
				t.Fatalf("packet %d: %v", len(out), p.Err)
			}
			out = append(out, whole(&b.Packets[i]))
		}
	}
	return out
}

// TestReadMixes: super-packets larger than the batch, resumed while others come
// after them, and single packets with and without a partial checksum.
func TestReadMixes(t *testing.T) {
	super := setPartial(tcp6(1, pattern(20_000, 3), flags(0x18)))
	gso := vnetHdr{flags: 1, gsoType: gsoTCPv6 | gsoECN, gsoSize: 500, csumStart: 40, csumOffset: 16}
	datagrams := setPartial(udp6(pattern(3210, 8)))
	uso := vnetHdr{flags: 1, gsoType: gsoUDP, gsoSize: 100, csumStart: 40, csumOffset: 6}
	single, undone, zero := seg(9), dgram(77), zeroSum()
	want := slices.Concat([][]byte{single}, cutUp(t, super, 500, true, 64), [][]byte{undone},
		cutUp(t, datagrams, 100, true, 64), cutUp(t, super, 500, true, 64), [][]byte{zero, single})
	for _, size := range []int{1, 2, 7, 16, 40, 41, 128} {
		r, send := feed(t)
		send(vnetHdr{}, single)
		send(gso, super)
		send(vnetHdr{flags: 1, csumStart: 40, csumOffset: 6}, setPartial(slices.Clone(undone)))
		send(uso, datagrams)
		send(gso, super)
		send(vnetHdr{flags: 1, csumStart: 40, csumOffset: 6}, setPartial(slices.Clone(zero)))
		send(vnetHdr{}, single)
		same(t, collect(t, r, size, len(want)), want)
		if s := r.d.Stats(); s.Split != 3 || s.SplitInto != 40+33+40 {
			t.Errorf("batches of %d: counted %+v, want 3 split into 113", size, s)
		}
	}
}

func TestReadMalformed(t *testing.T) {
	tcp := setPartial(tcp6(1, pattern(3000, 0)))
	for _, c := range []struct {
		name string
		h    vnetHdr
		pkt  []byte
	}{
		{"checksum field behind the end", vnetHdr{flags: 1, csumStart: 40, csumOffset: 3100}, tcp},
		{"checksum field cut in two", vnetHdr{flags: 1, csumStart: 40, csumOffset: uint16(len(tcp)) - 41}, tcp},
		{"checksum offsets that add up to 64 KiB", vnetHdr{flags: 1, csumStart: 0xffff, csumOffset: 0xffff}, tcp},
		{"segment size zero", vnetHdr{flags: 1, gsoType: gsoTCPv6}, tcp},
		{"TCP super-packet without TCP", vnetHdr{flags: 1, gsoType: gsoTCPv6, gsoSize: 9}, ip6(58, pattern(99, 0))},
		{"super-packet cut short", vnetHdr{flags: 1, gsoType: gsoTCPv6, gsoSize: 9}, tcp[:60]},
		{"super-packet of nothing", vnetHdr{flags: 1, gsoType: gsoUDP, gsoSize: 9}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, send := feed(t)
			send(c.h, c.pkt)
			send(vnetHdr{}, seg(1))
			b := packet.NewBatch(8)
			if err := r.Read(b); err != nil || b.Len() != 2 {
				t.Fatalf("%d packets, %v; want 2", b.Len(), err)
			}
			if err := b.Packets[0].Err; !errors.Is(err, packet.ErrMalformed) {
				t.Errorf("malformed packet: %v, want %v", err, packet.ErrMalformed)
			}
			same(t, [][]byte{whole(&b.Packets[1])}, [][]byte{seg(1)})
		})
	}
}

// TestReadShort: less than a virtio header is one packet, to be counted.
func TestReadShort(t *testing.T) {
	r, send := feedRaw(t)
	send(make([]byte, 1))
	send(make([]byte, vnetLen-1))
	send(make([]byte, vnetLen)) // a header alone is an empty packet
	b := packet.NewBatch(8)
	if err := r.Read(b); err != nil || b.Len() != 3 {
		t.Fatalf("%d packets, %v; want 3", b.Len(), err)
	}
	if b.Packets[0].Err == nil || b.Packets[1].Err == nil || b.Packets[2].Len() != 0 {
		t.Errorf("packets %+v", b.Packets)
	}
}

// TestReadPassesIPv4: super-packets of IPv4 go on whole, for the engine to refuse.
func TestReadPassesIPv4(t *testing.T) {
	v4 := append([]byte{0x45, 0, 4, 0}, make([]byte, 1020)...)
	for _, kind := range []uint8{gsoTCPv4, gsoUDP, gsoTCPv6} {
		r, send := feed(t)
		send(vnetHdr{flags: 1, gsoType: kind, gsoSize: 100, csumStart: 20, csumOffset: 16}, v4)
		same(t, collect(t, r, 4, 1), [][]byte{v4})
	}
}

func TestReadAfterClose(t *testing.T) {
	r, _ := feed(t)
	r.d.gate.Close(func() error { return nil })
	if err := r.Read(packet.NewBatch(1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read: %v, want %v", err, os.ErrClosed)
	}
	w := newVnetWriter(r.d, []int{-1})
	if n, err := w.Write(batchOf(seg(0))); n != 0 || !errors.Is(err, os.ErrClosed) {
		t.Errorf("write: %d, %v, want %v", n, err, os.ErrClosed)
	}
}
