package netstack

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

// TestReset: a connection that is closed with a linger of 0 does not look ended at the
// other end, behind what was sent before, and whichever of Read and Write is told first.
func TestReset(t *testing.T) {
	p := newPair(t, Config{}, nil, nil)
	l := listen(t, p.b, "[::]:80")
	for _, tt := range []struct {
		name string
		cut  func(c net.Conn)
	}{
		{"linger", func(c net.Conn) {
			if err := c.(interface{ SetLinger(sec int) error }).SetLinger(0); err != nil {
				t.Error(err)
			}
			_ = c.Close()
		}},
		{"address gone", func(net.Conn) {
			if err := p.a.SetAddresses([]netip.Addr{addrA.Next()}); err != nil {
				t.Error(err)
			}
		}},
	} {
		out, in := connect(t, p.a, l, at(addrB, 80))
		if _, err := in.Write([]byte("abc")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 3)
		if _, err := io.ReadFull(out, got); err != nil || string(got) != "abc" {
			t.Fatalf("%s: %q, %v", tt.name, got, err)
		}
		tt.cut(in)
		var err error
		for b := make([]byte, 1000); err == nil; {
			_, err = out.Write(b)
		}
		if n, err := out.Read(got); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %d bytes, %v", tt.name, n, err)
		}
		if err := out.Close(); err != nil {
			t.Error(err)
		}
	}
}
