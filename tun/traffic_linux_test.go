package tun

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sixin4/encap/packet"
	"sixin4/tun/nstest"
)

// cable is two devices in two namespaces; what one reads the other writes.
type cable struct {
	a, b   *nstest.NS
	da, db *Device
	wg     sync.WaitGroup
}

// plug makes a cable whose two ends use the portable path or not.
func plug(t *testing.T, portableA, portableB bool) *cable {
	t.Helper()
	c := &cable{a: nstest.Open(t), b: nstest.Open(t)}
	c.da = open(t, c.a, Config{Name: "end-a", NoOffload: portableA}, "2001:db8::1/64")
	c.db = open(t, c.b, Config{Name: "end-b", NoOffload: portableB}, "2001:db8::2/64")
	c.wg.Go(func() { pump(t, c.da, c.db) })
	c.wg.Go(func() { pump(t, c.db, c.da) })
	t.Cleanup(func() { c.da.Close(); c.db.Close(); c.wg.Wait() })
	return c
}

// pump moves packets until a device is closed, and looks at each.
func pump(t *testing.T, from, to *Device) {
	b, w := packet.NewBatch(BatchSize), to.NewWriter()
	for {
		if err := from.Reader(0).Read(b); err != nil {
			if !errors.Is(err, os.ErrClosed) {
				t.Errorf("read: %v", err)
			}
			return
		}
		for i := range b.Packets {
			p := &b.Packets[i]
			raw := whole(p)
			if f, err := locate(raw); err == nil && f.proto != 58 {
				if err := verify(raw); err != nil || len(raw) > 1480 || p.Err != nil {
					t.Errorf("read a packet of %d bytes: %v, %v", len(raw), p.Err, err)
				}
			}
		}
		if _, err := w.Write(b); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Errorf("write: %v", err)
		}
	}
}

// stream sends n bytes over TCP to b and checks what arrives.
func (c *cable) stream(t *testing.T, n int) {
	t.Helper()
	var listener net.Listener
	var conn net.Conn
	err := c.b.Do(func() (err error) {
		listener, err = net.Listen("tcp6", "[2001:db8::2]:7")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	got := make(chan [32]byte, 1)
	go func() {
		defer close(got)
		in, err := listener.Accept()
		if err != nil {
			return
		}
		defer in.Close()
		_ = in.SetDeadline(time.Now().Add(limit))
		h := sha256.New()
		if _, err := io.Copy(h, in); err == nil {
			got <- [32]byte(h.Sum(nil))
		}
	}()
	err = c.a.Do(func() (err error) {
		conn, err = (&net.Dialer{Timeout: limit}).Dial("tcp6", "[2001:db8::2]:7")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(limit))
	data := pattern(n, 5)
	if _, err := io.Copy(conn, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if sum := within(t, "transfer", got); sum != sha256.Sum256(data) {
		t.Errorf("%d bytes of TCP arrived changed", n)
	}
}

// datagrams sends sizes[i] bytes as datagram i; segment asks the kernel to cut
// one large send into datagrams of that size (UDP_SEGMENT). It checks all.
func (c *cable) datagrams(t *testing.T, segment int, sizes ...int) {
	t.Helper()
	var in, out net.PacketConn
	listen := func(ns *nstest.NS, conn *net.PacketConn, addr string) {
		t.Helper()
		err := ns.Do(func() (err error) {
			*conn, err = net.ListenPacket("udp6", addr)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*conn).Close() })
	}
	listen(c.b, &in, "[2001:db8::2]:8")
	listen(c.a, &out, "[2001:db8::1]:9")
	if segment > 0 {
		setSegment(t, out, segment)
	}
	buf := make([]byte, 1<<16)
	for i, size := range sizes { // one send at a time: nothing can overflow
		data := pattern(size, i)
		if _, err := out.WriteTo(data, in.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		for rest := data; ; {
			want := rest
			if segment > 0 {
				want = rest[:min(segment, len(rest))]
			}
			_ = in.SetReadDeadline(time.Now().Add(limit))
			n, _, err := in.ReadFrom(buf)
			if err != nil || !bytes.Equal(buf[:n], want) {
				t.Fatalf("datagram of send %d: %d bytes, %v, want %d", i, n, err, len(want))
			}
			if rest = rest[len(want):]; len(rest) == 0 {
				break
			}
		}
	}
	in.Close()
	out.Close()
}

func setSegment(t *testing.T, conn net.PacketConn, size int) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size)
	}), err)
	if err != nil {
		t.Fatal(err)
	}
}

