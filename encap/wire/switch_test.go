package wire

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"sixin4/encap/packet"
	"sixin4/tun/nstest"
)

func TestSwitchPassesPackets(t *testing.T) {
	one, two := newFakeLink(), newFakeLink()
	s := switchOn(t, one)
	r, w := s.Reader(), writerOf(t, s)
	for _, l := range []*fakeLink{one, two} {
		set(t, s, l) // the first one is there already
		l.in.Push([]byte("in"))
		wantRead(t, r, "in")
		if n, err := w.Write(batchOfText("a", "b")); n != 2 || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
		wantWritten(t, l, "a", "b")
	}
	if one.closed.Load() != 1 || two.closed.Load() != 0 {
		t.Errorf("links were closed %d and %d times, want 1 and 0", one.closed.Load(), two.closed.Load())
	}
}

// TestSwitchReadWaits: a Read that waits goes on with the next link, and without a
// link until there is one.
func TestSwitchReadWaits(t *testing.T) {
	tests := []struct {
		name string
		sets string // before the last one: l for a link, - for none
	}{
		{"for a packet of the link before", "l"},
		{"for the first link", ""},
		{"while the link is taken away", "l-"},
		{"while links come and go", "l--ll-"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { readWaits(t, tt.sets) })
		})
	}
}

func readWaits(t *testing.T, sets string) {
	s := NewSwitch()
	var got []string
	var err error
	done := false
	go func() {
		got, err = reads(s.Reader())
		done = true
	}()
	for _, kind := range sets {
		synctest.Wait()
		if kind == 'l' {
			set(t, s, newFakeLink())
		} else {
			set(t, s, nil)
		}
	}
	synctest.Wait()
	if done {
		t.Fatalf("read returned %q, %v before there was anything", got, err)
	}
	last := newFakeLink()
	set(t, s, last)
	last.in.Push([]byte("in"))
	synctest.Wait()
	if !done || err != nil || len(got) != 1 || got[0] != "in" {
		t.Errorf("read returned %t: %q, %v", done, got, err)
	}
}

// TestSwitchReadRaces: the link is replaced after Read has looked for it.
func TestSwitchReadRaces(t *testing.T) {
	odd := errors.New("bad file descriptor")
	for name, told := range map[string]error{"closed": os.ErrClosed, "an error of its own": odd} {
		t.Run(name, func(t *testing.T) {
			old, next := newFakeLink(), newFakeLink()
			s := switchOn(t, old)
			next.in.Push([]byte("new"))
			old.onRead = func() { set(t, s, next) }
			old.readErr = func(error) error { return told }
			wantRead(t, s.Reader(), "new")
		})
	}
	t.Run("packets come all the same", func(t *testing.T) {
		old, next := newFakeLink(), newFakeLink()
		s := switchOn(t, old)
		next.in.Push([]byte("new"))
		old.in.Push([]byte("old"))
		old.readErr = func(err error) error { set(t, s, next); return err }
		wantRead(t, s.Reader(), "old")
		wantRead(t, s.Reader(), "new")
	})
}

// TestSwitchReadErrors: what the present link says is true.
func TestSwitchReadErrors(t *testing.T) {
	broken := errors.New("broken")
	l := newFakeLink()
	l.in.Push([]byte("in"))
	l.readErr = func(error) error { return broken }
	if _, err := reads(switchOn(t, l).Reader()); err != broken {
		t.Errorf("read returned %v, want %v", err, broken)
	}
	closed := newFakeLink()
	s := switchOn(t, closed)
	closed.Close() // behind the switch's back
	if _, err := reads(s.Reader()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read returned %v, want %v", err, os.ErrClosed)
	}
}

func TestSwitchWriteWithoutLink(t *testing.T) {
	s := NewSwitch()
	w := writerOf(t, s)
	wantRefused(t, w, syscall.ENETUNREACH)
	l := newFakeLink()
	set(t, s, l)
	if n, err := w.Write(batchOfText("a")); n != 1 || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	wantWritten(t, l, "a")
	set(t, s, nil)
	wantRefused(t, w, syscall.ENETUNREACH)
	if l.closed.Load() != 1 {
		t.Errorf("the link was closed %d times", l.closed.Load())
	}
}

