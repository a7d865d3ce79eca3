package tsptest

import (
	"bytes"
	"context"
	"io"
	"slices"
	"time"

	"sixin4/tsp"
)

// Fault is one way to misbehave in an answer. The zero value is none.
type Fault struct {
	// Name says what is wrong.
	Name string

	// Steps are those at which it makes sense; nil for all.
	Steps []Step

	// Network is tcp or udp when it makes sense there only; it is done there only.
	Network string

	// Outcome is what becomes of a client that does it right.
	Outcome Outcome

	delay      time.Duration
	join       bool // with the answers that follow in a row
	reverse    bool // and those first
	unanswered bool // no datagram that goes out is an answer

	// text changes what is said, stream how it is written, packets what is sent in its
	// place; each may be nil.
	text    func(s Step, text []byte) []byte
	stream  func(ctx context.Context, w io.Writer, text []byte) error
	packets func(h tsp.Header, text []byte) [][]byte
}

// Outcome is what a fault does to a client.
type Outcome uint8

// The outcomes. Which one is Open may depend on the step: a good client takes the
// tunnel or has an error, but never waits longer than it wants to.
const (
	Open  Outcome = iota
	Works         // it must not mind
	Fails         // it must not set up a tunnel in this session
)

// Fits reports whether the fault makes sense at a step over a network.
func (f Fault) Fits(s Step, network string) bool {
	if f.Network != "" && f.Network != network {
		return false
	}
	return f.Steps == nil || slices.Contains(f.Steps, s)
}

// At makes the fault that is done at some steps out of it.
func (f Fault) At(steps ...Step) map[Step]Fault {
	all := make(map[Step]Fault)
	for _, s := range steps {
		all[s] = f
	}
	return all
}

// Expect is the outcome at a step. Behind accept a client reads no more from a
// stream, and takes no text of a datagram seriously, so nearly all is open there.
func (f Fault) Expect(s Step, network string) Outcome {
	if s == Accept && f.Outcome == Fails && (network == "tcp" || !f.unanswered) {
		return Open
	}
	return f.Outcome
}

// joined is what an answer says together with those that follow in a row.
func (f Fault) joined(text []byte, rest []answer) []byte {
	if !f.join {
		return text
	}
	all := [][]byte{text}
	for _, a := range rest {
		all = append(all, a.text)
	}
	if f.reverse {
		slices.Reverse(all)
	}
	return bytes.Join(all, nil)
}

// write sends an answer over a stream; rest are those that follow in a row, which go
// out as well when the fault joins them.
func (f Fault) write(ctx context.Context, w io.Writer, a answer, rest []answer) error {
	text := f.joined(a.text, rest)
	if f.text != nil {
		text = f.text(a.step, text)
	}
	if err := pause(ctx, f.delay); err != nil {
		return err
	}
	if f.stream != nil {
		return f.stream(ctx, w, text)
	}
	_, err := w.Write(text)
	return err
}

// datagrams are what goes out for an answer.
func (f Fault) datagrams(s Step, h tsp.Header, text []byte, rest []answer) [][]byte {
	text = f.joined(text, rest)
	if f.text != nil {
		text = f.text(s, text)
	}
	if f.packets != nil {
		return f.packets(h, text)
	}
	return [][]byte{h.Datagram(text[:min(len(text), maxDatagram-tsp.HeaderLen)])}
}
