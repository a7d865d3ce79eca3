package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// deaf is a network where nothing but far answers.
type deaf struct {
	Network
	names map[string][]netip.Addr
}

func (d deaf) Resolve(_ context.Context, _, host string) ([]netip.Addr, error) {
	return d.names[host], nil
}

func (deaf) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	if netip.MustParseAddrPort(address).Addr() != far {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	us, them := net.Pipe()
	return us, them.Close()
}

// dead is an address where nobody answers.
var dead = netip.MustParseAddr("2001:db8:dead::1")

// TestDeadAddress: the addresses of a name that are dead leave time for one that is not.
func TestDeadAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{Network: deaf{names: map[string][]netip.Addr{
			"last.example.net": {dead, dead.Next(), dead.Next().Next(), far},
			"dead.example.net": {dead, dead.Next()},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		c, err := s.dial(t.Context(), "tcp", "last.example.net", 80)
		if took := time.Since(begin); err != nil || took != dialTime*3/4 {
			t.Errorf("%v after %v", err, took)
		} else {
			_ = c.Close()
		}
		begin = time.Now()
		_, err = s.dial(t.Context(), "tcp", "dead.example.net", 80)
		if took := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || took != dialTime {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// TestSocksLate: a client that asked for a dead address is told so.
func TestSocksLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{Network: deaf{}})
		if err != nil {
			t.Fatal(err)
		}
		us, them := net.Pipe()
		defer us.Close()
		go func() {
			defer them.Close()
			(&door{s: s, socks: true}).enter(t.Context(), them, nil)
		}()
		greeting, ask := request(1, dead.String(), 80)[:3], request(1, dead.String(), 80)[3:]
		answer := make([]byte, 2)
		for _, b := range [][]byte{greeting, ask} {
			if _, err := us.Write(b); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(us, answer); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(answer, []byte{5, 6}) {
			t.Errorf("answer % x", answer)
		}
	})
}