// TestSwitchWriterFails: a link that gives no writer is asked for one once.
func TestSwitchWriterFails(t *testing.T) {
	bad := newFakeLink()
	bad.newErr = syscall.EMFILE
	s := switchOn(t, newFakeLink())
	w := writerOf(t, s)
	set(t, s, bad)
	for range 3 {
		wantRefused(t, w, syscall.ENETUNREACH)
	}
	_, err := w.Write(batchOfText("a"))
	if want := "network is unreachable: new writer: too many open files"; err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if errno, _ := errors.AsType[syscall.Errno](err); errno != syscall.ENETUNREACH {
		t.Errorf("the engine takes it for %v", errno)
	}
	if n := bad.made.Load(); n != 1 {
		t.Errorf("the link was asked %d times", n)
	}
	if _, err := s.NewWriter(); err != syscall.EMFILE {
		t.Errorf("a new writer: %v, want %v", err, syscall.EMFILE)
	}
	good := newFakeLink()
	set(t, s, good)
	if n, err := w.Write(batchOfText("a")); n != 1 || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	wantWritten(t, good, "a")
}

// TestSwitchWriteRaces: the link is replaced after Write has looked for it.
func TestSwitchWriteRaces(t *testing.T) {
	t.Run("before its packets are taken", func(t *testing.T) {
		old, next := newFakeLink(), newFakeLink()
		s := switchOn(t, old)
		w := writerOf(t, s)
		old.onWrite = func() { set(t, s, next) }
		b := batchOfText("a", "b")
		if n, err := w.Write(b); n != 2 || err != nil || b.Packets[0].Err != nil || b.Packets[1].Err != nil {
			t.Errorf("wrote %d, %v; packets %v, %v", n, err, b.Packets[0].Err, b.Packets[1].Err)
		}
		wantWritten(t, next, "a", "b")
	})
	t.Run("before its writer is made", func(t *testing.T) {
		old, next := newFakeLink(), newFakeLink()
		s := NewSwitch()
		w := writerOf(t, s)
		set(t, s, old)
		old.onNew, old.newErr = func() { set(t, s, next) }, os.ErrClosed
		if n, err := w.Write(batchOfText("a")); n != 1 || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
		wantWritten(t, next, "a")
	})
	t.Run("by none", func(t *testing.T) {
		old := newFakeLink()
		s := switchOn(t, old)
		w := writerOf(t, s)
		old.onWrite = func() { set(t, s, nil) }
		wantRefused(t, w, syscall.ENETUNREACH)
	})
	t.Run("by the end", func(t *testing.T) {
		old := newFakeLink()
		s := switchOn(t, old)
		w := writerOf(t, s)
		old.onWrite = func() { s.Close() }
		wantRefused(t, w, os.ErrClosed)
	})
	t.Run("when one packet is bad", func(t *testing.T) {
		l := newFakeLink()
		l.out.Fail = func(b []byte) error {
			if bytes.Equal(b, []byte("a")) {
				return syscall.EMSGSIZE
			}
			return nil
		}
		b := batchOfText("a", "b")
		n, err := writerOf(t, switchOn(t, l)).Write(b)
		if n != 1 || err != syscall.EMSGSIZE || b.Packets[0].Err != syscall.EMSGSIZE || b.Packets[1].Err != nil {
			t.Errorf("wrote %d, %v; packets %v, %v", n, err, b.Packets[0].Err, b.Packets[1].Err)
		}
	})
}

func TestSwitchClose(t *testing.T) {
	for name, with := range map[string]bool{"with a link": true, "without a link": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { closes(t, with) })
		})
	}
}

