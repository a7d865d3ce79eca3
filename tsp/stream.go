package tsp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

const (
	// MaxMessage bounds a command or an answer in bytes, its header line not
	// counted. What clients and brokers really send stays below 4096; 50 brokers
	// with the longest of names fit.
	MaxMessage = 16 << 10
	// MaxLine bounds a line in bytes, its end counted.
	MaxLine = 4096
	// maxZeros bounds the zero bytes in front of a line; one or two were seen.
	maxZeros = 16
)

// Message is what either side says at a time.
type Message struct {
	Line   []byte // the first line without its end: VERSION, a status, base64; nil before a command
	XML    []byte // what follows: a tunnel element; nil when nothing does
	Framed bool   // Content-length stands in front
}

// Bytes is the message as it goes on the wire.
func (m Message) Bytes() []byte {
	var b []byte
	if m.Line != nil {
		b = append(append(b, m.Line...), "\r\n"...)
	}
	b = append(b, m.XML...)
	if !m.Framed {
		return b
	}
	return append(fmt.Appendf(nil, "Content-length: %d\r\n", len(b)), b...)
}

// Code is the number of a status line, 0 when the line is not one.
func (m Message) Code() Code {
	code, _, ok := parseStatus(m.Line)
	if !ok {
		return 0
	}
	return code
}

// Err is nil when the line is no status line or says [Success]. Otherwise it is an
// [Error], with the list of brokers that a redirection came with.
func (m Message) Err() error {
	code, text, ok := parseStatus(m.Line)
	if !ok || code == Success {
		return nil
	}
	e := &Error{Code: code, Text: text}
	if code.Redirects() {
		e.Brokers, e.cause = ParseBrokers(m.XML)
	}
	return e
}

// ParseMessage reads the text of one datagram that a client sent. An empty text,
// which asks for an answer that is due, is an empty Message.
func ParseMessage(text []byte) (Message, error) { return parseText(text, false) }

// ParseAnswer reads the text of one datagram that a broker sent.
func ParseAnswer(text []byte) (Message, error) { return parseText(text, true) }

func parseText(text []byte, answer bool) (Message, error) {
	m, err := newReader(bytes.NewReader(text)).message(answer)
	if errors.Is(err, io.EOF) {
		return Message{}, nil
	}
	return m, err
}

// reader takes messages off a stream.
type reader struct{ *bufio.Reader }

func newReader(r io.Reader) reader { return reader{bufio.NewReaderSize(r, MaxLine)} }

// message reads the next message. Only an answer may be a redirection without
// Content-length: a line of a client that looks like one is a user's name.
func (r reader) message(answer bool) (Message, error) {
	line, err := r.line()
	if err != nil {
		return Message{}, err
	}
	n, framed, err := contentLength(line)
	if err != nil {
		return Message{}, err
	}
	if framed {
		return r.framed(n)
	}
	m := Message{Line: line}
	if answer && m.Code().Redirects() {
		m.XML, err = r.list()
	}
	return m, err
}

// line reads a line without its end. Zero bytes in front are skipped: clients end
// their AUTHENTICATE line like a C string, and on a stream that zero comes before
// the next line. At the end of the input a line needs no end. What stands behind a
// CR is dropped: one client puts a backspace there in place of the LF.
func (r reader) line() ([]byte, error) {
	if err := r.skipZeros(); err != nil {
		return nil, err
	}
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("%w: a line of more than %d bytes", ErrMalformed, MaxLine)
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	}
	line, _, _ = bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	return append(make([]byte, 0, len(line)), line...), nil
}

func (r reader) skipZeros() error {
	for range maxZeros {
		c, err := r.ReadByte()
		if err != nil {
			return err
		}
		if c != 0 {
			return r.UnreadByte()
		}
	}
	return fmt.Errorf("%w: more than %d zero bytes", ErrMalformed, maxZeros)
}

// contentLength reads the number of a Content-length line; ok is false for any
// other line. Nothing is allocated for a number before it is known to be small.
func contentLength(line []byte) (n int, ok bool, err error) {
	key, value, found := strings.Cut(string(line), ":")
	if !found || !strings.EqualFold(key, "Content-length") {
		return 0, false, nil
	}
	u, err := strconv.ParseUint(strings.Trim(value, " \t"), 10, 64)
	if err != nil || u == 0 || u > MaxMessage {
		return 0, true, fmt.Errorf("%w: Content-length %q is not 1 to %d", ErrMalformed, clip(value), MaxMessage)
	}
	return int(u), true, nil
}

