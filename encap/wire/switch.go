package wire

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"sixin4/encap/packet"
)

// Link is one way to the far ends: a Conn, or another kind of wire.
type Link interface {
	// Reader returns the reader of the link, the same one each time.
	Reader() Reader
	// NewWriter returns a new writer, which is closed with the link.
	NewWriter() (Writer, error)
	// Stats returns the counters. They stay what they are after Close.
	Stats() Stats
	// Close closes the link with its reader and writers: a Read that waits returns
	// os.ErrClosed, packets being written are finished. It is idempotent.
	Close() error
}

// Switch is a Link whose own link can be replaced while readers and writers are in
// use, because the local address has changed for example. What a batch costs for
// that is one atomic load.
type Switch struct {
	current atomic.Pointer[position] // never nil

	mu   sync.Mutex // held while the link is replaced, never on the way of a packet
	past Stats      // of the links there were
}

// position is what a Switch stands at from one Set to the next. It is immutable.
type position struct {
	link   Link          // nil: none
	reader Reader        // of link
	left   chan struct{} // closed when there is another one
	closed bool          // the switch is closed: this is the last one
}

// NewSwitch returns a switch without a link.
func NewSwitch() *Switch {
	s := &Switch{}
	s.current.Store(&position{left: make(chan struct{})})
	return s
}

// Set puts l in the place of the present link, which it closes: packets being
// written to it are finished, and a Read that waits goes on with l. l may be nil;
// then nothing is received, and nothing can be sent, until the next Set. The link
// belongs to the switch from then on; to set the present one again does nothing.
//
// It returns os.ErrClosed after Close, and closes l. Another error is that of
// closing the link before: l has taken its place all the same.
//
// Two links with one local address both receive what comes in while both are open.
// To read nothing twice, Set(nil) before opening the second one.
func (s *Switch) Set(l Link) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.current.Load()
	switch {
	case old.closed:
		return errors.Join(os.ErrClosed, closeLink(l))
	case l != nil && l == old.link:
		return nil
	}
	next := &position{link: l, left: make(chan struct{})}
	if l != nil {
		next.reader = l.Reader()
	}
	return s.move(old, next)
}

// Close closes the present link, ends a Read that waits, and makes all later reads
// and writes return os.ErrClosed. It is idempotent.
func (s *Switch) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.current.Load()
	if old.closed {
		return nil
	}
	return s.move(old, &position{left: make(chan struct{}), closed: true})
}

// move goes on from old to next. The order matters: whoever finds the old link
// closed must see that there is another position. s.mu is held.
func (s *Switch) move(old, next *position) error {
	s.current.Store(next)
	close(old.left)
	if old.link == nil {
		return nil
	}
	err := closeLink(old.link)
	s.past = s.past.Plus(old.link.Stats()) // after Close: it counts no more
	return err
}

func closeLink(l Link) error {
	if l == nil {
		return nil
	}
	if err := l.Close(); err != nil {
		return fmt.Errorf("close link: %w", err)
	}
	return nil
}

// Stats returns the counters of all links there were, summed.
func (s *Switch) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := s.past
	if l := s.current.Load().link; l != nil {
		sum = sum.Plus(l.Stats())
	}
	return sum
}

// Plus is the sum of two.
func (a Stats) Plus(b Stats) Stats {
	a.Overflow += b.Overflow
	a.Merged += b.Merged
	a.LongerMTU += b.LongerMTU
	a.Reassembled += b.Reassembled
	return a
}

// Reader returns the switch's reader. Its Close closes the switch.
func (s *Switch) Reader() Reader { return switchReader{s} }

type switchReader struct{ s *Switch }

func (r switchReader) Close() error { return r.s.Close() }

// Read reads from the present link. An error of that is handed up; what a link
// returns that has been replaced meanwhile is no error.
func (r switchReader) Read(b *packet.Batch) error {
	for {
		at := r.s.current.Load()
		switch {
		case at.closed:
			b.Reset()
			return os.ErrClosed
		case at.link == nil:
			<-at.left
			continue
		}
		err := at.reader.Read(b)
		if err == nil || at == r.s.current.Load() {
			return err
		}
	}
}

// NewWriter returns a new writer. If there is a link it makes a writer of that one
// at once, and fails if that fails; a writer of each later link is made by the
// first Write after its Set, in the goroutine of that. It returns os.ErrClosed after
// Close.
func (s *Switch) NewWriter() (Writer, error) {
	w := &switchWriter{s: s}
	if err := w.follow(); err != nil {
		return nil, err
	}
	if w.at.closed {
		return nil, os.ErrClosed
	}
	return w, nil
}

// switchWriter has a writer of the link that it has seen last.
type switchWriter struct {
	s   *Switch
	at  *position
	to  Writer // of at.link; nil: there is none
	err error  // why there is none
}

// errNoLink is boxed once. The engine counts it as an unreachable far end.
var errNoLink error = syscall.ENETUNREACH

// Write writes to the present link. Without one, or when the link gives no writer,
// all packets get an error that wraps syscall.ENETUNREACH.
func (w *switchWriter) Write(b *packet.Batch) (n int, err error) {
	for {
		if w.at != w.s.current.Load() {
			_ = w.follow() // is in w.err
		}
		if w.to == nil {
			b.Fail(w.err)
			return 0, w.err
		}
		n, err = w.to.Write(b)
		if err == nil || n > 0 || !w.overtaken(err) {
			return n, err
		}
		for i := range b.Packets { // the closed link has taken none: they go to the next
			b.Packets[i].Err = nil
		}
	}
}

// overtaken reports whether err only says that the link was replaced.
func (w *switchWriter) overtaken(err error) bool {
	return errors.Is(err, os.ErrClosed) && w.at != w.s.current.Load()
}

// follow makes a writer of the present link, or notes in w.err why there is none.
// That stays so until the link changes: no batch tries again what failed for
// another. It returns the error of a link that gives no writer.
func (w *switchWriter) follow() error {
	for {
		w.at, w.to = w.s.current.Load(), nil
		switch {
		case w.at.closed:
			w.err = os.ErrClosed
			return nil
		case w.at.link == nil:
			w.err = errNoLink
			return nil
		}
		to, err := w.at.link.NewWriter()
		if err == nil {
			w.to = to
			return nil
		}
		if !w.overtaken(err) {
			w.err = fmt.Errorf("%w: new writer: %w", syscall.ENETUNREACH, err)
			return err
		}
	}
}
