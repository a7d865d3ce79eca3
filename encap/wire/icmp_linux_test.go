package wire

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sixin4/encap/packettest"
	"sixin4/tun/nstest"
)

func listenICMP(t *testing.T, ns *nstest.NS, cfg ICMPConfig) (*ICMP, error) {
	t.Helper()
	var c *ICMP
	err := ns.Do(func() (err error) {
		c, err = ListenICMP(cfg)
		return err
	})
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// TestListenICMP: errors about protocol 41 come whole, and nothing else comes.
func TestListenICMP(t *testing.T) {
	for _, link := range []string{"", "a0"} {
		t.Run("interface "+link, func(t *testing.T) {
			top := pair(t)
			c, err := listenICMP(t, top.A, ICMPConfig{Interface: link})
			if err != nil {
				t.Fatal(err)
			}
			last := icmp4(11, 1, make([]byte, 9))
			want := map[string]bool{string(last[20:]): true}
			for _, one := range icmpCases() {
				sendRaw(t, top.B, one.b)
				if one.pass {
					want[string(one.b[20:])] = true
				}
			}
			sendRaw(t, top.B, last)
			b := make([]byte, MaxICMP)
			for got := []byte(nil); !bytes.Equal(got, last[20:]); {
				n, err := c.Read(b)
				if err != nil || n < 28 {
					t.Fatalf("%d bytes, %v", n, err)
				}
				got = b[20:n]
				if !want[string(got)] {
					t.Errorf("came: % x", got)
				}
				delete(want, string(got))
			}
			if len(want) != 0 {
				t.Errorf("%d did not come", len(want))
			}
		})
	}
}

// sendRaw sends an IPv4 packet as it is.
func sendRaw(t *testing.T, ns *nstest.NS, b []byte) {
	t.Helper()
	err := ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, b, 0, &unix.SockaddrInet4{Addr: [4]byte(b[16:20])})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestICMPClose(t *testing.T) {
	c, err := listenICMP(t, pair(t).A, ICMPConfig{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, MaxICMP))
		done <- err
	}()
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	if err := nstest.Within(t, 30*time.Second, "Read ends", done); err != os.ErrClosed {
		t.Error(err)
	}
	if _, err := c.Read(nil); err != os.ErrClosed {
		t.Error(err)
	}
}

func TestListenICMPFails(t *testing.T) {
	if _, err := listenICMP(t, pair(t).A, ICMPConfig{Interface: "nobody0"}); !errors.Is(err, unix.ENODEV) {
		t.Errorf("%v", err)
	}
}

// TestNoLearntMTU: the kernel learns nothing from fragmentation needed about our packets,
// and sends them as long as the link allows whatever it has learnt from others.
func TestNoLearntMTU(t *testing.T) {
	top := pair(t)
	c := listen(t, top.A, Config{Local: top.AddrA})
	w := newWriter(t, top.A, c)
	b := listen(t, top.B, Config{Local: top.AddrB})
	got := collector(b, 1)
	echo := append([]byte{8, 0, 0, 0, 0, 1, 0, 1}, make([]byte, 1400)...)
	quotes := [][]byte{packettest.Outer(outer1, outer2, 1, make([]byte, 1400)), packettest.Outer(outer1, outer2, 1, echo)}
	quotes[1][9] = 1
	for _, q := range quotes {
		m := icmp4(3, 4, q[:60])
		m[26], m[27] = 1000>>8, 1000&0xff
		m[22], m[23] = 0, 0
		sum := ^packettest.Sum(m[20:])
		m[22], m[23] = byte(sum>>8), byte(sum)
		sendRaw(t, top.B, m)
	}
	long := packettest.Outer(outer1, outer2, 2, make([]byte, 1480))
	if n, err := w.Write(batchOf(long)); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if r := nstest.Within(t, 30*time.Second, "the packet", got); !bytes.Equal(r.raw, long) {
		t.Errorf("% x", r.raw)
	}
}
