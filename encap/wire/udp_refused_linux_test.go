package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"sixin4/encap/packet"
)

// TestUDPErrors: each packet has its own error, and costs no other.
func TestUDPErrors(t *testing.T) {
	for _, unsegmented := range []bool{false, true} {
		t.Run(fmt.Sprintf("unsegmented %t", unsegmented), func(t *testing.T) {
			cfg := UDPConfig{Unsegmented: unsegmented}
			p := newUDPPair(t, cfg, cfg)
			elsewhere := datagram(serverPort, netip.MustParseAddrPort("198.51.100.9:7"), 0, numbered(9, 100))
			got := readUDP(p.client, 4, 128)
			batch := batchOf(p.down(0, numbered(0, 100)), p.down(0, numbered(1, 100)), elsewhere, elsewhere, p.down(0, numbered(2, 1473)), p.down(0, numbered(3, 1473)),
				p.down(0, numbered(4, 100)), []byte("no headers"), p.down(0, numbered(5, 100)))
			w, err := p.server.NewWriter()
			if err != nil {
				t.Fatal(err)
			}
			n, err := w.Write(batch)
			if n != 4 || !errors.Is(err, unix.ENETUNREACH) {
				t.Errorf("wrote %d, %v; want 4, %v", n, err, unix.ENETUNREACH)
			}
			for i, want := range []error{nil, nil, unix.ENETUNREACH, unix.ENETUNREACH, unix.EMSGSIZE, unix.EMSGSIZE, nil, packet.ErrMalformed, nil} {
				if err := batch.Packets[i].Err; !errors.Is(err, want) {
					t.Errorf("packet %d: %v, want %v", i, err, want)
				}
			}
			for _, i := range []int{0, 1, 4, 5} {
				expectDatagram(t, i, within(t, "packet", got), p.down(0, numbered(i, 100)))
			}
		})
	}
	t.Run("another peer on a connected socket", func(t *testing.T) {
		p := newUDPPair(t, UDPConfig{}, UDPConfig{})
		w, err := p.client.NewWriter()
		if err != nil {
			t.Fatal(err)
		}
		other := netip.MustParseAddrPort("192.0.2.2:3654")
		if n, err := w.Write(batchOf(datagram(p.client.LocalAddr(), other, 0, numbered(1, 100)))); n != 0 || !errors.Is(err, unix.ENETUNREACH) {
			t.Errorf("wrote %d, %v", n, err)
		}
	})
}

// TestUDPPathMTU: a path that is too small for a run costs fragments or errors for that
// peer, and the runs of others nothing.
func TestUDPPathMTU(t *testing.T) {
	var book logBook
	p := newUDPPair(t, UDPConfig{ClearDF: true, Logger: book.logger()}, UDPConfig{ClearDF: true, Logger: book.logger()})
	if err := errors.Join(p.A.SetMTU(p.LinkA, 1280), p.B.SetMTU(p.LinkB, 1280)); err != nil {
		t.Fatal(err)
	}
	for name, u := range map[string]*UDP{"connected": p.client, "listening": p.server} {
		if mtu, err := u.PathMTU(p.client.LocalAddr()); mtu != 1280 || err != nil {
			t.Errorf("%s: path MTU %d, %v", name, mtu, err)
		}
	}
	before := p.server.Stats().Reassembled
	passTrain(t, p, repeat(10, 1280, 99), 128)
	if now := p.server.Stats().Reassembled; now < before+10 {
		t.Errorf("%d packets were reassembled", now-before)
	}
	merged := p.server.Stats().Merged
	passTrain(t, p, repeat(10, 1252), 128)
	if p.server.Stats().Merged == merged || len(book.lines) > 0 {
		t.Errorf("what fits is sent one by one as well; log %q", book.lines)
	}
	if err := p.client.SetDF(true); err != nil {
		t.Fatal(err)
	}
	w, err := p.client.NewWriter()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := w.Write(batchOf(p.up(0, numbered(0, 1280)), p.up(0, numbered(1, 1280)), p.up(0, numbered(2, 1252)))); n != 1 || !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("with DF wrote %d, %v", n, err)
	}
}

