package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"sixin4/tsp"
)

// The timers of a client, as package tsp has them: who never heard a broker gives up
// soon.
const (
	resend       = 2 * time.Second // doubled from the fourth time on
	sendsUnknown = 3
	sendsKnown   = 8
)

// firstWord is the header of a session's first message.
const firstWord = 0xf00000f0

// began is what timestamps count from.
var began = time.Now()

// timestamp is of the clock that all clients share, in milliseconds.
func timestamp() uint32 { return uint32(time.Since(began) / time.Millisecond) }

// flow is the session of one client over UDP. It implements tsp.Transport, for one
// goroutine.
type flow struct {
	over    datagrams
	port    uint32 // index of over
	from    netip.Addr
	next    uint32
	heard   bool
	answers chan answer
	resent  *atomic.Int64
}

// answer is a datagram that came, without its header.
type answer struct {
	word uint32
	text []byte
}

// newFlow is a new session of a client, on another port than the one before.
func (c *Crowd) newFlow(client int) *flow {
	s := &c.slots[client]
	i := s.turns.Add(1) % uint32(len(c.ports))
	f := &flow{over: c.ports[i], port: i, from: c.Addr(client), next: firstWord, answers: make(chan answer, 4), resent: &c.Resent}
	s.flow.Store(f)
	return f
}

// receiveDatagrams gives what comes on a port to the sessions, until it is closed.
func (c *Crowd) receiveDatagrams(port uint32, p datagrams) {
	buf := make([]byte, 1<<16)
	for {
		n, to, err := p.receive(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || !to.Is4() {
			continue // such as a port unreachable: the broker starts again
		}
		h, text, err := tsp.ParseHeader(buf[:n])
		s := c.at(number(to))
		if err != nil || s == nil {
			continue
		}
		if f := s.flow.Load(); f != nil && f.port == port {
			select {
			case f.answers <- answer{h.Word, append([]byte(nil), text...)}:
			default: // of a flood of answers nobody wants more
			}
		}
	}
}

// Call implements tsp.Transport.
func (f *flow) Call(ctx context.Context, text []byte) (tsp.Message, error) {
	b, err := f.exchange(ctx, text)
	if err != nil {
		return tsp.Message{}, err
	}
	return tsp.ParseAnswer(b)
}

// Tell implements tsp.Transport.
func (f *flow) Tell(ctx context.Context, text []byte) error {
	b, err := f.exchange(ctx, text)
	if err != nil || len(b) == 0 {
		return err
	}
	m, err := tsp.ParseAnswer(b)
	if err != nil {
		return err
	}
	return m.Err()
}

// exchange sends a message until it is answered.
func (f *flow) exchange(ctx context.Context, text []byte) ([]byte, error) {
	word, sends := f.next, sendsUnknown
	f.next++
	if f.heard {
		sends = sendsKnown
	}
	timer := time.NewTimer(resend)
	defer timer.Stop()
	for i := range sends {
		if i > 0 {
			f.resent.Add(1)
			timer.Reset(resend << max(0, i-2))
		}
		_ = f.over.send(f.from, tsp.Header{Word: word, Timestamp: timestamp()}.Datagram(text)) // lost is lost
		if b, err := f.await(ctx, word, timer); !errors.Is(err, tsp.ErrNoAnswer) {
			return b, err
		}
	}
	return nil, fmt.Errorf("%w to %d datagrams", tsp.ErrNoAnswer, sends)
}

// await waits for the answer to one message.
func (f *flow) await(ctx context.Context, word uint32, timer *time.Timer) ([]byte, error) {
	for {
		select {
		case a := <-f.answers:
			if a.word != word {
				continue
			}
			f.heard = true
			return a.text, nil
		case <-timer.C:
			return nil, tsp.ErrNoAnswer
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
