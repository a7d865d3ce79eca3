package broker_test

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp/broker"
)

// TestListenerFails: a listener that is out of descriptors gets them back; one that is
// closed is an error.
func TestListenerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := broker.New(broker.Config{Provisioner: new(pool), Anonymous: true})
		if err != nil {
			t.Fatal(err)
		}
		l := &failing{failures: 10}
		begin := time.Now()
		if err := s.ServeTCP(t.Context(), l); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("took %v", took)
		}
		if l.failures = 1000; s.ServeTCP(t.Context(), l) == nil {
			t.Error("no error")
		}
	})
}

// TestSocketFails: a socket that stays broken is an error.
func TestSocketFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := broker.New(broker.Config{Provisioner: new(pool), Anonymous: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, failure := range []error{net.ErrClosed, &net.OpError{Op: "read", Err: errors.New("network is down")}} {
			if err := s.ServeUDP(t.Context(), broken{err: failure}); !errors.Is(err, failure) {
				t.Error(err)
			}
		}
	})
}

// broken is a socket that only fails.
type broken struct {
	net.PacketConn
	err error
}

func (b broken) ReadFrom([]byte) (int, net.Addr, error) { return 0, nil, b.err }
func (b broken) Close() error                           { return nil }

// failing is a listener that fails some times, and then is closed.
type failing struct{ failures int }

func (l *failing) Accept() (net.Conn, error) {
	if l.failures--; l.failures >= 0 {
		return nil, errors.New("too many open files")
	}
	return nil, net.ErrClosed
}

func (l *failing) Close() error   { return nil }
func (l *failing) Addr() net.Addr { return nil }
