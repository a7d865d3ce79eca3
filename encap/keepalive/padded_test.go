package keepalive

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"sixin4/encap"
)

// padded runs a Padded on a fake far end in a bubble, and do in the middle of it. It
// returns the sizes that were answered.
func padded(t *testing.T, far func(c *fakeConn, n int, message []byte) error, do func(p *Padded, c *fakeConn)) (sizes []encap.TunMTU) {
	t.Helper()
	c := newFakeConn(far)
	p, err := NewPadded(PaddedConfig{Interface: "six0", Source: near, To: farAddr, Answered: func(size encap.TunMTU) { sizes = append(sizes, size) }})
	if err != nil {
		t.Fatal(err)
	}
	p.open = func(int) (conn, error) { return c, nil }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	synctest.Wait()
	do(p, c)
	<-time.After(time.Minute)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	synctest.Wait()
	if c.closes != 1 {
		t.Errorf("the socket was closed %d times", c.closes)
	}
	if err := p.Send(1280); !errors.Is(err, os.ErrClosed) {
		t.Errorf("send after the end: %v", err)
	}
	return sizes
}

// farAddr is far, whose name is a parameter's above.
var farAddr = far

func TestPaddedSizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lengths []int
		answer := func(c *fakeConn, _ int, message []byte) error {
			lengths = append(lengths, len(message)+encap.IPv6HeaderLen)
			c.later(time.Millisecond, replyTo(message))
			return nil
		}
		sizes := padded(t, answer, func(p *Padded, _ *fakeConn) {
			for _, size := range []encap.TunMTU{64, 1280, 1281, 1480, 9000, encap.MaxTunMTU} {
				if err := p.Send(size); err != nil {
					t.Error(err)
				}
				<-time.After(time.Second)
			}
			for _, size := range []encap.TunMTU{0, 63, encap.MaxTunMTU + 1} {
				if err := p.Send(size); err == nil {
					t.Errorf("a probe of %d bytes was sent", size)
				}
			}
		})
		want := []encap.TunMTU{64, 1280, 1281, 1480, 9000, encap.MaxTunMTU}
		if len(sizes) != len(want) || len(lengths) != len(want) {
			t.Fatalf("%d answered, %d sent", sizes, lengths)
		}
		for i := range want {
			if sizes[i] != want[i] || lengths[i] != int(want[i]) {
				t.Errorf("%d sent, %d answered, want %d", lengths[i], sizes[i], want[i])
			}
		}
	})
}

// TestPaddedAnswers: what counts as an answer, and how often.
func TestPaddedAnswers(t *testing.T) {
	change := func(edit func(b []byte) []byte) func(received) []received {
		return func(r received) []received {
			r.message = edit(bytes.Clone(r.message))
			return []received{r}
		}
	}
	at := func(i int, v byte) func(received) []received {
		return change(func(b []byte) []byte { b[i] ^= v; return b })
	}
	for _, c := range []struct {
		name   string
		answer func(r received) []received
		want   int
	}{
		{"the right one", func(r received) []received { return []received{r} }, 1},
		{"twice", func(r received) []received { return []received{r, r} }, 1},
		{"never", func(received) []received { return nil }, 0},
		{"the request itself", at(0, typeRequest^typeReply), 0},
		{"another code", at(1, 1), 0},
		{"another identifier", at(5, 1), 0},
		{"another sequence number", at(7, 1), 0},
		{"another lap of sequence numbers", at(7, paddedPending), 0},
		{"another nonce", at(headerLen, 1), 0},
		{"changed padding", at(500, 1), 0},
		{"one byte less", change(func(b []byte) []byte { return b[:len(b)-1] }), 0},
		{"one byte more", change(func(b []byte) []byte { return append(b, 0) }), 0},
		{"cut to the nonce", change(func(b []byte) []byte { return b[:messageLen] }), 0},
		{"cut to the header", change(func(b []byte) []byte { return b[:headerLen] }), 0},
		{"nothing", change(func([]byte) []byte { return nil }), 0},
		{"from somebody else", func(r received) []received { r.from = near; return []received{r} }, 0},
		{"after an error", func(r received) []received { return []received{{err: errors.New("no buffer")}, r} }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answer := func(f *fakeConn, _ int, message []byte) error {
					for _, r := range c.answer(replyTo(message)) {
						f.in <- r
					}
					return nil
				}
				sizes := padded(t, answer, func(p *Padded, _ *fakeConn) {
					if err := p.Send(1400); err != nil {
						t.Error(err)
					}
				})
				if len(sizes) != c.want || c.want == 1 && sizes[0] != 1400 {
					t.Errorf("%d were answered", sizes)
				}
			})
		})
	}
}

// TestPaddedForgets: only the last requests can be answered.
func TestPaddedForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := func(*fakeConn, int, []byte) error { return nil }
		sizes := padded(t, silent, func(p *Padded, c *fakeConn) {
			for i := range paddedPending + 1 {
				if err := p.Send(encap.TunMTU(1280 + i)); err != nil {
					t.Error(err)
				}
			}
			c.in <- replyTo(c.requests[0])
			c.in <- replyTo(c.requests[1])
			c.in <- replyTo(c.requests[paddedPending])
		})
		if len(sizes) != 2 || sizes[0] != 1281 || sizes[1] != 1280+paddedPending {
			t.Errorf("%d were answered", sizes)
		}
	})
}

func TestPaddedSendFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("message too long")
		padded(t, func(*fakeConn, int, []byte) error { return refused }, func(p *Padded, _ *fakeConn) {
			if err := p.Send(1400); !errors.Is(err, refused) || err.Error() != "keepalive: probe of 1400 bytes: message too long" {
				t.Error(err)
			}
		})
	})
}

func TestNewPaddedChecks(t *testing.T) {
	answered := func(encap.TunMTU) {}
	for name, cfg := range map[string]PaddedConfig{
		"nobody to tell": {Interface: "six0", Source: near, To: far},
		"no interface":   {Source: near, To: far, Answered: answered},
		"no target":      {Interface: "six0", Source: near, Answered: answered},
	} {
		if p, err := NewPadded(cfg); err == nil || p != nil {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	p, err := NewPadded(PaddedConfig{Interface: "six0", Source: near, To: far, Answered: answered})
	if err != nil {
		t.Fatal(err)
	}
	p.open = func(int) (conn, error) { return nil, errNoSocket }
	if err := p.Run(t.Context()); !errors.Is(err, errNoSocket) {
		t.Errorf("run: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(ended); err != nil {
		t.Errorf("run that has ended before: %v", err)
	}
}
