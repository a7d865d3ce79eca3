package wire

import (
	"errors"
	"sync/atomic"
	"testing"

	"sixin4/encap/packet"
	"sixin4/encap/packettest"
)

var (
	_ Link = (*Conn)(nil)
	_ Link = (*Switch)(nil)
)

// fakeLink is a link in memory.
type fakeLink struct {
	in, out *packettest.Queue
	stats   Stats

	newErr   error  // of NewWriter
	closeErr error  // of Close
	onNew    func() // called by NewWriter first
	onRead   func() // called by each Read first
	onWrite  func() // called by each Write first
	readErr  func(err error) error

	made   atomic.Int32 // calls of NewWriter
	closed atomic.Int32 // calls of Close
}

func newFakeLink() *fakeLink {
	return &fakeLink{in: packettest.NewQueue(), out: packettest.NewQueue()}
}

func call(f func()) {
	if f != nil {
		f()
	}
}

func (l *fakeLink) Reader() Reader { return fakeReader{l} }
func (l *fakeLink) Stats() Stats   { return l.stats }

func (l *fakeLink) NewWriter() (Writer, error) {
	l.made.Add(1)
	call(l.onNew)
	if l.newErr != nil {
		return nil, l.newErr
	}
	return fakeWriter{l}, nil
}

func (l *fakeLink) Close() error {
	l.closed.Add(1)
	return errors.Join(l.in.Close(), l.out.Close(), l.closeErr)
}

type fakeReader struct{ *fakeLink }

func (r fakeReader) Read(b *packet.Batch) error {
	call(r.onRead)
	err := r.in.Read(b)
	if r.readErr != nil {
		err = r.readErr(err)
	}
	return err
}

type fakeWriter struct{ *fakeLink }

func (w fakeWriter) Write(b *packet.Batch) (int, error) {
	call(w.onWrite)
	return w.out.Write(b)
}

// switchOn returns a switch that is set to l.
func switchOn(t *testing.T, l Link) *Switch {
	t.Helper()
	s := NewSwitch()
	set(t, s, l)
	t.Cleanup(func() { s.Close() })
	return s
}

func set(t *testing.T, s *Switch, l Link) {
	t.Helper()
	if err := s.Set(l); err != nil {
		t.Fatalf("set: %v", err)
	}
}

func writerOf(t *testing.T, l Link) Writer {
	t.Helper()
	w, err := l.NewWriter()
	if err != nil {
		t.Fatalf("new writer: %v", err)
	}
	return w
}

func batchOfText(packets ...string) *packet.Batch {
	b := packet.NewBatch(len(packets))
	for _, text := range packets {
		b.Next().Set(append(make([]byte, packet.Headroom), text...), packet.Headroom, nil)
	}
	return b
}

// reads tells what one Read brings: the packets, or the error.
func reads(r Reader) (packets []string, err error) {
	b := packet.NewBatch(BatchSize)
	err = r.Read(b)
	for i := range b.Packets {
		packets = append(packets, string(b.Packets[i].AppendTo(nil)))
	}
	return packets, err
}

func wantRead(t *testing.T, r Reader, want string) {
	t.Helper()
	if got, err := reads(r); err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("read %q, %v; want %q", got, err, want)
	}
}

// wantWritten checks that exactly the given packets were written to l since the
// last time.
func wantWritten(t *testing.T, l *fakeLink, want ...string) {
	t.Helper()
	var got []string
	for _, e := range l.out.Drain() {
		got = append(got, string(e.Bytes))
	}
	if len(got) != len(want) {
		t.Fatalf("link has %q, want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("link has %q, want %q", got, want)
		}
	}
}

// wantRefused checks that a Write fails with want as a whole.
func wantRefused(t *testing.T, w Writer, want error) {
	t.Helper()
	b := batchOfText("a", "b")
	n, err := w.Write(b)
	if n != 0 || !errors.Is(err, want) {
		t.Errorf("wrote %d, %v; want 0, %v", n, err, want)
	}
	for i := range b.Packets {
		if !errors.Is(b.Packets[i].Err, want) {
			t.Errorf("packet %d: %v, want %v", i, b.Packets[i].Err, want)
		}
	}
}
