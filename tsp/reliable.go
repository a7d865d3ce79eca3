package tsp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// ErrNoAnswer is the error when a broker was asked as often as it is worth. It comes
// with os.ErrDeadlineExceeded.
var ErrNoAnswer = errors.New("no answer")

// DatagramConn is a connection to one broker, in practice a connected UDP socket:
// each Read and each Write is one datagram.
type DatagramConn interface {
	io.ReadWriter
	SetReadDeadline(time.Time) error
}

// The retransmission timers, as the client with the widest use has them.
const (
	minRTO      = 2 * time.Second
	maxRTO      = 30 * time.Second
	firstRTTVar = 500 * time.Millisecond

	sendsUnknown = 3 // to a broker that never answered
	sendsKnown   = 8
	steadySends  = 3 // after these, every timeout doubles the RTO

	echoRTO   = 10 * time.Second
	echoSends = 3

	maxErrors = 16 // of the network, within one RTO

	maxRTT = 2 * time.Minute // a longer one is an echoed timestamp that was not ours
)

// rtt estimates how long to wait for an answer, as TCP does (RFC 6298, with a
// smoothed time that starts at zero).
type rtt struct {
	smoothed, variance time.Duration
}

func (r *rtt) sample(d time.Duration) {
	delta := d - r.smoothed
	r.smoothed += delta / 8
	r.variance += (max(delta, -delta) - r.variance) / 4
}

func (r *rtt) rto() time.Duration {
	return min(max(r.smoothed+4*r.variance, minRTO), maxRTO)
}

// schedule says how long to wait behind each send of one message.
type schedule struct {
	rto    time.Duration
	sends  int  // made so far
	limit  int  // then give up
	steady bool // never double
}

// timeout is called when the RTO has passed; again is false when it is time to give up.
func (s *schedule) timeout() (again bool) {
	if s.sends > steadySends && !s.steady {
		s.rto = min(2*s.rto, maxRTO)
	}
	return s.sends < s.limit
}

// Datagrams is a client's session over datagrams. Every message gets an answer, so it
// waits for the answer to one before it sends the next, and sends again when none
// comes: 3 times at intervals of 2 s to a broker that never answered, otherwise 8
// times, from the fourth on at doubled intervals of up to 30 s. A repeated message
// keeps its sequence number and has a new timestamp; the timestamp of the answer
// tells which of them was answered, and thereby the round trip time.
//
// Make a new one on a new source port for every attempt: there are brokers that keep
// what they know of an old one. It is for one goroutine, and for at most 16 messages.
type Datagrams struct {
	conn     DatagramConn
	data     func([]byte)
	next     uint32    // first word of the next message
	epoch    time.Time // timestamps are milliseconds since
	rtt      rtt
	answered bool
	sent     time.Time // the last send,
	stamp    uint32    // and the timestamp in it
	last     time.Duration
	buf      []byte
}

// DatagramConfig is how Datagrams behaves; the zero value will do.
type DatagramConfig struct {
	// Data gets the IPv6 packets of the tunnel that arrive while an answer is waited
	// for, valid until it returns. By default they are dropped.
	Data func(packet []byte)
}

// NewDatagrams makes a session over conn, which stays the caller's to close.
func NewDatagrams(conn DatagramConn, c DatagramConfig) *Datagrams {
	if c.Data == nil {
		c.Data = func([]byte) {}
	}
	return &Datagrams{
		conn: conn, data: c.Data, next: firstSequence,
		epoch: time.Now().Truncate(time.Second), // so that timestamps start below 1000, as seen
		rtt:   rtt{variance: firstRTTVar},
		buf:   make([]byte, HeaderLen+MaxMessage),
	}
}

// RTT is the round trip time of the last answer, 0 before the first.
func (d *Datagrams) RTT() time.Duration { return d.last }

// maxParts bounds the datagrams of one answer.
const maxParts = 8

// Call sends text, which may be empty, and returns the answer. A framed answer that
// is longer than its datagram is fetched with empty messages.
func (d *Datagrams) Call(ctx context.Context, text []byte) (Message, error) {
	var answer []byte
	for part := range maxParts {
		if part > 0 {
			text = nil
		}
		more, err := d.exchange(ctx, text, d.usual())
		if err != nil {
			return Message{}, err
		}
		answer = append(answer, more...)
		m, err := ParseAnswer(answer)
		var short *shortError
		if errors.As(err, &short) && len(more) > 0 {
			continue
		}
		if err != nil {
			return Message{}, fmt.Errorf("answer: %w", err)
		}
		if m.Line == nil && m.XML == nil {
			return Message{}, fmt.Errorf("answer: %w: it is empty", ErrMalformed)
		}
		return m, nil
	}
	return Message{}, fmt.Errorf("answer: %w: more than %d datagrams", ErrMalformed, maxParts)
}

