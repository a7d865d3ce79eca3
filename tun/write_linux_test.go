package tun

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"sixin4/encap/packet"
	"sixin4/encap/packet/gate"
)

// kernel stands where the kernel is: it reads what a writer writes and undoes
// what the virtio header asks for, and feeds a reader.
type kernel struct {
	t       testing.TB
	writes  []write
	fail    func(n int, w write) unix.Errno // of the nth write; nil: none
	discard bool                            // keep nothing
}

type write struct {
	h   vnetHdr
	pkt []byte
}

func (k *kernel) writev(_ int, iovs []unix.Iovec) unix.Errno {
	if k.discard {
		return 0
	}
	var raw []byte
	for _, v := range iovs {
		raw = append(raw, unsafe.Slice(v.Base, v.Len)...)
	}
	var w write
	w.h.decode(raw)
	w.pkt = raw[vnetLen:]
	if k.fail != nil {
		if errno := k.fail(len(k.writes), w); errno != 0 {
			return errno
		}
	}
	k.writes = append(k.writes, w)
	return 0
}

// packets are what the network stack sees: super-packets cut, checksums done.
func (k *kernel) packets() (out [][]byte) {
	k.t.Helper()
	for _, w := range k.writes {
		switch {
		case w.h.gsoType != gsoNone:
			if f, err := locate(w.pkt); err != nil || int(w.h.csumStart) != f.off || w.h.flags != 1 || int(w.h.csumStart+w.h.csumOffset) != f.check || int(w.h.hdrLen) != f.data {
				k.t.Fatalf("virtio header %+v does not fit the packet (%+v, %v)", w.h, f, err)
			}
			out = append(out, cutUp(k.t, w.pkt, int(w.h.gsoSize), true, 64)...)
		case w.h.flags&1 != 0:
			at := int(w.h.csumStart + w.h.csumOffset)
			c := ^sum16(w.pkt[w.h.csumStart:])
			if c == 0 && w.h.csumOffset == 6 {
				c = 0xffff
			}
			binary.BigEndian.PutUint16(w.pkt[at:], c)
			out = append(out, w.pkt)
		default:
			out = append(out, w.pkt)
		}
	}
	return out
}

// newTestWriter returns a writer into k.
func newTestWriter(t testing.TB, k *kernel) *vnetWriter {
	k.t = t
	d := newTestDevice(t)
	w := newVnetWriter(d, []int{-1})
	w.write = k.writev
	return w
}

func newTestDevice(t testing.TB) *Device {
	t.Helper()
	d := &Device{name: "test", log: slog.New(slog.DiscardHandler)}
	d.features = Features{true, true, true, true, true, true}
	var err error
	if d.gate, err = gate.New(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.gate.Close(func() error { return nil }) })
	return d
}

func TestWriteJoins(t *testing.T) {
	var k kernel
	w := newTestWriter(t, &k)
	in := [][]byte{seg(0), seg(1), dgram(50), seg(2, flags(0x18)), dgram(50), dgram(9), ip6(58, pattern(30, 0))}
	b := batchOf(in...)
	if n, err := w.Write(b); n != len(in) || err != nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
	if len(k.writes) != 3 {
		t.Errorf("%d writes, want 3", len(k.writes))
	}
	same(t, k.packets(), [][]byte{in[0], in[1], in[3], in[2], in[4], in[5], in[6]})
	if s := w.d.Stats(); s.Joined != 6 || s.JoinedInto != 2 {
		t.Errorf("counted %+v, want 6 joined into 2", s)
	}
	for i, p := range b.Packets {
		if p.Off != packet.Headroom || p.Len() != len(in[i]) || p.Err != nil {
			t.Errorf("packet %d came back with offset %d, %d bytes, %v", i, p.Off, p.Len(), p.Err)
		}
	}
}

// TestWriteMerged: packets that the kernel merged on the wire go back as they
// came, those that fit one segment as one packet.
func TestWriteMerged(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []byte
		seg  int
		gso  uint8
		uso  bool
		want int // writes
	}{
		{"TCP", tcp6(1, pattern(5000, 0)), 1000, gsoTCPv6, true, 1},
		{"UDP", udp6(pattern(5000, 0)), 1000, gsoUDP, true, 1},
		{"UDP without USO", udp6(pattern(5100, 0)), 1000, gsoNone, false, 6},
		{"TCP in one segment", tcp6(1, pattern(1000, 0)), 1000, gsoNone, true, 1},
		{"UDP in one segment", udp6(pattern(900, 0)), 1000, gsoNone, true, 1},
		{"TCP behind options", extend(tcp6(1, pattern(5000, 0)), hopByHop), 1000, gsoTCPv6, true, 1},
		{"UDP behind a routing header", extend(udp6(pattern(5000, 0)), routing), 1000, gsoUDP, true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var k kernel
			w := newTestWriter(t, &k)
			w.d.features.USO6 = c.uso
			want := cutUp(t, setPartial(slices.Clone(c.in)), c.seg, true, 64)
			b := batchOf(setPartial(slices.Clone(c.in)))
			b.Packets[0].Seg, b.Packets[0].Sum = c.seg, packet.SumPartial
			if n, err := w.Write(b); n != 1 || err != nil {
				t.Fatalf("wrote %d, %v", n, err)
			}
			if len(k.writes) != c.want || k.writes[0].h.gsoType != c.gso {
				t.Errorf("%d writes, the first %+v; want %d of GSO type %d", len(k.writes), k.writes[0].h, c.want, c.gso)
			}
			same(t, k.packets(), want)
		})
	}
}

