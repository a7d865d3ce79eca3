package gate

import (
	"errors"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func pipe(t *testing.T) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return p[0], p[1]
}

func TestWaitReturnsWhenReadable(t *testing.T) {
	g, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close(func() error { return nil })
	r, w := pipe(t)
	if !g.Enter() {
		t.Fatal("a new gate is closed")
	}
	defer g.Leave()
	if _, err := unix.Write(w, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(r); err != nil {
		t.Fatalf("wait: %v", err)
	}
}

func TestCloseWakesEveryWaiter(t *testing.T) {
	g, err := New()
	if err != nil {
		t.Fatal(err)
	}
	r, _ := pipe(t)
	var wg, inside sync.WaitGroup
	for range 4 {
		wg.Add(1)
		inside.Add(1)
		go func() {
			defer wg.Done()
			entered := g.Enter()
			inside.Done()
			if !entered {
				t.Error("closed too early")
				return
			}
			defer g.Leave()
			if err := g.Wait(r); !errors.Is(err, os.ErrClosed) {
				t.Errorf("wait returned %v, want os.ErrClosed", err)
			}
		}()
	}
	inside.Wait()
	released := 0
	for range 2 {
		if err := g.Close(func() error { released++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if released != 1 {
		t.Errorf("release ran %d times, want once", released)
	}
	if g.Enter() {
		t.Error("a closed gate was entered")
	}
}

func TestCloseReportsTheErrorOfRelease(t *testing.T) {
	g, err := New()
	if err != nil {
		t.Fatal(err)
	}
	want := errors.New("release failed")
	if err := g.Close(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("close returned %v, want %v", err, want)
	}
}
