package wire

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sixin4/encap/packet"
	"sixin4/encap/packettest"
)

// unsummed is UDP whose checksum is only the sum of its pseudo-header; n makes it
// differ from others.
func unsummed(n int) []byte {
	inner := packettest.UDP(inner6, inner7, packettest.Pattern(n, 100))
	binary.BigEndian.PutUint16(inner[46:], packettest.Sum(packettest.PseudoHeader(inner, protoUDP)))
	return inner
}

// refused reads n packets and counts those that came with an error.
func refused(t *testing.T, c *Conn, n int) (bad int) {
	t.Helper()
	b := packet.NewBatch(BatchSize)
	for n > 0 {
		if err := c.Reader().Read(b); err != nil {
			t.Fatal(err)
		}
		for i := range b.Packets {
			if b.Packets[i].Err != nil {
				bad++
			}
		}
		n -= b.Len()
	}
	return bad
}

// TestStrangersSpoilNoHints: what the kernel has no hint for must not use up those
// of the packets behind it, and is itself no reason to refuse.
func TestStrangersSpoilNoHints(t *testing.T) {
	stranger := netip.MustParseAddr("192.0.2.99")
	behind := behindOptions(unsummed(5))
	for name, first := range map[string][]byte{
		"behind an extension header": packettest.Outer(stranger, outer1, 4000, behind),
		"with IPv4 options":          optioned(packettest.Outer(stranger, outer1, 4000, unsummed(5))),
	} {
		t.Run(name, func(t *testing.T) {
			top := pair(t)
			a := listen(t, top.A, Config{Local: top.AddrA})
			mac := macOf(t, top.A, top.LinkA)
			for n := range 3 { // until the kernel is being asked
				inject(t, top.B, top.LinkB, mac, 60, fromB(uint16(n+1), unsummed(n)))
				refused(t, a, 1)
			}
			packets := [][]byte{first}
			for n := range 600 {
				packets = append(packets, fromB(uint16(n+1), unsummed(n)))
			}
			inject(t, top.B, top.LinkB, mac, 60, packets...)
			if bad := refused(t, a, len(packets)); bad != 0 {
				t.Errorf("%d of %d packets refused", bad, len(packets))
			}
		})
	}
}

// optioned gives an outer packet four bytes of IPv4 options.
func optioned(p []byte) []byte {
	o := append(append(append([]byte{}, p[:20]...), 1, 1, 1, 1), p[20:]...)
	o[0] = 0x46
	binary.BigEndian.PutUint16(o[2:], uint16(len(o)))
	o[10], o[11] = 0, 0
	binary.BigEndian.PutUint16(o[10:], ^packettest.Sum(o[:24]))
	return o
}

// TestSilentNeighbours: packets that the kernel holds for hosts that do not answer
// fill the socket. Other peers must not wait until it has given those up, which
// takes it seconds.
func TestSilentNeighbours(t *testing.T) {
	top := pair(t)
	w := newWriter(t, top.A, listen(t, top.A, Config{Local: top.AddrA}))
	began := time.Now()
	full := 0
	for n := range 16 {
		silent := netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + n)})
		var packets [][]byte
		for range 150 {
			packets = append(packets, packettest.Outer(outer1, silent, 5, packettest.UDP(inner6, inner7, make([]byte, 1300))))
		}
		b := batchOf(packets...)
		if sent, _ := w.Write(b); sent < b.Len() {
			full++
		}
	}
	if took := time.Since(began); full == 0 || took > 2*time.Second {
		t.Errorf("the socket was full for %d of 16 neighbours, and writing took %v", full, took)
	}
}

// TestErrorQueue: a packet over the MTU leaves a note on the socket, with which
// poll(2) would return at once for ever.
func TestErrorQueue(t *testing.T) {
	top := pair(t)
	w := newWriter(t, top.A, listen(t, top.A, Config{Local: top.AddrA})).(*mmsgWriter)
	events := func() int16 {
		fds := []unix.PollFd{{Fd: int32(w.raw)}}
		if _, err := unix.Poll(fds, 0); err != nil {
			t.Fatal(err)
		}
		return fds[0].Revents
	}
	if n, _ := w.Write(batchOf(packettest.Outer(outer1, outer2, 5, packettest.UDP(inner6, inner7, make([]byte, 2000))))); n != 0 || events() == 0 {
		t.Fatalf("wrote %d, poll says %#x; want nothing written, and a note of it", n, events())
	}
	drainErrors(w.raw)
	if e := events(); e != 0 {
		t.Errorf("poll says %#x when the notes were read", e)
	}
}
