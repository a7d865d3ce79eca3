package wire

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sixin4/encap/packet"
	"sixin4/encap/packettest"
	"sixin4/tun/nstest"
)

func TestListenErrors(t *testing.T) {
	ns := nstest.Open(t)
	for _, portable := range []bool{false, true} {
		err := ns.Do(func() error {
			_, err := Listen(Config{Local: outer1, Portable: portable})
			return err
		})
		if !errors.Is(err, unix.EADDRNOTAVAIL) {
			t.Errorf("portable %t, an address that nobody has: %v", portable, err)
		}
		want := "bind raw socket to 192.0.2.1: cannot assign requested address: no interface of this host has that address"
		if !portable && err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	for _, local := range []string{"2001:db8::1", "::ffff:192.0.2.1"} {
		if _, err := Listen(Config{Local: addr4(local)}); err == nil || !strings.Contains(err.Error(), local) {
			t.Errorf("local address %s: %v", local, err)
		}
	}
	err := ns.Do(func() error {
		_, err := Listen(Config{Local: addr4("127.0.0.1"), Interface: "none0"})
		return err
	})
	if want := "bind raw socket to interface none0: no such device: this host has no interface of that name"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if _, err := Listen(Config{Local: outer1, Interface: "lo", Portable: true}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("portable, of one interface: %v", err)
	}
	if _, err := Listen(Config{}); err == nil {
		t.Error("listened at no address")
	}
}

func TestListenWithoutCapability(t *testing.T) {
	nstest.Need(t)
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with its rights
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			done <- err
			return
		}
		_, err := Listen(Config{Local: addr4("127.0.0.1")})
		done <- err
	}()
	want := "open raw socket: operation not permitted: this needs the capability CAP_NET_RAW (run as root, or the container with --cap-add NET_RAW)"
	if err := within(t, "listen", done); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// TestPassesPackets: what is written at B is read at A, byte for byte, on both
// paths.
func TestPassesPackets(t *testing.T) {
	for _, portableA := range []bool{false, true} {
		for _, portableB := range []bool{false, true} {
			t.Run(fmt.Sprintf("portable %t to portable %t", portableB, portableA), func(t *testing.T) {
				top := pair(t)
				a := listen(t, top.A, Config{Local: top.AddrA, Portable: portableA})
				b := listen(t, top.B, Config{Local: top.AddrB, Portable: portableB})
				var sent [][]byte
				for i := range 150 { // more than two batches
					tos := func(h []byte) { h[1], h[8] = byte(i), byte(i+1) }
					sent = append(sent, fromB(uint16(i+1), tcp(i*9), tos))
				}
				got := collector(a, len(sent))
				if n, err := newWriter(t, top.B, b).Write(batchOf(sent...)); n != len(sent) || err != nil {
					t.Fatalf("wrote %d, %v", n, err)
				}
				for i, want := range sent {
					r := within(t, "packet", got)
					if !bytes.Equal(r.raw, want) || r.seg != 0 || r.part || r.err != nil {
						t.Fatalf("packet %d: % x %d %t %v, want % x", i, r.raw[:40], r.seg, r.part, r.err, want[:40])
					}
				}
			})
		}
	}
}