// TestWritePartial: single packets whose checksum the kernel completes.
func TestWritePartial(t *testing.T) {
	for name, full := range map[string][]byte{
		"TCP": seg(0, flags(0x02)), "UDP": dgram(33), "UDP, sum zero": zeroSum(),
		"TCP behind options": extend(seg(0), hopByHop, dstOpts), "UDP behind a routing header": extend(dgram(33), routing),
	} {
		t.Run(name, func(t *testing.T) {
			var k kernel
			w := newTestWriter(t, &k)
			b := batchOf(setPartial(slices.Clone(full)))
			b.Packets[0].Sum = packet.SumPartial
			if n, err := w.Write(b); n != 1 || err != nil {
				t.Fatalf("wrote %d, %v", n, err)
			}
			if h := k.writes[0].h; h.flags != vnetNeedsCsum || h.gsoType != gsoNone || h.gsoSize != 0 {
				t.Errorf("virtio header %+v", h)
			}
			same(t, k.packets(), [][]byte{full})
		})
	}
	t.Run("no transport header", func(t *testing.T) {
		var k kernel
		w := newTestWriter(t, &k)
		b := batchOf(ip6(58, pattern(30, 0)), seg(0))
		b.Packets[0].Sum = packet.SumPartial
		if n, err := w.Write(b); n != 1 || !errors.Is(err, packet.ErrMalformed) || !errors.Is(b.Packets[0].Err, packet.ErrMalformed) {
			t.Errorf("wrote %d, %v; want 1 and %v", n, err, packet.ErrMalformed)
		}
	})
}

// TestWriteRefusedJoin: a kernel that answers EINVAL to a joined packet gets its
// parts one by one, unharmed, and no joined one again.
func TestWriteRefusedJoin(t *testing.T) {
	var logged bytes.Buffer
	var k kernel
	k.fail = func(_ int, w write) unix.Errno {
		if w.h.gsoType == gsoUDP {
			return unix.EINVAL
		}
		return 0
	}
	w := newTestWriter(t, &k)
	w.d.log = slog.New(slog.NewTextHandler(&logged, nil))
	in := [][]byte{dgram(100), dgram(100), dgram(40), seg(0), seg(1)}
	for range 2 {
		if n, err := w.Write(batchOf(in...)); n != 5 || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
	}
	same(t, k.packets(), append(in, in...))
	if len(k.writes) != 8 {
		t.Errorf("%d writes, want 3 datagrams and 1 joined TCP packet, twice", len(k.writes))
	}
	if n := strings.Count(logged.String(), "\n"); n != 1 {
		t.Errorf("%d lines logged, want one:\n%s", n, logged.String())
	}
}

// TestWriteErrors: an error belongs to the packets of that one write.
func TestWriteErrors(t *testing.T) {
	for _, c := range []struct {
		name  string
		errno unix.Errno
	}{{"interface down", unix.EIO}, {"no memory", unix.ENOMEM}, {"descriptor dead", unix.EBADFD}} {
		t.Run(c.name, func(t *testing.T) {
			k := kernel{fail: func(n int, w write) unix.Errno {
				if w.h.gsoType == gsoTCPv6 || w.pkt[6] == 58 {
					return c.errno
				}
				return 0
			}}
			w := newTestWriter(t, &k)
			in := [][]byte{seg(0), dgram(5), seg(1), ip6(58, pattern(30, 0)), dgram(5, set(41, 1))}
			b := batchOf(in...)
			if n, err := w.Write(b); n != 2 || !errors.Is(err, c.errno) {
				t.Errorf("wrote %d, %v; want 2 and %v", n, err, c.errno)
			}
			same(t, k.packets(), [][]byte{in[1], in[4]})
			for i, want := range []error{c.errno, nil, c.errno, c.errno, nil} {
				if err := b.Packets[i].Err; err != want {
					t.Errorf("packet %d: %v, want %v", i, err, want)
				}
			}
			if s := w.d.Stats(); s.Joined != 0 {
				t.Errorf("counted %d joined packets that were lost", s.Joined)
			}
		})
	}
}