// TestTraffic: the same traffic passes whichever path the two ends use.
func TestTraffic(t *testing.T) {
	for _, portableA := range []bool{false, true} {
		for _, portableB := range []bool{false, true} {
			t.Run(fmt.Sprintf("portable %t to portable %t", portableA, portableB), func(t *testing.T) {
				c := plug(t, portableA, portableB)
				c.stream(t, 4<<20)
				c.datagrams(t, 0, 0, 1, 2, 999, 1432)
				c.datagrams(t, 600, 600*40, 600*3+1, 599)
				sa, sb := c.da.Stats(), c.db.Stats()
				if fast := !portableA; fast != (sa.Split > 0 && sa.SplitInto > 2*sa.Split) {
					t.Errorf("sender, fast %t: %+v", fast, sa)
				}
				// The portable reader brings one packet at a time: nothing to join.
				if fast := !portableA && !portableB; fast != (sb.JoinedInto > 0 && sb.Joined > sb.JoinedInto) {
					t.Errorf("receiver, fast %t: %+v", fast, sb)
				}
			})
		}
	}
}

// TestMergedAndPartialReachTheStack: packets as the wire hands them over, merged
// or with only the pseudo-header in the checksum, arrive at a socket, on both
// paths.
func TestMergedAndPartialReachTheStack(t *testing.T) {
	for _, portable := range []bool{false, true} {
		t.Run(fmt.Sprintf("portable %t", portable), func(t *testing.T) {
			ns := nstest.Open(t)
			d := open(t, ns, Config{Name: "merged0", NoOffload: portable}, "2001:db8::2/64")
			var in net.PacketConn
			err := ns.Do(func() (err error) {
				in, err = net.ListenPacket("udp6", "[2001:db8::2]:5000")
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			w := d.NewWriter()
			merged, single, behind := udp6(pattern(2500, 1)), udp6(pattern(77, 2)), extend(udp6(pattern(78, 3)), dstOpts)
			b := batchOf(setPartial(merged), setPartial(single), setPartial(behind))
			for i := range b.Packets {
				b.Packets[i].Sum = packet.SumPartial
			}
			b.Packets[0].Seg = 1000
			if n, err := w.Write(b); n != 3 || err != nil {
				t.Fatalf("wrote %d, %v", n, err)
			}
			data := pattern(2500, 1)
			buf := make([]byte, 1<<16)
			for i, want := range [][]byte{data[:1000], data[1000:2000], data[2000:], pattern(77, 2), pattern(78, 3)} {
				_ = in.SetReadDeadline(time.Now().Add(limit))
				if n, _, err := in.ReadFrom(buf); err != nil || !bytes.Equal(buf[:n], want) {
					t.Fatalf("datagram %d: %d bytes, %v; want %d", i, n, err, len(want))
				}
			}
		})
	}
}

// TestQueues: flows are spread over the queues, and every packet comes out of one.
func TestQueues(t *testing.T) {
	ns := nstest.Open(t)
	d := open(t, ns, Config{Name: "multi0", Queues: 4}, "2001:db8::1/64")
	const flows = 64
	ports, used := make(chan uint16, flows), make(chan int, flows)
	for q := range d.Queues() {
		go func() {
			b := packet.NewBatch(BatchSize)
			for d.Reader(q).Read(b) == nil {
				for i := range b.Packets {
					if f, err := locate(b.Packets[i].Head()); err == nil && f.proto == 17 {
						used <- q
						ports <- binary.BigEndian.Uint16(b.Packets[i].Head()[f.off+2:])
					}
				}
			}
		}()
	}
	err := ns.Do(func() error {
		for i := range flows {
			conn, err := net.Dial("udp6", fmt.Sprintf("[2001:db8::2]:%d", 1000+i))
			if err != nil {
				return err
			}
			if _, err := conn.Write([]byte("x")); err != nil {
				return err
			}
			conn.Close()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	queues, seen := map[int]int{}, map[uint16]bool{}
	for range flows {
		queues[within(t, "a packet", used)]++
		seen[within(t, "a packet", ports)] = true
	}
	if len(seen) != flows || len(queues) < 2 {
		t.Errorf("%d of %d flows, over queues %v", len(seen), flows, queues)
	}
}
