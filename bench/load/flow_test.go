package load

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/tsp"
)

// fakePort is a port whose broker answers every so many datagrams; it keeps their words.
type fakePort struct {
	crowd  *Crowd
	every  int // 0 for never
	answer string
	words  []uint32
	inbox  chan []byte
}

func (p *fakePort) port() uint16 { return 1 }
func (p *fakePort) Close() error { close(p.inbox); return nil }

func (p *fakePort) send(_ netip.Addr, b []byte) error {
	h, _, err := tsp.ParseHeader(b)
	p.words = append(p.words, h.Word)
	if p.every > 0 && len(p.words)%p.every == 0 {
		p.inbox <- tsp.Header{Word: h.Word - 1}.Datagram([]byte("late")) // an answer to the one before
		p.inbox <- h.Datagram([]byte(p.answer))
	}
	return err
}

func (p *fakePort) receive(b []byte) (int, netip.Addr, error) {
	m, ok := <-p.inbox
	if !ok {
		return 0, netip.Addr{}, net.ErrClosed
	}
	return copy(b, m), p.crowd.Addr(0), nil
}

// TestFlow: a message is sent until it is answered, for as long as a client has patience.
func TestFlow(t *testing.T) {
	for _, tt := range []struct {
		name  string
		every int
		heard bool
		sends int
		took  time.Duration
		err   error
	}{
		{"answered", 1, false, 1, 0, nil},
		{"answered at the third", 3, false, 3, 4 * time.Second, nil},
		{"a broker that never answered", 0, false, 3, 6 * time.Second, tsp.ErrNoAnswer},
		{"one that did", 0, true, 8, 2 * (1 + 1 + 1 + 2 + 4 + 8 + 16 + 32) * time.Second, tsp.ErrNoAnswer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &Crowd{cfg: Config{First: netip.MustParseAddr("198.18.0.1")}, slots: make([]slot, 1)}
				p := &fakePort{crowd: c, every: tt.every, answer: "200 Success\r\n", inbox: make(chan []byte, 8)}
				c.ports = []datagrams{p}
				c.work.Go(func() { c.receiveDatagrams(0, p) })
				f := c.newFlow(0)
				f.heard = tt.heard
				start := time.Now()
				m, err := f.Call(t.Context(), []byte("VERSION=2.0.2\r\n"))
				if !errors.Is(err, tt.err) || err == nil && m.Code() != tsp.Success {
					t.Errorf("%q, %v", m.Line, err)
				}
				if took := time.Since(start); took != tt.took || len(p.words) != tt.sends || c.Resent.Load() != int64(tt.sends-1) {
					t.Errorf("%d datagrams, %d of them again, in %v; want %d in %v", len(p.words), c.Resent.Load(), took, tt.sends, tt.took)
				}
				p.Close()
				c.work.Wait()
			})
		})
	}
}

// TestFlowCancelled ends at once.
func TestFlowCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	errOver := errors.New("over")
	cancel(errOver)
	f := &flow{over: &fakePort{}, resent: new(atomic.Int64), answers: make(chan answer)}
	if err := f.Tell(ctx, nil); !errors.Is(err, errOver) {
		t.Errorf("error %v", err)
	}
}