// Tell sends what has no answer on a stream, and waits for the header that says it
// has arrived. Some brokers send text behind that, which is ignored, unless it is a
// status that refuses: that is the Error.
func (d *Datagrams) Tell(ctx context.Context, text []byte) error {
	answer, err := d.exchange(ctx, text, d.usual())
	if err != nil {
		return err
	}
	m, err := ParseAnswer(answer)
	if err != nil {
		return nil // no status, so nothing that matters
	}
	return m.Err()
}

// Echo measures the round trip time to a broker without a session: up to 3 requests,
// 10 s each. It is the only call on its Datagrams.
func (d *Datagrams) Echo(ctx context.Context) (time.Duration, error) {
	text, err := d.exchange(ctx, []byte(echoRequest), schedule{rto: echoRTO, limit: echoSends, steady: true})
	if err != nil {
		return 0, fmt.Errorf("echo: %w", err)
	}
	m, err := ParseAnswer(text)
	if err != nil {
		return 0, fmt.Errorf("echo: %w", err)
	}
	if m.Code() != Success {
		return 0, fmt.Errorf("echo: %w: %q", ErrMalformed, clip(string(m.Line)))
	}
	return d.last, nil
}

// usual is the schedule of everything but echo requests.
func (d *Datagrams) usual() schedule {
	if !d.answered {
		return schedule{rto: d.rtt.rto(), limit: sendsUnknown}
	}
	return schedule{rto: d.rtt.rto(), limit: sendsKnown}
}

// exchange sends text until it is answered and returns the text of the answer.
func (d *Datagrams) exchange(ctx context.Context, text []byte, s schedule) ([]byte, error) {
	if d.next == firstSequence+maxMessages {
		return nil, fmt.Errorf("send: more than %d messages in a session", maxMessages)
	}
	word := d.next
	d.next++
	defer watch(ctx, d.conn.SetReadDeadline)()
	for {
		s.sends++
		answer, err := d.once(ctx, word, text, s.rto)
		if err == nil {
			return answer, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("receive: %w", context.Cause(ctx))
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
		if !s.timeout() {
			return nil, fmt.Errorf("%w to %d datagrams: %w", ErrNoAnswer, s.sends, os.ErrDeadlineExceeded)
		}
	}
}

// once sends a message once and waits for its answer until the RTO has passed.
func (d *Datagrams) once(ctx context.Context, word uint32, text []byte, rto time.Duration) ([]byte, error) {
	d.sent, d.stamp = time.Now(), d.timestamp()
	h := Header{Word: word, Timestamp: d.stamp}
	if _, err := d.conn.Write(h.Datagram(text)); err != nil && d.ends(err) {
		return nil, fmt.Errorf("send: %w", err)
	}
	if err := d.conn.SetReadDeadline(time.Now().Add(rto)); err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	for errs := 0; ; {
		if ctx.Err() != nil { // after the deadline was set, so that watch cannot be undone
			return nil, context.Cause(ctx)
		}
		n, err := d.conn.Read(d.buf)
		if errors.Is(err, os.ErrDeadlineExceeded) || err != nil && (d.ends(err) || errs == maxErrors) {
			return nil, fmt.Errorf("receive: %w", err)
		}
		if err != nil {
			errs++
			continue
		}
		if answer, ok := d.take(word, d.buf[:n]); ok {
			return answer, nil
		}
	}
}

// ends reports whether an error of the connection ends the session. An error of the
// network, such as a port unreachable, does so for a broker that never answered: it
// may not speak UDP. Once it has, anybody can forge that, and the timers decide.
func (d *Datagrams) ends(err error) bool {
	var network *net.OpError
	return !d.answered || errors.Is(err, net.ErrClosed) || !errors.As(err, &network)
}

// take reports whether a datagram is the answer to the message with this first word.
func (d *Datagrams) take(word uint32, b []byte) ([]byte, bool) {
	if Classify(b) == Data {
		d.data(b)
		return nil, false
	}
	h, text, err := ParseHeader(b)
	if err != nil || h.Word != word {
		return nil, false
	}
	d.answered = true
	d.measure(h.Timestamp)
	return bytes.Clone(text), true
}

// measure learns from an answer to the send with this timestamp, most often the last
// one. A timestamp that cannot be ours teaches nothing.
func (d *Datagrams) measure(stamp uint32) {
	d.last = time.Since(d.sent)
	if stamp != d.stamp {
		took := time.Duration(d.timestamp()-stamp) * time.Millisecond
		if took > maxRTT {
			return
		}
		d.last = took
	}
	d.rtt.sample(d.last)
}

func (d *Datagrams) timestamp() uint32 { return uint32(time.Since(d.epoch) / time.Millisecond) }
