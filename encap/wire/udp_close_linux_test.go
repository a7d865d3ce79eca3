package wire

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"

	"sixin4/encap/packet"
)

// TestUDPOverflow: what the kernel dropped because nobody read is known.
func TestUDPOverflow(t *testing.T) {
	p := newUDPPair(t, UDPConfig{Unsegmented: true}, UDPConfig{ReceiveBuffer: 8192, Unsegmented: true})
	const flood = 500
	for i := range flood {
		write(t, p.client, p.up(0, numbered(i, 1000)))
	}
	got := 0
	b := packet.NewBatch(BatchSize)
	for last := false; !last; {
		if got > 0 { // the queue has room again
			write(t, p.client, p.up(0, numbered(1, 60)))
		}
		if err := p.server.Reader().Read(b); err != nil {
			t.Fatal(err)
		}
		for i := range b.Packets {
			if last = b.Packets[i].Len() == UDPHeaderLen+60; !last {
				got++
			}
		}
	}
	if s := p.server.Stats(); got == flood || s.Overflow != uint64(flood-got) {
		t.Errorf("%d of %d packets arrived, %d counted as lost", got, flood, s.Overflow)
	}
}

// TestUDPClose wakes a Read and who reads control, is idempotent, and leaves nothing
// open.
func TestUDPClose(t *testing.T) {
	top := pair(t)
	round := func(to netip.AddrPort) {
		u := openUDP(t, top.A, anyPort4, to, UDPConfig{})
		w, err := u.NewWriter()
		if err != nil {
			t.Fatal(err)
		}
		began, ended, control := make(chan bool), make(chan error, 1), make(chan error, 1)
		go func() {
			close(began)
			ended <- u.Reader().Read(packet.NewBatch(BatchSize))
		}()
		go func() {
			_, err := u.Control().Read(nil)
			control <- err
		}()
		within(t, "reader started", began)
		if err := u.Reader().Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := within(t, "Read returned", ended); !errors.Is(err, os.ErrClosed) {
			t.Errorf("read: %v", err)
		}
		if err := within(t, "control", control); !errors.Is(err, net.ErrClosed) {
			t.Errorf("control: %v", err)
		}
		if err := u.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
		if err := u.Reader().Read(packet.NewBatch(1)); !errors.Is(err, os.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
		if n, err := w.Write(batchOf(datagram(u.LocalAddr(), serverPort, 0, numbered(1, 100)))); n != 0 || !errors.Is(err, os.ErrClosed) {
			t.Errorf("write after close: %d, %v", n, err)
		}
		_, err = u.NewWriter()
		_, mtuErr := u.PathMTU(serverPort)
		if !errors.Is(err, os.ErrClosed) || !errors.Is(u.SetDF(true), os.ErrClosed) || !errors.Is(mtuErr, os.ErrClosed) {
			t.Errorf("after close: %v, %v", err, mtuErr)
		}
	}
	for name, to := range map[string]netip.AddrPort{"connected": serverPort, "listening": {}} {
		t.Run(name, func(t *testing.T) {
			round(to)
			files := openFiles(t)
			for range 5 {
				round(to)
			}
			if now := openFiles(t); now > files {
				t.Errorf("%d descriptors became %d", files, now)
			}
		})
	}
}

// TestUDPConfig: what NewUDP refuses it leaves alone.
func TestUDPConfig(t *testing.T) {
	if _, err := NewUDP(UDPConfig{}); err == nil {
		t.Error("a wire without a socket")
	}
	conn, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Skipf("needs IPv6: %v", err)
	}
	defer conn.Close()
	if _, err := NewUDP(UDPConfig{Conn: conn}); err == nil {
		t.Error("a wire of IPv6 in UDP in IPv6")
	}
	if _, err := conn.WriteTo(nil, conn.LocalAddr()); err != nil {
		t.Errorf("the socket is of no use any more: %v", err)
	}
}