func closes(t *testing.T, with bool) {
	s, l := NewSwitch(), newFakeLink()
	w := writerOf(t, s)
	if with {
		set(t, s, l)
	}
	var read error
	go func() { _, read = reads(s.Reader()) }()
	synctest.Wait() // it waits now
	for range 2 {
		if err := s.Reader().Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	synctest.Wait()
	if !errors.Is(read, os.ErrClosed) {
		t.Errorf("read returned %v", read)
	}
	wantRefused(t, w, os.ErrClosed)
	if _, err := s.NewWriter(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("new writer: %v", err)
	}
	if with && l.closed.Load() != 1 {
		t.Errorf("the link was closed %d times", l.closed.Load())
	}
	late := newFakeLink()
	if err := s.Set(late); !errors.Is(err, os.ErrClosed) || late.closed.Load() != 1 {
		t.Errorf("set after close: %v, link closed %d times", err, late.closed.Load())
	}
	if err := s.Set(nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("set to none after close: %v", err)
	}
}

// TestSwitchCloseErrors: a link that does not close well is replaced all the same.
func TestSwitchCloseErrors(t *testing.T) {
	stuck := errors.New("stuck")
	bad, next := newFakeLink(), newFakeLink()
	bad.closeErr, next.closeErr = stuck, stuck
	s := NewSwitch()
	set(t, s, bad)
	if err := s.Set(next); !errors.Is(err, stuck) || err.Error() != "close link: stuck" {
		t.Errorf("set: %v", err)
	}
	next.in.Push([]byte("in"))
	wantRead(t, s.Reader(), "in")
	if err := s.Close(); !errors.Is(err, stuck) {
		t.Errorf("close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
}

func TestSwitchStats(t *testing.T) {
	s := NewSwitch()
	for i := range uint64(3) {
		l := newFakeLink()
		l.stats = Stats{Overflow: i + 1, Merged: 10 * (i + 1), LongerMTU: 100 * (i + 1), Reassembled: 1000 * (i + 1)}
		set(t, s, l)
	}
	want := Stats{Overflow: 6, Merged: 60, LongerMTU: 600, Reassembled: 6000}
	check := func(when string) {
		t.Helper()
		if got := s.Stats(); got != want {
			t.Errorf("%s: %+v, want %+v", when, got, want)
		}
	}
	check("with three links")
	set(t, s, nil)
	check("without a link")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check("closed")
}

// TestSwitchUnderLoad: every packet that a writer was told is written has reached
// one link, and every packet that a link was given is read, however often the link
// changes.
func TestSwitchUnderLoad(t *testing.T) {
	const writers, changes = 2, 40
	s := NewSwitch()
	var writing, reading sync.WaitGroup
	var written, read atomic.Int64
	stop := make(chan struct{})
	for range writers {
		w := writerOf(t, s)
		writing.Go(func() {
			b := batchOfText("a", "b")
			for {
				select {
				case <-stop:
					return
				default:
				}
				for i := range b.Packets {
					b.Packets[i].Err = nil
				}
				n, err := w.Write(b)
				if errors.Is(err, os.ErrClosed) || err != nil && !errors.Is(err, syscall.ENETUNREACH) {
					t.Errorf("write: %v", err)
					return
				}
				written.Add(int64(n))
			}
		})
	}
	reading.Go(func() {
		b := packet.NewBatch(BatchSize)
		for {
			if err := s.Reader().Read(b); err != nil {
				if err != os.ErrClosed {
					t.Errorf("read: %v", err)
				}
				return
			}
			read.Add(int64(b.Len()))
		}
	})
	var links []*fakeLink
	for i := range changes {
		l := newFakeLink()
		links = append(links, l)
		set(t, s, l)
		l.in.Push([]byte("in"))
		nstest.Eventually(t, limit, "read", func() bool { return read.Load() > int64(i) })
		if i%4 == 0 {
			set(t, s, nil)
		}
	}
	close(stop)
	writing.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	reading.Wait()
	var reached int64
	for _, l := range links {
		reached += int64(len(l.out.Drain()))
		if l.closed.Load() != 1 {
			t.Fatalf("a link was closed %d times", l.closed.Load())
		}
	}
	if reached != written.Load() {
		t.Errorf("%d packets were written, %d reached a link", written.Load(), reached)
	}
}