// TestWriteErrors: each packet has its own error, and costs no other.
func TestWriteErrors(t *testing.T) {
	for _, portable := range []bool{false, true} {
		t.Run(fmt.Sprintf("portable %t", portable), func(t *testing.T) {
			top := pair(t)
			a := listen(t, top.A, Config{Local: top.AddrA})
			b := listen(t, top.B, Config{Local: top.AddrB, Portable: portable})
			to := func(dst string, n int) []byte { return packettest.Outer(outer2, addr4(dst), 1, udp(n)) }
			batch := batchOf(fromB(1, udp(1)), to("198.51.100.9", 9), fromB(2, udp(2)), fromB(3, udp(1453)), fromB(4, udp(3)), to("198.51.100.9", 9), to("198.51.100.9", 8))
			got := collector(a, 3)
			n, err := newWriter(t, top.B, b).Write(batch)
			if n != 3 || !errors.Is(err, unix.ENETUNREACH) {
				t.Errorf("wrote %d, %v; want 3, %v", n, err, unix.ENETUNREACH)
			}
			for i, want := range []error{nil, unix.ENETUNREACH, nil, unix.EMSGSIZE, nil, unix.ENETUNREACH, unix.ENETUNREACH} {
				if err := batch.Packets[i].Err; !errors.Is(err, want) {
					t.Errorf("packet %d: %v, want %v", i, err, want)
				}
			}
			for i := range 3 {
				if r := within(t, "packet", got); len(r.raw) != 20+48+i+1 {
					t.Errorf("packet %d has %d bytes", i, len(r.raw))
				}
			}
		})
	}
	t.Run("link down", func(t *testing.T) {
		top := pair(t)
		b := listen(t, top.B, Config{Local: top.AddrB})
		w := newWriter(t, top.B, b)
		if err := top.B.SetDown(top.LinkB); err != nil {
			t.Fatal(err)
		}
		if n, err := w.Write(batchOf(fromB(1, udp(1)))); n != 0 || !errors.Is(err, unix.ENETUNREACH) {
			t.Errorf("wrote %d, %v, want %v", n, err, unix.ENETUNREACH)
		}
		if err := top.B.SetUp(top.LinkB); err != nil {
			t.Fatal(err)
		}
		if n, err := w.Write(batchOf(fromB(1, udp(1)))); n != 1 || err != nil {
			t.Errorf("up again: wrote %d, %v", n, err)
		}
	})
}

// TestClose wakes a Read, is idempotent, and leaves nothing open.
func TestClose(t *testing.T) {
	top := pair(t)
	round := func(t *testing.T, cfg Config) {
		c := listen(t, top.A, cfg)
		w := newWriter(t, top.A, c)
		began, ended := make(chan bool), make(chan error, 1)
		go func() {
			close(began)
			ended <- c.Reader().Read(packet.NewBatch(BatchSize))
		}()
		within(t, "reader started", began)
		if err := c.Reader().Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := within(t, "Read returned", ended); !errors.Is(err, os.ErrClosed) {
			t.Errorf("read: %v, want %v", err, os.ErrClosed)
		}
		if err := errors.Join(c.Close(), c.Reader().Close()); err != nil {
			t.Errorf("second close: %v", err)
		}
		if err := c.Reader().Read(packet.NewBatch(1)); !errors.Is(err, os.ErrClosed) {
			t.Errorf("read after close: %v, want %v", err, os.ErrClosed)
		}
		if n, err := w.Write(batchOf(packettest.Outer(outer1, outer2, 1, udp(1)))); n != 0 || !errors.Is(err, os.ErrClosed) {
			t.Errorf("write after close: %d, %v, want %v", n, err, os.ErrClosed)
		}
	}
	for name, cfg := range map[string]Config{
		"fast": {Local: top.AddrA}, "direct": {Local: top.AddrA, Direct: true}, "portable": {Local: top.AddrA, Portable: true},
	} {
		t.Run(name, func(t *testing.T) {
			round(t, cfg)
			files := openFiles(t)
			for range 5 {
				round(t, cfg)
			}
			if now := openFiles(t); now > files {
				t.Errorf("%d descriptors became %d", files, now)
			}
		})
	}
}

// TestTwoConnections: every connection at an address gets each packet to it, one
// at another address gets none of them.
func TestTwoConnections(t *testing.T) {
	top := pair(t)
	if err := top.A.AddAddr(top.LinkA, "192.0.2.3/24"); err != nil {
		t.Fatal(err)
	}
	first, second := listen(t, top.A, Config{Local: outer1}), listen(t, top.A, Config{Local: outer1})
	other := listen(t, top.A, Config{Local: addr4("192.0.2.3")})
	gotFirst, gotSecond, gotOther := collector(first, 2), collector(second, 2), collector(other, 2)
	w := newWriter(t, top.B, listen(t, top.B, Config{Local: outer2}))
	b := batchOf(fromB(1, udp(1)), packettest.Outer(outer2, addr4("192.0.2.3"), 2, udp(2)), fromB(3, udp(3)), packettest.Outer(outer2, addr4("192.0.2.3"), 4, udp(4)))
	if n, err := w.Write(b); n != 4 || err != nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
	for i, c := range []struct {
		got  <-chan received
		size int
	}{{gotFirst, 1}, {gotFirst, 3}, {gotSecond, 1}, {gotSecond, 3}, {gotOther, 2}, {gotOther, 4}} {
		if r := within(t, "packet", c.got); len(r.raw) != 68+c.size {
			t.Errorf("packet %d has %d bytes, want %d", i, len(r.raw), 68+c.size)
		}
	}
}