func (r reader) framed(n int) (Message, error) {
	body := make([]byte, n)
	if got, err := io.ReadFull(r, body); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return Message{}, &shortError{got: got, want: n}
	} else if err != nil {
		return Message{}, err
	}
	return splitBody(body), nil
}

// shortError says that the input ended within a framed message.
type shortError struct{ got, want int }

func (e *shortError) Error() string {
	return fmt.Sprintf("%d of %d bytes of a message", e.got, e.want)
}

func (e *shortError) Unwrap() error { return io.ErrUnexpectedEOF }

// splitBody tells a command, which is XML only, from an answer, which has a status
// line in front.
func splitBody(body []byte) Message {
	if rest := bytes.TrimLeft(body, "\x00 \t\r\n"); len(rest) > 0 && rest[0] == '<' {
		return Message{XML: rest, Framed: true}
	}
	line, rest, _ := bytes.Cut(body, []byte("\n"))
	line, _, _ = bytes.Cut(line, []byte("\r"))
	if len(bytes.Trim(rest, "\x00 \t\r\n")) == 0 {
		rest = nil
	}
	return Message{Line: line, XML: rest, Framed: true}
}

// list reads the broker list behind a status line that has no Content-length: up to
// the end of its element, for nothing else says where it ends.
func (r reader) list() ([]byte, error) {
	var list []byte
	for len(list) < MaxMessage {
		c, err := r.ReadByte()
		if errors.Is(err, io.EOF) && len(list) == 0 {
			return nil, nil // a redirection to nowhere: Message.Err says so
		}
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("broker list: %w", io.ErrUnexpectedEOF)
		}
		if err != nil {
			return nil, err
		}
		if len(list) == 0 && c != '<' {
			if bytes.IndexByte([]byte("\x00 \t\r\n"), c) < 0 {
				return nil, r.UnreadByte()
			}
			continue
		}
		if list = append(list, c); c == '>' && bytes.HasSuffix(list, []byte("</tunnel>")) {
			return list, nil
		}
	}
	return nil, fmt.Errorf("%w: a broker list of more than %d bytes", ErrMalformed, MaxMessage)
}

// Stream is a session over a byte stream, in practice TCP, for either side. It is
// for one goroutine.
type Stream struct {
	rw io.ReadWriter
	r  reader
}

// NewStream makes a Stream of rw. When rw has a SetDeadline method, as a net.Conn
// does, a context ends a call that is waiting, and deadlines of others do not outlive
// a call; otherwise a context ends only what has not begun.
func NewStream(rw io.ReadWriter) *Stream { return &Stream{rw: rw, r: newReader(rw)} }

// AnswerPause is what a broker waits between two answers in a row, as behind the last
// message of DIGEST-MD5. There are clients that read once for each answer, and hang
// when two arrive together; this much was seen to be enough for them.
const AnswerPause = 50 * time.Millisecond

// Send writes text in one piece: see [AnswerPause].
func (s *Stream) Send(ctx context.Context, text []byte) error {
	return s.during(ctx, "send", func() error {
		_, err := s.rw.Write(text)
		return err
	})
}

// Receive reads what a client says next. At the end of the stream between two
// messages the error is io.EOF, within one io.ErrUnexpectedEOF.
func (s *Stream) Receive(ctx context.Context) (m Message, err error) {
	err = s.during(ctx, "receive", func() error {
		m, err = s.r.message(false)
		return err
	})
	return m, err
}

// Call sends text, if there is any, and reads the broker's answer.
func (s *Stream) Call(ctx context.Context, text []byte) (m Message, err error) {
	if len(text) > 0 {
		if err := s.Send(ctx, text); err != nil {
			return Message{}, err
		}
	}
	err = s.during(ctx, "receive", func() error {
		if m, err = s.r.message(true); err == io.EOF { // the reader's own, not a wrapped one
			err = io.ErrUnexpectedEOF
		}
		return err
	})
	return m, err
}

// Tell sends what has no answer on a stream.
func (s *Stream) Tell(ctx context.Context, text []byte) error { return s.Send(ctx, text) }

// during runs f, which blocks, for as long as ctx allows.
func (s *Stream) during(ctx context.Context, op string, f func() error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
	if d, ok := s.rw.(interface{ SetDeadline(time.Time) error }); ok {
		defer watch(ctx, d.SetDeadline)()
	}
	err := f()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

// watch makes every deadline pass when ctx ends, until the function that it returns
// is called; that one takes the deadline away again.
func watch(ctx context.Context, setDeadline func(time.Time) error) (release func()) {
	fired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(fired)
		_ = setDeadline(time.Unix(1, 0)) // fails only on what is closed
	})
	return func() {
		if !stop() {
			<-fired
		}
		_ = setDeadline(time.Time{})
	}
}