// segmented reports whether a message asks the kernel to cut it, and into how much.
func segmented(m *mmsghdr) (seg int) {
	b := m.hdr.Control
	if b == nil {
		return 0
	}
	messages, err := unix.ParseSocketControlMessage(bytesAt(b, int(m.hdr.Controllen)))
	if err != nil {
		panic(err)
	}
	for _, c := range messages {
		if c.Header.Level == unix.IPPROTO_UDP && c.Header.Type == unix.UDP_SEGMENT {
			seg = int(binary.NativeEndian.Uint16(c.Data))
		}
	}
	return seg
}

// TestUDPSegmentationRefused: where the kernel or a device does not cut, nothing is
// lost, one line is logged, and it is tried again later.
func TestUDPSegmentationRefused(t *testing.T) {
	for _, e := range []errno{unix.EIO, unix.EINVAL, unix.EOPNOTSUPP, unix.EMSGSIZE} {
		t.Run(e.Error(), func(t *testing.T) {
			var book logBook
			p := newUDPPair(t, UDPConfig{Logger: book.logger()}, UDPConfig{})
			refusing, tried := true, 0
			w, _ := fate(t, p.client, func(m *mmsghdr) error {
				if seg := segmented(m); seg > 0 {
					if tried++; refusing {
						return e
					}
				}
				return nil
			})
			const rounds, n = 40, 20
			got := readUDP(p.server, rounds*n, 128)
			for round := range rounds {
				refusing = round < rounds/2
				var packets [][]byte
				for i := range n {
					packets = append(packets, p.up(0, numbered(round*n+i, 500)))
				}
				if sent, err := w.Write(batchOf(packets...)); sent != n || err != nil {
					t.Fatalf("round %d: wrote %d, %v", round, sent, err)
				}
			}
			for i := range rounds * n {
				expectDatagram(t, i, within(t, "packet", got), p.up(0, numbered(i, 500)))
			}
			if len(book.lines) != 1 {
				t.Errorf("logged %q, want one line", book.lines)
			}
			if w.pause != 0 || tried > rounds {
				t.Errorf("a pause of %d when runs go again, tried %d times", w.pause, tried)
			}
		})
	}
}

// TestUDPSegmentLimit: a kernel that cuts 64 at most is asked for no more.
func TestUDPSegmentLimit(t *testing.T) {
	var book logBook
	p := newUDPPair(t, UDPConfig{Logger: book.logger()}, UDPConfig{})
	most := 0
	w, _ := fate(t, p.client, func(m *mmsghdr) error {
		n := 0
		if segmented(m) > 0 {
			n = int(m.hdr.Iovlen) / 2 // batchOf: one piece, two pieces
		}
		if n > 64 {
			return errno(unix.EINVAL)
		}
		most = max(most, n)
		return nil
	})
	for range 3 {
		var packets [][]byte
		for i := range 120 {
			packets = append(packets, p.up(0, numbered(i, 100)))
		}
		if n, err := w.Write(batchOf(packets...)); n != 120 || err != nil {
			t.Fatal(n, err)
		}
	}
	if most == 0 || p.client.segments.Load() != commonSegments || len(book.lines) > 0 {
		t.Errorf("%d in one piece, limit %d, log %q", most, p.client.segments.Load(), book.lines)
	}
}

// TestUDPUnreachable: an ICMP error about one packet fails no other, and is told to who
// reads control.
func TestUDPUnreachable(t *testing.T) {
	p := newUDPPair(t, UDPConfig{}, UDPConfig{})
	heard := make(chan error, 1)
	go func() {
		_, err := p.client.Control().Read(make([]byte, 100))
		heard <- err
	}()
	p.server.Close()
	read := readUDP(p.client, 1, 128)
	for i := range 50 {
		write(t, p.client, p.up(0, numbered(i, 100)), p.up(0, numbered(i, 99)))
	}
	err := within(t, "control", heard)
	var op *net.OpError
	if !errors.As(err, &op) || !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("control: %v, want %v", err, unix.ECONNREFUSED)
	}
	if s := p.client.UDPStats(); s.Refused == 0 {
		t.Errorf("%+v", s)
	}
	p.client.Close()
	if r := within(t, "Read returned", read); r.raw != nil {
		t.Errorf("read % x", r.raw)
	}
}