// TestOverflowIsCounted: what the kernel dropped because nobody read is known, and stays
// so after Close.
func TestOverflowIsCounted(t *testing.T) {
	top := pair(t)
	a := listen(t, top.A, Config{Local: top.AddrA, ReceiveBuffer: 8192})
	w := newWriter(t, top.B, listen(t, top.B, Config{Local: top.AddrB}))
	const flood = 500
	for i := range flood {
		if n, err := w.Write(batchOf(fromB(uint16(i+1), udp(1000)))); n != 1 || err != nil {
			t.Fatalf("packet %d: wrote %d, %v", i, n, err)
		}
	}
	got := 0
	b := packet.NewBatch(BatchSize)
	for last := false; !last; {
		if got > 0 && got < flood { // the queue has room again
			w.Write(batchOf(fromB(9999, udp(7))))
		}
		if err := a.Reader().Read(b); err != nil {
			t.Fatal(err)
		}
		for i := range b.Packets {
			if last = b.Packets[i].Len() == 68+7; !last {
				got++
			}
		}
	}
	if s := a.Stats(); got == flood || s.Overflow != uint64(flood-got) {
		t.Errorf("%d of %d packets arrived, %d counted as lost", got, flood, s.Overflow)
	}
	a.Close()
	if s := a.Stats(); s.Overflow != uint64(flood-got) {
		t.Errorf("after Close %d packets are counted as lost, want %d", s.Overflow, flood-got)
	}
}

// TestDirectErrors: an error on either way out costs no other packet.
func TestDirectErrors(t *testing.T) {
	top := pair(t)
	if err := top.A.AddAddr(top.LinkA, "192.0.2.3/24"); err != nil {
		t.Fatal(err)
	}
	a := listen(t, top.A, Config{Local: outer1})
	b := listen(t, top.B, Config{Local: outer2, Direct: true})
	w := newWriter(t, top.B, b)
	link := 0
	if err := top.B.Do(func() error { link = index(t, top.LinkB); return nil }); err != nil {
		t.Fatal(err)
	}
	b.SetHops(map[[4]byte]Hop{outer1.As4(): {Link: link, MAC: net.HardwareAddr(macOf(t, top.A, top.LinkA))}})
	// Without a route, only the direct way is left.
	if err := top.B.DelAddr(top.LinkB, "192.0.2.2/24"); err != nil {
		t.Fatal(err)
	}
	got := collector(a, 3)
	batch := batchOf(fromB(1, udp(1)), packettest.Outer(outer2, addr4("192.0.2.3"), 2, udp(2)), fromB(3, udp(3)), fromB(4, udp(1453)), fromB(5, udp(5)))
	n, err := w.Write(batch)
	if n != 3 || err == nil {
		t.Errorf("wrote %d, %v, want 3 and an error", n, err)
	}
	for i, ok := range []bool{true, false, true, false, true} {
		if err := batch.Packets[i].Err; (err == nil) != ok {
			t.Errorf("packet %d: %v", i, err)
		}
	}
	if err := batch.Packets[3].Err; !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("packet over the link MTU: %v, want %v", err, unix.EMSGSIZE)
	}
	for _, size := range []int{1, 3, 5} {
		if r := within(t, "packet", got); len(r.raw) != 68+size {
			t.Errorf("%d bytes, want %d", len(r.raw), 68+size)
		}
	}
}
