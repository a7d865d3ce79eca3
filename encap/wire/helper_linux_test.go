package wire

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"sixin4/encap/packet"
	"sixin4/encap/packettest"
	"sixin4/tun/nstest"
)

// pair is two hosts on one link: A is 192.0.2.1, B is 192.0.2.2.
func pair(t testing.TB) *nstest.Topology {
	t.Helper()
	nstest.Need(t)
	top, err := nstest.Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { top.Close() })
	return top
}

func listen(t testing.TB, ns *nstest.NS, cfg Config) *Conn {
	t.Helper()
	var c *Conn
	err := ns.Do(func() (err error) {
		c, err = Listen(cfg)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func newWriter(t testing.TB, ns *nstest.NS, c *Conn) Writer {
	t.Helper()
	var w Writer
	err := ns.Do(func() (err error) {
		w, err = c.NewWriter()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// batchOf makes a batch of whole packets; odd ones are cut into head and payload.
func batchOf(packets ...[]byte) *packet.Batch {
	b := packet.NewBatch(max(len(packets), 1))
	for i, raw := range packets {
		n := len(raw)
		if i%2 == 1 {
			n = min(n, 60)
		}
		p := b.Next()
		p.Set(append(make([]byte, packet.Headroom), raw[:n]...), packet.Headroom, slices.Clone(raw[n:]))
	}
	return b
}

// received is a packet as a reader brought it.
type received struct {
	raw  []byte
	seg  int
	part bool
	err  error
}

// collector reads until n packets came or the connection is closed, which it
// tells by closing the channel.
func collector(c *Conn, n int) <-chan received {
	out := make(chan received, n)
	go func() {
		defer close(out)
		b := packet.NewBatch(BatchSize)
		for n > 0 && c.Reader().Read(b) == nil {
			for i := range b.Packets {
				p := &b.Packets[i]
				out <- received{p.AppendTo(nil), p.Seg, p.Sum == packet.SumPartial, p.Err}
				n--
			}
		}
	}()
	return out
}

// fromB makes an outer packet from B to A.
func fromB(id uint16, inner []byte, edits ...func([]byte)) []byte {
	return packettest.Outer(outer2, outer1, id, inner, edits...)
}

// inject sends IPv4 packets out of link in ns by a packet socket, each with a
// virtio header that says where a checksum is still to be done, 0: nowhere.
func inject(t testing.TB, ns *nstest.NS, link string, mac []byte, csumStart int, packets ...[]byte) {
	t.Helper()
	err := ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return err
		}
		to := &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_IP), Ifindex: index(t, link)}
		for _, ip := range packets {
			head := make([]byte, vnetLen+14)
			if csumStart > 0 {
				field := 16
				if ip[csumStart-40+6] == 17 {
					field = 6
				}
				head[0] = 1
				binary.NativeEndian.PutUint16(head[6:], uint16(14+csumStart))
				binary.NativeEndian.PutUint16(head[8:], uint16(field))
			}
			copy(head[vnetLen:], mac)
			head[vnetLen+6], head[vnetLen+12] = 2, 8
			if err := unix.Sendto(fd, append(head, ip...), 0, to); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// index and mac look up an interface of the calling thread's namespace.
func index(t testing.TB, link string) int {
	t.Helper()
	i, err := net.InterfaceByName(link)
	if err != nil {
		t.Fatal(err)
	}
	return i.Index
}

func macOf(t testing.TB, ns *nstest.NS, link string) (mac []byte) {
	t.Helper()
	err := ns.Do(func() error {
		i, err := net.InterfaceByName(link)
		if err == nil {
			mac = i.HardwareAddr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return mac
}

func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func addr4(s string) netip.Addr { return netip.MustParseAddr(s) }
