package keepalive

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
)

// ICMPv6 echo (RFC 4443, Sections 4.1 and 4.2): type, code, checksum, identifier,
// sequence number, data.
const (
	typeRequest = 128
	typeReply   = 129
	headerLen   = 8
	nonceLen    = 16
	messageLen  = headerLen + nonceLen
)

// conn is the way to the far end. It is a socket, but for tests.
type conn interface {
	// send sends an ICMPv6 message to Config.To. Its checksum is left to it.
	send(message []byte) error
	// receive waits for an ICMPv6 message and puts it into b, cut off where b ends.
	// It returns os.ErrDeadlineExceeded from deadline on, and another error after
	// close.
	receive(b []byte, deadline time.Time) (n int, from netip.Addr, err error)
	// close ends a receive that waits. It is idempotent.
	close() error
}

// request is an echo request under way.
type request struct {
	seq   uint16
	nonce [nonceLen]byte
	sent  time.Time
}

// probe is what a Run knows. It belongs to the goroutine of Run.
//
//	           answered: wait for the rest of Interval
//	        ┌───────────────────────────────────────────┐
//	        v                                           │
//	──> send a request ──> wait for an answer, at most Timeout
//	        ^                                           │
//	        └───────────────────────────────────────────┤ not answered
//	                                                    v
//	                                        ErrDead, when it was the last one
type probe struct {
	p       *Prober
	conn    conn
	id, seq uint16    // of the next request
	pending []request // since the last one that was answered, oldest first
	lost    int       // requests lost since the last answer
	buf     [messageLen + 1]byte

	answered bool // there was an answer, ever
}

// newID makes the identifier of the requests of a Run.
func newID() uint16 {
	var id [2]byte
	_, _ = rand.Read(id[:]) // never fails
	return binary.BigEndian.Uint16(id[:])
}

func newProbe(p *Prober, c conn, id uint16) *probe { return &probe{p: p, conn: c, id: id} }

func (q *probe) run(ctx context.Context) error {
	for ctx.Err() == nil {
		sent := q.request()
		for len(q.pending) > 0 && q.receive(ctx, sent.Add(q.p.cfg.Timeout)) {
		}
		if q.answered && q.p.cfg.Once {
			return nil
		}
		if len(q.pending) == 0 {
			// Others' answers are taken out of the socket's queue meanwhile, so
			// that there is room for ours.
			for q.receive(ctx, sent.Add(q.p.cfg.Interval)) {
			}
			continue
		}
		if ctx.Err() == nil && q.lose() {
			return fmt.Errorf("keepalive: %w: %d echo requests to %v in a row were lost", ErrDead, q.lost, q.p.cfg.To)
		}
	}
	return nil
}

// request sends the next request and returns when.
func (q *probe) request() time.Time {
	r := request{seq: q.seq, sent: time.Now()}
	_, _ = rand.Read(r.nonce[:]) // never fails
	q.seq++
	q.pending = append(q.pending, r)
	if len(q.pending) > q.p.cfg.Losses { // with a far end that is always late
		q.pending = q.pending[1:]
	}
	q.p.countSent()
	if err := q.conn.send(appendMessage(nil, typeRequest, q.id, r.seq, r.nonce[:])); err != nil {
		q.p.log.Debug("an echo request could not be sent", "to", q.p.cfg.To, "err", err)
	}
	return r.sent
}

// appendMessage appends an echo message without its checksum.
func appendMessage(b []byte, kind byte, id, seq uint16, data []byte) []byte {
	b = append(b, kind, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, seq)
	return append(b, data...)
}

// pause is what a receive that fails costs, so that one that fails for ever does
// not keep a processor busy.
const pause = 100 * time.Millisecond

// receive takes one message, whatever it is. It reports false when there is none
// until the deadline or when ctx has ended.
func (q *probe) receive(ctx context.Context, deadline time.Time) bool {
	n, from, err := q.conn.receive(q.buf[:], deadline)
	switch {
	case ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded):
		return false
	case err != nil:
		q.p.log.Debug("receiving an echo reply failed", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(min(pause, time.Until(deadline))):
		}
		return time.Now().Before(deadline)
	}
	q.accept(q.buf[:n], from)
	return true
}

// accept looks whether a message answers a request under way, and if so forgets
// that one and those before it.
func (q *probe) accept(message []byte, from netip.Addr) {
	// Section 4.2: the data of the request comes back entirely and unmodified.
	if from.WithZone("") != q.p.cfg.To.WithZone("") || len(message) != messageLen ||
		message[0] != typeReply || message[1] != 0 || binary.BigEndian.Uint16(message[4:]) != q.id {
		return
	}
	seq, nonce := binary.BigEndian.Uint16(message[6:]), [nonceLen]byte(message[headerLen:])
	for i, r := range q.pending {
		if r.seq != seq || r.nonce != nonce {
			continue
		}
		q.answered = true
		now := time.Now()
		q.p.countAnswer(now, now.Sub(r.sent))
		q.pending = append(q.pending[:0], q.pending[i+1:]...)
		if q.lost > 0 {
			q.p.log.Info("the far end answers again", "to", q.p.cfg.To, "lost", q.lost)
		}
		q.lost = 0
		return
	}
}

// lose counts a lost request. It reports whether that is one too many.
func (q *probe) lose() (dead bool) {
	q.lost++
	if q.lost == 1 && q.p.cfg.Losses > 1 {
		q.p.log.Info("the far end did not answer in time, asking again", "to", q.p.cfg.To, "timeout", q.p.cfg.Timeout)
	}
	return q.lost >= q.p.cfg.Losses
}
